//! A hash table that grows and shrinks incrementally.

use std::iter::{Chain, Flatten};
use std::option;

use hashbrown::hash_table::{self, HashTable};

/// How many buckets of the old table each operation moves.
const BUCKETS_PER_STEP: usize = 16;

/// Smallest capacity of a table with values.
const MIN_CAPACITY: usize = 3;

/// A table shrinks only if it has more buckets than this, so that bursts of insertions do not resize it each time.
const SMALL: usize = 512;

/// A hash table that never moves all its values at once.
///
/// An ordinary hash table moves all its values when it grows, which takes tenths of a second for millions of values.
/// This one allocates a new table and keeps the old one, and each later insertion or removal moves the values of a few
/// buckets. Until the old table is empty, look-ups search both.
///
/// As with [`HashTable`], the caller computes hashes and compares values. All bits of a hash must be well distributed.
#[derive(Debug, Clone)]
pub struct IncrementalTable<T> {
    table: HashTable<T>,
    old: Option<Box<Old<T>>>,
}

/// The table from which values are moved.
#[derive(Debug, Clone)]
struct Old<T> {
    table: HashTable<T>,
    /// Buckets from this one on are empty.
    buckets_left: usize,
}

impl<T> Default for IncrementalTable<T> {
    fn default() -> Self {
        IncrementalTable { table: HashTable::new(), old: None }
    }
}

impl<T> IncrementalTable<T> {
    /// Number of values.
    #[inline]
    pub fn len(&self) -> usize {
        self.table.len() + self.old.as_ref().map_or(0, |old| old.table.len())
    }

    /// Whether the table is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Allocated memory, in bytes.
    pub fn allocation_size(&self) -> usize {
        self.table.allocation_size()
            + self.old.as_ref().map_or(0, |old| old.table.allocation_size())
    }

    /// The value with this hash for which `matches` is true.
    #[inline]
    pub fn find(&self, hash: u64, mut matches: impl FnMut(&T) -> bool) -> Option<&T> {
        match self.table.find(hash, &mut matches) {
            None => self.old.as_ref()?.table.find(hash, matches),
            found => found,
        }
    }

    /// The mutable value with this hash for which `matches` is true. A change must not change its hash.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, mut matches: impl FnMut(&T) -> bool) -> Option<&mut T> {
        match self.table.find_mut(hash, &mut matches) {
            None => self.old.as_mut()?.table.find_mut(hash, matches),
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

    /// Adds a value that the table does not have. `hasher` computes the hash of any value.
    #[inline]
    pub fn insert_unique(&mut self, hash: u64, value: T, hasher: impl Fn(&T) -> u64) {
        // `capacity` also falls when removed values leave tombstones.
        if self.table.len() == self.table.capacity() {
            self.resize(&hasher);
        }
        // The table has room, so it does not call `hasher`.
        self.table.insert_unique(hash, value, &hasher);
        if self.old.is_some() {
            self.step(&hasher);
        }
    }

    /// Removes the value with this hash for which `matches` is true. `hasher` computes the hash of any value.
    #[inline]
    pub fn remove(
        &mut self,
        hash: u64,
        mut matches: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Option<T> {
        let removed = match self.table.find_entry(hash, &mut matches) {
            Ok(entry) => entry.remove().0,
            Err(_) => self.remove_from_old(hash, matches)?,
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
    fn remove_from_old(&mut self, hash: u64, matches: impl FnMut(&T) -> bool) -> Option<T> {
        let entry = self.old.as_mut()?.table.find_entry(hash, matches).ok()?;
        Some(entry.remove().0)
    }

    /// Replaces the table by an empty one with room for twice as many values as there are.
    #[cold]
    fn resize(&mut self, hasher: &impl Fn(&T) -> u64) {
        // Never the case: between two resizes there are enough operations to empty the old table.
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

    /// Moves the values of the next buckets of the old table.
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

/// An iterator over the values of a table that is consumed.
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
