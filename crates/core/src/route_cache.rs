//! A cache of routes: the services that recent addresses led to.

use crate::groups::GroupKey;
use crate::ids::ConnId;

/// Where an address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the single owner of a name, which takes any number of calls.
    Owner(ConnId),
    /// To an owner that is chosen for each call.
    Group(GroupKey),
}

/// The number of routes that are cached.
const ROUTES: usize = 256;

/// The longest address that is cached, in bytes. It limits the memory that a peer can make the cache use.
const LONGEST: usize = 256;

/// The routes of recent addresses. Most calls go to an address that was called before; comparing it with the cached one takes a
/// tenth of the time of looking up each of its prefixes.
#[derive(Debug)]
pub(crate) struct RouteCache {
    routes: Box<[Cached]>,
    /// Routes of other generations are invalid.
    generation: u64,
}

#[derive(Debug, Clone, Default)]
struct Cached {
    generation: u64,
    address: String,
    to: Option<Route>,
}

impl Default for RouteCache {
    fn default() -> Self {
        RouteCache { routes: vec![Cached::default(); ROUTES].into(), generation: 1 }
    }
}

impl RouteCache {
    /// Removes all routes: a name was registered or unregistered, or its owner is gone.
    pub(crate) fn clear(&mut self) {
        self.generation += 1;
    }

    /// The cached route of an address.
    pub(crate) fn find(&self, address: &str) -> Option<Route> {
        let route = &self.routes[place(address)];
        let is_valid = route.generation == self.generation && route.address == address;
        route.to.filter(|_| is_valid)
    }

    /// Caches the route of an address.
    pub(crate) fn insert(&mut self, address: &str, to: Route) {
        if address.len() > LONGEST {
            return;
        }
        let route = &mut self.routes[place(address)];
        route.generation = self.generation;
        route.address.clear();
        route.address.push_str(address);
        route.to = Some(to);
    }
}

/// Addresses differ most at their ends.
fn place(address: &str) -> usize {
    let bytes = address.as_bytes();
    let end = match bytes.last_chunk() {
        Some(end) => u64::from_be_bytes(*end),
        None => bytes.iter().fold(0, |end, &byte| end << 8 | u64::from(byte)),
    };
    let mixed = (end ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // All of it has come to the highest bits.
    (mixed >> 56) as usize % ROUTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::{Connections, Identity};

    #[test]
    fn routes_are_dropped_when_a_name_is_added_or_removed() {
        let mut connections = Connections::default();
        let [first, second] = [0; 2].map(|_| Route::Owner(connections.add(Identity::Unknown)));
        let mut routes = RouteCache::default();
        assert_eq!(routes.find("/a/b"), None);
        routes.insert("/a/b", first);
        assert_eq!(routes.find("/a/b"), Some(first));
        assert_eq!(routes.find("/a/c"), None);
        routes.clear();
        assert_eq!(routes.find("/a/b"), None);
        routes.insert("/a/b", second);
        assert_eq!(routes.find("/a/b"), Some(second));
    }

    #[test]
    fn addresses_that_share_a_place_are_not_taken_for_each_other() {
        let mut connections = Connections::default();
        let owners: Vec<_> =
            (0..1000).map(|_| Route::Owner(connections.add(Identity::Unknown))).collect();
        let mut routes = RouteCache::default();
        for (number, &owner) in owners.iter().enumerate() {
            routes.insert(&format!("/service/{number}"), owner);
        }
        let found = |number: usize| routes.find(&format!("/service/{number}"));
        let known = (0..1000).filter(|&number| found(number).is_some()).count();
        assert!((100..=ROUTES).contains(&known), "{known} of 1000 are known");
        for (number, &owner) in owners.iter().enumerate() {
            assert!(found(number).is_none_or(|to| to == owner), "/service/{number}");
        }
    }

    #[test]
    fn a_long_address_is_not_kept() {
        let mut connections = Connections::default();
        let to = Route::Owner(connections.add(Identity::Unknown));
        let mut routes = RouteCache::default();
        let long = "/x".repeat(LONGEST);
        routes.insert(&long, to);
        assert_eq!(routes.find(&long), None);
    }
}
