//! A map that finds the longest service id with which an address begins.

use std::hash::{BuildHasher, Hasher, RandomState};

use hashbrown::hash_table::{self, HashTable};

use super::check::MAX_NAME;
use super::service_id::ServiceId;

/// A map from service ids to values, for looking up the service of an address: the longest id that equals the address
/// or that a `/` follows in it.
///
/// A look-up takes time in proportion to the address's length (its first 1024 bytes at most), however many ids there
/// are: it hashes the address once, from left to right, and probes the map at each `/`.
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
    /// Many small tables instead of a large one, by the hash of the id: a table that grows moves all its entries.
    tables: Box<[HashTable<Entry<V>>; TABLES]>,
    hasher: RandomState,
    len: usize,
}

#[derive(Debug, Clone)]
struct Entry<V> {
    /// The id's hash. It is stored, so that a table that grows need not read the ids, which are scattered in memory.
    hash: u64,
    id: ServiceId,
    value: V,
}

/// Number of tables. With a million ids, each moves some ten thousand entries when it grows.
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

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an id and its value.
    ///
    /// # Errors
    /// Returns the value if the map has the id already; the map is unchanged.
    pub fn insert(&mut self, id: ServiceId, value: V) -> Result<(), V> {
        let hash = hash(&self.hasher, id.as_str());
        match self.tables[table(hash)].entry(hash, |entry| entry.id == id, |entry| entry.hash) {
            hash_table::Entry::Occupied(_) => Err(value),
            hash_table::Entry::Vacant(vacant) => {
                vacant.insert(Entry { hash, id, value });
                self.len += 1;
                Ok(())
            }
        }
    }

    /// Removes an id and returns its value.
    pub fn remove(&mut self, id: &str) -> Option<V> {
        let hash = hash(&self.hasher, id);
        let table = &mut self.tables[table(hash)];
        let found = table.find_entry(hash, |entry| entry.id.as_str() == id).ok()?;
        let (Entry { value, .. }, _) = found.remove();
        self.len -= 1;
        // Frees memory when most entries are gone.
        if table.capacity() > 64 && table.len() < table.capacity() / 8 {
            table.shrink_to(table.len() * 2, |entry| entry.hash);
        }
        Some(value)
    }

    /// The value of exactly this id.
    pub fn get(&self, id: &str) -> Option<&V> {
        self.find(hash(&self.hasher, id), id)
    }

    /// The mutable value of exactly this id.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut V> {
        let hash = hash(&self.hasher, id);
        let found = self.tables[table(hash)].find_mut(hash, |entry| entry.id.as_str() == id);
        found.map(|entry| &mut entry.value)
    }

    /// The value of the longest id that equals `address` or is a prefix of it before a `/`, as `foo` is of `foo/bar`.
    pub fn lookup(&self, address: &str) -> Option<&V> {
        self.lookup_where(address, |_| true)
    }

    /// [`lookup`](PrefixMap::lookup) that ignores ids whose values `accept` refuses.
    pub fn lookup_where(&self, address: &str, accept: impl Fn(&V) -> bool) -> Option<&V> {
        let mut found = None;
        for_each_prefix(&self.hasher, address, |prefix, hash| {
            if let Some(value) = self.find(hash, prefix).filter(|value| accept(value)) {
                found = Some(value);
            }
        });
        found
    }

    /// All ids and their values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceId, &V)> {
        self.tables.iter().flatten().map(|entry| (&entry.id, &entry.value))
    }

    fn find(&self, hash: u64, id: &str) -> Option<&V> {
        self.tables[table(hash)]
            .find(hash, |entry| entry.id.as_str() == id)
            .map(|entry| &entry.value)
    }
}

/// The index of the table for a hash. It uses bits from the middle, since a table uses the highest and lowest ones.
fn table(hash: u64) -> usize {
    (hash >> 40) as usize % TABLES
}

/// Calls `visit` with each prefix of `address` that may be a service id, and its hash. The shortest comes first.
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

/// The hash of `id`, as [`for_each_prefix`] computes it.
fn hash(state: &RandomState, id: &str) -> u64 {
    let mut last = 0;
    for_each_prefix(state, id, |_, hash| last = hash);
    last
}

#[cfg(test)]
#[path = "prefix_map_tests.rs"]
mod tests;
