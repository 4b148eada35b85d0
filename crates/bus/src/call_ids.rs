//! Request ids at one end of calls.

use hashbrown::hash_table::{self, HashTable};

/// Room for more calls than this is not kept while there are none.
const KEPT: usize = 256;

/// A hash of a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdHash(u32);

impl IdHash {
    pub(crate) fn new(hash: u64) -> Self {
        IdHash(hash as u32)
    }

    /// A table looks at the highest bits and at the lowest.
    fn whole(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

/// The calls that one connection knows, to be found by their request ids. The ids themselves are not here: who
/// asks knows them by the slots of the calls.
#[derive(Debug, Default)]
pub(crate) struct CallIds {
    table: HashTable<Entry>,
}

/// With its hash, since a table that grows asks for that of each of its entries: to find them in the calls,
/// which lie all over the memory, would take long if they are many.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: IdHash,
    slot: u32,
}

impl CallIds {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The slot of the call whose id has this hash, and is the right one.
    pub(crate) fn find(
        &self,
        hash: IdHash,
        mut is_right: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let is_it = |entry: &Entry| entry.hash == hash && is_right(entry.slot as usize);
        self.table.find(hash.whole(), is_it).map(|entry| entry.slot as usize)
    }

    /// Whether the call in this slot is among them.
    pub(crate) fn contains(&self, hash: IdHash, slot: usize) -> bool {
        self.find(hash, |found| found == slot).is_some()
    }

    /// Adds a call whose id no other has.
    pub(crate) fn insert(&mut self, hash: IdHash, slot: usize) {
        let entry = Entry { hash, slot: slot as u32 };
        self.table.insert_unique(hash.whole(), entry, |entry| entry.hash.whole());
    }

    /// Removes a call, if it is among them.
    pub(crate) fn remove(&mut self, hash: IdHash, slot: usize) {
        if let Ok(found) = self.table.find_entry(hash.whole(), |entry| entry.slot as usize == slot)
        {
            found.remove();
        }
        if self.table.is_empty() && self.table.capacity() > KEPT {
            self.table = HashTable::new();
        }
    }

    pub(crate) fn into_slots(self) -> Slots {
        Slots(self.table.into_iter())
    }
}

/// The slots of calls, one after the other.
#[derive(Debug)]
pub(crate) struct Slots(hash_table::IntoIter<Entry>);

impl Iterator for Slots {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.0.next().map(|entry| entry.slot as usize)
    }
}
