use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use super::*;

/// A table of numbers that counts calls of the hash function: one for each moved value.
#[derive(Default)]
struct Numbers {
    table: IncrementalTable<u32>,
    state: RandomState,
    moved: Cell<usize>,
}

impl Numbers {
    fn hash(&self, number: u32) -> u64 {
        self.state.hash_one(number)
    }

    fn contains(&self, number: u32) -> bool {
        self.table.find(self.hash(number), |&other| other == number).is_some()
    }

    /// Inserts a number. Returns how many values were moved.
    fn insert(&mut self, number: u32) -> usize {
        let hash = self.hash(number);
        let Numbers { table, state, moved } = self;
        table.insert_unique(hash, number, |other| {
            moved.set(moved.get() + 1);
            state.hash_one(other)
        });
        moved.take()
    }

    /// Removes a number. Returns whether the table had it, and how many values were moved.
    fn remove(&mut self, number: u32) -> (bool, usize) {
        let hash = self.hash(number);
        let Numbers { table, state, moved } = self;
        let matches = |other: &u32| *other == number;
        let hasher = |other: &u32| {
            moved.set(moved.get() + 1);
            state.hash_one(other)
        };
        let removed = table.remove(hash, matches, hasher);
        (removed.is_some(), moved.take())
    }
}

const COUNT: u32 = 100_000;

#[test]
fn no_operation_moves_more_than_a_few_values() {
    let mut numbers = Numbers::default();
    for number in 0..COUNT {
        let moved = numbers.insert(number);
        assert!(moved <= BUCKETS_PER_STEP, "insertion {number} moved {moved}");
    }
    for number in 0..COUNT {
        let (was_there, moved) = numbers.remove(number);
        assert!(was_there && moved <= BUCKETS_PER_STEP, "removal {number} moved {moved}");
    }
    assert!(numbers.table.allocation_size() < 4096, "{} bytes", numbers.table.allocation_size());
}

// Removed values leave tombstones, which fill a table as values do.
#[test]
fn neither_does_one_where_values_come_and_go() {
    let mut numbers = Numbers::default();
    for width in [7, 100, 1_000, 14_000, 28_000] {
        for number in 0..width {
            numbers.insert(number);
        }
        for number in 0..COUNT {
            let moved = numbers.remove(number).1.max(numbers.insert(number + width));
            assert!(moved <= BUCKETS_PER_STEP, "{width} values: {moved} were moved");
        }
        let bytes = numbers.table.allocation_size();
        assert!(bytes < 1024 + 64 * width as usize, "{width} values take {bytes} bytes");
        for number in COUNT..COUNT + width {
            assert!(numbers.remove(number).0);
        }
        assert!(numbers.table.is_empty());
    }
}

#[test]
fn it_holds_what_a_set_holds() {
    let mut numbers = Numbers::default();
    let mut set = HashSet::new();
    let state = RandomState::new();
    for step in 0..COUNT {
        let random = state.hash_one(step);
        // Alternately insert and remove many values, so that the table grows and shrinks.
        let is_rising = step / 20_000 % 2 == 0;
        let number = (random >> 32) as u32 % 30_000;
        if (random % 8 == 0) != is_rising {
            if set.insert(number) {
                numbers.insert(number);
            }
        } else {
            assert_eq!(numbers.remove(number).0, set.remove(&number));
        }
        let other = random as u32 % 30_000;
        assert_eq!(numbers.contains(other), set.contains(&other));
        assert_eq!(numbers.table.len(), set.len());
        if step % 5_000 == 0 {
            let all: HashSet<u32> = numbers.table.iter().copied().collect();
            assert_eq!(all, set);
            assert_eq!(numbers.table.iter().count(), set.len());
        }
    }
    let hash = numbers.hash(*set.iter().next().unwrap());
    assert!(numbers.table.iter_hash(hash).count() >= 1);
    assert_eq!(numbers.table.into_iter().collect::<HashSet<u32>>(), set);
}
