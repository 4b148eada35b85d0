//! A hash table that grows and shrinks in small steps.

use std::iter::{Chain, Flatten};
use std::option;

use hashbrown::hash_table::{self, HashTable};

/// So many buckets of the old table are looked at by each operation, until it is empty.
const BUCKETS_PER_STEP: usize = 16;

/// The least capacity of a table that anything is in.
const MIN_CAPACITY: usize = 3;

/// A table of so many buckets is not made smaller: values that come and go in bursts should find room.
const SMALL: usize = 512;

/// A hash table that never moves all its values at once.
///
/// A usual hash table moves each of its values when it grows, which takes tenths of a second where they are
/// millions. This one makes a new table and leaves the old one as it is; from then on each insertion and removal
/// moves what is in a few buckets. A value is in one of the two until the old table is empty, and is looked for in
/// both.
///
/// It is used as a [`HashTable`]: the caller hashes, and compares. A hash must be well spread in all its bits.
#[derive(Debug, Clone)]
pub struct IncrementalTable<T> {
    table: HashTable<T>,
    old: Option<Box<Old<T>>>,
}

/// The table from which values are moved, and how many of its buckets have not been looked at.
#[derive(Debug, Clone)]
struct Old<T> {
    table: HashTable<T>,
    buckets_left: usize,
}

impl<T> Default for IncrementalTable<T> {
    fn default() -> Self {
        IncrementalTable { table: HashTable::new(), old: None }
    }
}

impl<T> IncrementalTable<T> {
    /// How many values there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.table.len() + self.old.as_ref().map_or(0, |old| old.table.len())
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes it has allocated.
    pub fn allocation_size(&self) -> usize {
        self.table.allocation_size()
            + self.old.as_ref().map_or(0, |old| old.table.allocation_size())
    }

    /// The value with this hash that `is_it`.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        match self.table.find(hash, &mut is_it) {
            None => self.old.as_ref()?.table.find(hash, is_it),
            found => found,
        }
    }

    /// The value with this hash that `is_it`, to be changed; its hash must stay the same.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        match self.table.find_mut(hash, &mut is_it) {
            None => self.old.as_mut()?.table.find_mut(hash, is_it),
            found => found,
        }
    }

    /// All values that may have this hash.
    #[inline]
    pub fn iter_hash(&self, hash: u64) -> impl Iterator<Item = &T> {
        let old = self.old.iter().flat_map(move |old| old.table.iter_hash(hash));
        self.table.iter_hash(hash).chain(old)
    }

    /// All values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.table.iter().chain(self.old.iter().flat_map(|old| &old.table))
    }

    /// Adds a value that is not there yet. `hasher` tells the hash of any value.
    #[inline]
    pub fn insert_unique(&mut self, hash: u64, value: T, hasher: impl Fn(&T) -> u64) {
        // Full, or without a bucket that no value has been in since it was made.
        if self.table.len() == self.table.capacity() {
            self.resize(&hasher);
        }
        // It has room and does not ask for other hashes.
        self.table.insert_unique(hash, value, &hasher);
        if self.old.is_some() {
            self.step(&hasher);
        }
    }

    /// Removes the value with this hash that `is_it`. `hasher` tells the hash of any value.
    #[inline]
    pub fn remove(
        &mut self,
        hash: u64,
        mut is_it: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Option<T> {
        let removed = match self.table.find_entry(hash, &mut is_it) {
            Ok(entry) => entry.remove().0,
            Err(_) => self.remove_from_old(hash, is_it)?,
        };
        if self.old.is_some() {
            self.step(&hasher);
        } else {
            let buckets = self.table.num_buckets();
            if buckets > SMALL && buckets / 16 > self.table.len() {
                self.resize(&hasher);
            }
        }
        Some(removed)
    }

    #[cold]
    fn remove_from_old(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let entry = self.old.as_mut()?.table.find_entry(hash, is_it).ok()?;
        Some(entry.remove().0)
    }

    /// Goes on with a table that has room for twice as many values as there are.
    #[cold]
    fn resize(&mut self, hasher: &impl Fn(&T) -> u64) {
        // Not so: as many operations come between two changes of size as it takes to empty the old table.
        while self.old.is_some() {
            self.step(hasher);
        }
        let capacity = (self.table.len() * 2).max(MIN_CAPACITY);
        let table = std::mem::replace(&mut self.table, HashTable::with_capacity(capacity));
        if !table.is_empty() {
            let buckets_left = table.num_buckets();
            self.old = Some(Box::new(Old { table, buckets_left }));
        }
    }

    /// Moves what is in the next buckets of the old table.
    #[cold]
    fn step(&mut self, hasher: &impl Fn(&T) -> u64) {
        let Some(old) = &mut self.old else {
            return;
        };
        for _ in 0..BUCKETS_PER_STEP {
            let Some(bucket) = old.buckets_left.checked_sub(1).filter(|_| !old.table.is_empty())
            else {
                self.old = None;
                return;
            };
            old.buckets_left = bucket;
            if let Ok(entry) = old.table.get_bucket_entry(bucket) {
                let (value, _) = entry.remove();
                self.table.insert_unique(hasher(&value), value, hasher);
            }
        }
    }
}

/// All values of a table, taken out of it.
pub type IntoIter<T> = Chain<hash_table::IntoIter<T>, Flatten<option::IntoIter<HashTable<T>>>>;

impl<T> IntoIterator for IncrementalTable<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        let old = self.old.map(|old| old.table);
        self.table.into_iter().chain(old.into_iter().flatten())
    }
}

#[cfg(test)]
#[path = "incremental_table_tests.rs"]
mod tests;
