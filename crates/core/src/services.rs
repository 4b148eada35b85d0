//! The registered services and their owners.

use std::collections::VecDeque;

use gsb_proto::{PrefixMap, Quoted, ServiceId};

use crate::connections::PerConnection;
use crate::ids::ConnId;
use crate::refusal::Refusal;
use crate::route_cache::RouteCache;

#[derive(Debug)]
struct Owned {
    owner: ConnId,
    /// The position in the list of the owner.
    at: usize,
}

#[derive(Debug)]
pub(crate) struct Services {
    owners: PrefixMap<Owned>,
    own: PerConnection<Vec<ServiceId>>,
    /// Entries of closed connections, which are still to be removed. Lookups do not find them.
    closing: VecDeque<(ConnId, Vec<ServiceId>)>,
    routes: RouteCache,
    limit: usize,
    /// The number of services of open connections.
    count: usize,
}

impl Services {
    /// `limit` is the number of services that one connection may register.
    pub(crate) fn new(limit: usize) -> Self {
        Services {
            owners: PrefixMap::new(),
            own: PerConnection::default(),
            closing: VecDeque::new(),
            routes: RouteCache::default(),
            limit,
            count: 0,
        }
    }

    /// `is_live` tells whether a connection is open.
    pub(crate) fn register(
        &mut self,
        owner: ConnId,
        id: &str,
        is_live: impl Fn(ConnId) -> bool,
    ) -> Result<(), Refusal> {
        let id = ServiceId::new(id)?;
        let holder = self.owners.get(id.as_str()).map(|owned| owned.owner);
        if let Some(holder) = holder.filter(|&holder| is_live(holder)) {
            let id = Quoted::new(id.as_str());
            return Err(Refusal::ServiceTaken { own: holder == owner, id });
        }
        let own = self.own.entry(owner);
        if own.len() >= self.limit {
            return Err(Refusal::TooManyServices { limit: self.limit });
        }
        self.routes.clear();
        let owned = Owned { owner, at: own.len() };
        own.push(id.clone());
        self.count += 1;
        match self.owners.get_mut(id.as_str()) {
            // The old owner has gone, and `sweep` has not removed the name yet.
            Some(old) => *old = owned,
            None => drop(self.owners.insert(id, owned)),
        }
        Ok(())
    }

    /// `false` if `owner` does not hold `id`.
    pub(crate) fn unregister(&mut self, owner: ConnId, id: &str) -> bool {
        if self.owners.get(id).is_none_or(|owned| owned.owner != owner) {
            return false;
        }
        let Some(Owned { at, .. }) = self.owners.remove(id) else {
            return false;
        };
        self.routes.clear();
        self.count -= 1;
        let own = self.own.entry(owner);
        own.swap_remove(at);
        if let Some(moved) = own.get(at).and_then(|id| self.owners.get_mut(id.as_str())) {
            moved.at = at;
        }
        true
    }

    /// The owner of the service that an address belongs to. `is_live` tells whether a connection is open.
    pub(crate) fn find(
        &mut self,
        address: &str,
        is_live: impl Fn(ConnId) -> bool,
    ) -> Option<ConnId> {
        if let Some(known) = self.routes.find(address) {
            return Some(known);
        }
        let found = self.owners.lookup_where(address, |owned| is_live(owned.owner))?.owner;
        self.routes.insert(address, found);
        Some(found)
    }

    /// Frees the services of a connection. [`Services::sweep`] removes their entries.
    pub(crate) fn remove_connection(&mut self, connection: ConnId) {
        let own = self.own.take(connection);
        self.count -= own.len();
        if !own.is_empty() {
            self.routes.clear();
            self.closing.push_back((connection, own));
        }
    }

    /// Removes at most `budget` services of closed connections. Returns the rest of the budget.
    pub(crate) fn sweep(&mut self, mut budget: usize) -> usize {
        while budget > 0
            && let Some((owner, own)) = self.closing.front_mut()
        {
            match own.pop() {
                Some(id) => {
                    if self.owners.get(id.as_str()).is_some_and(|owned| owned.owner == *owner) {
                        self.owners.remove(id.as_str());
                    }
                    budget -= 1;
                }
                None => drop(self.closing.pop_front()),
            }
        }
        budget
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}
