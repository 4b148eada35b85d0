//! From service id to value, found by the longest prefix of an address.

use std::hash::{BuildHasher, Hasher, RandomState};

use hashbrown::hash_table::{Entry, HashTable};

use crate::name::{MAX_NAME, ServiceId};

/// A map from service ids in which an address finds the longest id that equals it or is followed in
/// it by `/`.
///
/// A look-up hashes the address once, from left to right, and probes at each `/`: it takes time in
/// proportion to the address's first 1024 bytes, however many ids there are.
///
/// ```
/// use gsb_proto::{PrefixMap, ServiceId};
///
/// let mut map = PrefixMap::new();
/// map.insert(ServiceId::new("/shop")?, 1).ok();
/// map.insert(ServiceId::new("/shop/cart")?, 2).ok();
/// assert_eq!(map.lookup("/shop/cart/add"), Some(&2));
/// assert_eq!(map.lookup("/shop/list"), Some(&1));
/// assert_eq!(map.lookup("/shopping"), None);
/// # Ok::<_, gsb_proto::NameError>(())
/// ```
#[derive(Debug, Clone)]
pub struct PrefixMap<V> {
    /// Several, by the hash of the id, so that no growing table holds others up: it moves all it has.
    tables: Box<[HashTable<Slot<V>>; TABLES]>,
    hasher: RandomState,
    len: usize,
}

#[derive(Debug, Clone)]
struct Slot<V> {
    /// Of the id. Kept because a table that grows asks for that of each of its ids, which lie all over the
    /// memory.
    hash: u64,
    id: ServiceId,
    value: V,
}

/// With a million ids each table moves some ten thousand at a time.
const TABLES: usize = 64;

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        let tables = Box::new(std::array::from_fn(|_| HashTable::new()));
        PrefixMap { tables, hasher: RandomState::new(), len: 0 }
    }
}

impl<V> PrefixMap<V> {
    /// An empty map.
    pub fn new() -> Self {
        PrefixMap::default()
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an id.
    ///
    /// # Errors
    /// Gives the value back if the id is there already; the map is unchanged.
    pub fn insert(&mut self, id: ServiceId, value: V) -> Result<(), V> {
        let hash = hash(&self.hasher, id.as_str());
        match self.tables[table(hash)].entry(hash, |slot| slot.id == id, |slot| slot.hash) {
            Entry::Occupied(_) => Err(value),
            Entry::Vacant(vacant) => {
                vacant.insert(Slot { hash, id, value });
                self.len += 1;
                Ok(())
            }
        }
    }

    /// Removes an id and gives its value back.
    pub fn remove(&mut self, id: &str) -> Option<V> {
        let hash = hash(&self.hasher, id);
        let table = &mut self.tables[table(hash)];
        let entry = table.find_entry(hash, |slot| slot.id.as_str() == id).ok()?;
        let (Slot { value, .. }, _) = entry.remove();
        self.len -= 1;
        // A map that was large once should not stay so.
        if table.capacity() > 64 && table.len() < table.capacity() / 8 {
            table.shrink_to(table.len() * 2, |slot| slot.hash);
        }
        Some(value)
    }

    /// The value of exactly this id.
    pub fn get(&self, id: &str) -> Option<&V> {
        self.find(hash(&self.hasher, id), id)
    }

    /// The value of exactly this id, to be changed.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut V> {
        let hash = hash(&self.hasher, id);
        let found = self.tables[table(hash)].find_mut(hash, |slot| slot.id.as_str() == id);
        found.map(|slot| &mut slot.value)
    }

    /// The value of the longest id that equals `address` or is followed in it by `/`.
    pub fn lookup(&self, address: &str) -> Option<&V> {
        self.lookup_where(address, |_| true)
    }

    /// [`lookup`](PrefixMap::lookup) among the ids whose values `counts` accepts.
    pub fn lookup_where(&self, address: &str, counts: impl Fn(&V) -> bool) -> Option<&V> {
        let mut found = None;
        for_each_prefix(&self.hasher, address, |prefix, hash| {
            if let Some(value) = self.find(hash, prefix).filter(|value| counts(value)) {
                found = Some(value);
            }
        });
        found
    }

    /// All ids and their values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceId, &V)> {
        self.tables.iter().flatten().map(|slot| (&slot.id, &slot.value))
    }

    fn find(&self, hash: u64, id: &str) -> Option<&V> {
        self.tables[table(hash)].find(hash, |slot| slot.id.as_str() == id).map(|slot| &slot.value)
    }
}

/// Which table an id is in. A table itself looks at the highest and the lowest bits.
fn table(hash: u64) -> usize {
    (hash >> 40) as usize % TABLES
}

/// Calls `visit` with each prefix of `address` that could be an id, shortest first, and its hash.
fn for_each_prefix(state: &RandomState, address: &str, mut visit: impl FnMut(&str, u64)) {
    let mut hasher = state.build_hasher();
    let mut hashed = 0;
    let bytes = address.as_bytes();
    for end in 1..=bytes.len().min(MAX_NAME) {
        if end == bytes.len() || bytes[end] == b'/' {
            hasher.write(&bytes[hashed..end]);
            hashed = end;
            visit(&address[..end], hasher.clone().finish());
        }
    }
}

/// The hash that [`for_each_prefix`] computes for the whole of `id`.
fn hash(state: &RandomState, id: &str) -> u64 {
    let mut last = 0;
    for_each_prefix(state, id, |_, hash| last = hash);
    last
}

#[cfg(test)]
#[path = "prefix_map_tests.rs"]
mod tests;
