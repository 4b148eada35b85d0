//! Request ids at one end of calls.

use std::hash::{BuildHasher as _, RandomState};

use gsb_proto::incremental_table::{IncrementalTable, IntoIter};
use siphasher::sip::SipHasher13;

/// A hash of a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdHash(u32);

impl IdHash {
    /// A table looks at the highest bits and at the lowest.
    fn whole(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

/// A request id, hashed once for all the places where it is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashedId<'a> {
    pub(crate) text: &'a str,
    pub(crate) hash: IdHash,
}

/// Hashes request ids. Others choose them, and know nothing of its keys.
#[derive(Debug)]
pub(crate) struct IdHasher(SipHasher13);

impl IdHasher {
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        IdHasher(SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1)))
    }

    pub(crate) fn hash<'a>(&self, text: &'a str) -> HashedId<'a> {
        HashedId { text, hash: IdHash(self.0.hash(text.as_bytes()) as u32) }
    }
}

/// The calls that one connection knows, to be found by their request ids. The ids themselves are not here: who
/// asks knows them by the slots of the calls.
#[derive(Debug, Default)]
pub(crate) struct CallIds {
    table: IncrementalTable<Entry>,
}

/// With its hash, since a table that grows asks for that of each of its entries: to find it in the call would be a
/// look into memory that is far away.
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

    /// Adds a call whose id no other has.
    pub(crate) fn insert(&mut self, hash: IdHash, slot: usize) {
        let entry = Entry { hash, slot: slot as u32 };
        self.table.insert_unique(hash.whole(), entry, |entry| entry.hash.whole());
    }

    /// Whether the call in this slot is among them.
    pub(crate) fn contains(&self, hash: IdHash, slot: usize) -> bool {
        self.find(hash, |found| found == slot).is_some()
    }

    /// Removes a call; whether it was among them.
    pub(crate) fn remove(&mut self, hash: IdHash, slot: usize) -> bool {
        let is_it = |entry: &Entry| entry.slot as usize == slot;
        self.table.remove(hash.whole(), is_it, |entry| entry.hash.whole()).is_some()
    }

    pub(crate) fn into_slots(self) -> Slots {
        Slots(self.table.into_iter())
    }
}

/// The slots of calls, one after the other.
#[derive(Debug)]
pub(crate) struct Slots(IntoIter<Entry>);

impl Iterator for Slots {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.0.next().map(|entry| entry.slot as usize)
    }
}
