//! Where calls went lately.

use crate::ids::ConnId;

/// How many addresses are remembered, at most: those of the most callers and services there usually are.
const ROUTES: usize = 256;

/// A longer address is not remembered, in bytes: nobody is to make the router keep much.
const LONGEST: usize = 256;

/// What addresses have led to, as long as no name has come or gone since. Most calls go where others went
/// before them; to compare an address with one that is known takes a tenth of the time that it takes to look
/// at each of its prefixes.
#[derive(Debug)]
pub(crate) struct Routes {
    routes: Box<[Route]>,
    /// Routes of another are not valid any more.
    generation: u64,
}

#[derive(Debug, Clone, Default)]
struct Route {
    generation: u64,
    address: String,
    to: Option<ConnId>,
}

impl Default for Routes {
    fn default() -> Self {
        Routes { routes: vec![Route::default(); ROUTES].into(), generation: 1 }
    }
}

impl Routes {
    /// A name has come or gone, or somebody who had one.
    pub(crate) fn forget(&mut self) {
        self.generation += 1;
    }

    /// Where an address leads, if that is known.
    pub(crate) fn find(&self, address: &str) -> Option<ConnId> {
        let route = &self.routes[place(address)];
        let is_it = route.generation == self.generation && route.address == address;
        route.to.filter(|_| is_it)
    }

    /// Notes where an address leads now.
    pub(crate) fn note(&mut self, address: &str, to: ConnId) {
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
    fn what_is_known_is_forgotten_when_a_name_comes_or_goes() {
        let mut connections = Connections::default();
        let [first, second] = [0; 2].map(|_| connections.add(Identity::Unknown));
        let mut routes = Routes::default();
        assert_eq!(routes.find("/a/b"), None);
        routes.note("/a/b", first);
        assert_eq!(routes.find("/a/b"), Some(first));
        assert_eq!(routes.find("/a/c"), None);
        routes.forget();
        assert_eq!(routes.find("/a/b"), None);
        routes.note("/a/b", second);
        assert_eq!(routes.find("/a/b"), Some(second));
    }

    #[test]
    fn addresses_that_share_a_place_are_not_taken_for_each_other() {
        let mut connections = Connections::default();
        let owners: Vec<_> = (0..1000).map(|_| connections.add(Identity::Unknown)).collect();
        let mut routes = Routes::default();
        for (number, &owner) in owners.iter().enumerate() {
            routes.note(&format!("/service/{number}"), owner);
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
        let to = connections.add(Identity::Unknown);
        let mut routes = Routes::default();
        let long = "/x".repeat(LONGEST);
        routes.note(&long, to);
        assert_eq!(routes.find(&long), None);
    }
}
