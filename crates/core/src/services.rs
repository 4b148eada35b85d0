//! The registered services and their owners.

use std::cell::Cell;
use std::collections::VecDeque;

use gsb_proto::messages::RegisterMode;
use gsb_proto::{PrefixMap, Quoted, ServiceId};

use crate::connections::PerConnection;
use crate::groups::{GroupKey, Groups, MAX_OWNERS, Terms};
use crate::ids::ConnId;
use crate::refusal::Refusal;
use crate::route_cache::{Route, RouteCache};

/// To whom a name belongs.
#[derive(Debug)]
enum Holder {
    Owner {
        owner: ConnId,
        /// The position in the list of the owner.
        at: usize,
    },
    Group(GroupKey),
}

impl Holder {
    fn route(&self) -> Route {
        match *self {
            Holder::Owner { owner, .. } => Route::Owner(owner),
            Holder::Group(key) => Route::Group(key),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Services {
    names: PrefixMap<Holder>,
    pub(crate) groups: Groups,
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
            names: PrefixMap::new(),
            groups: Groups::default(),
            own: PerConnection::default(),
            closing: VecDeque::new(),
            routes: RouteCache::default(),
            limit,
            count: 0,
        }
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// `is_live` tells whether a connection is open.
    pub(crate) fn register(
        &mut self,
        owner: ConnId,
        id: &str,
        terms: Terms,
        is_live: impl Fn(ConnId) -> bool,
    ) -> Result<(), Refusal> {
        let id = ServiceId::new(id)?;
        let group = self.group_to_join(owner, &id, terms.mode, is_live)?;
        let own = self.own.entry(owner);
        if own.len() >= self.limit {
            return Err(Refusal::TooManyServices { limit: self.limit });
        }
        self.routes.clear();
        let at = own.len();
        own.push(id.clone());
        self.count += 1;
        let holder = match group {
            Some(key) => {
                self.groups.join(key, owner, at, terms);
                return Ok(());
            }
            None if terms.mode == RegisterMode::Exclusive && terms.capacity == 0 => {
                Holder::Owner { owner, at }
            }
            None => Holder::Group(self.groups.create(owner, at, terms)),
        };
        match self.names.get_mut(id.as_str()) {
            // All old owners have gone, and `sweep` has not removed the name yet.
            Some(old) => {
                if let Holder::Group(key) = std::mem::replace(old, holder) {
                    self.groups.remove(key);
                }
            }
            None => drop(self.names.insert(id, holder)),
        }
        Ok(())
    }

    /// The group of the owners of a name, if there are any and another one may join them.
    fn group_to_join(
        &self,
        owner: ConnId,
        id: &ServiceId,
        mode: RegisterMode,
        is_live: impl Fn(ConnId) -> bool,
    ) -> Result<Option<GroupKey>, Refusal> {
        let quoted = || Quoted::new(id.as_str());
        let (key, is_own, held) = match self.names.get(id.as_str()) {
            Some(&Holder::Owner { owner: holder, .. }) if is_live(holder) => {
                (None, holder == owner, RegisterMode::Exclusive)
            }
            Some(&Holder::Group(key)) if self.groups.is_live(key, is_live) => {
                let held = self.groups.mode(key).unwrap_or_default();
                (Some(key), self.groups.contains(key, owner), held)
            }
            _ => return Ok(None),
        };
        if is_own || (held, mode) == (RegisterMode::Exclusive, RegisterMode::Exclusive) {
            return Err(Refusal::ServiceTaken { own: is_own, id: quoted() });
        }
        if mode != held {
            return Err(Refusal::MixedModes { id: quoted(), held, asked: mode });
        }
        match key {
            Some(key) if self.groups.is_full(key) => {
                Err(Refusal::TooManyOwners { id: quoted(), limit: MAX_OWNERS })
            }
            key => Ok(key),
        }
    }

    /// `false` if `owner` does not hold `id`.
    pub(crate) fn unregister(&mut self, owner: ConnId, id: &str) -> bool {
        let Some(at) = self.remove(owner, id) else {
            return false;
        };
        self.routes.clear();
        self.count -= 1;
        let own = self.own.entry(owner);
        own.swap_remove(at);
        if let Some(moved) = own.get(at) {
            match self.names.get_mut(moved.as_str()) {
                Some(Holder::Owner { at: position, .. }) => *position = at,
                Some(&mut Holder::Group(key)) => self.groups.set_position(key, owner, at),
                None => {}
            }
        }
        true
    }

    /// Removes a name from its owner. Returns its position in the list of the owner; `None` if `owner` does not hold it.
    fn remove(&mut self, owner: ConnId, id: &str) -> Option<usize> {
        let (at, is_free) = match *self.names.get(id)? {
            Holder::Owner { owner: holder, at } => (holder == owner).then_some((at, true))?,
            Holder::Group(key) => self.groups.leave(key, owner)?,
        };
        if is_free {
            self.names.remove(id);
        }
        Some(at)
    }

    /// Where an address leads. `is_live` tells whether a connection is open.
    pub(crate) fn find(
        &mut self,
        address: &str,
        is_live: impl Fn(ConnId) -> bool,
    ) -> Option<Route> {
        if let Some(known) = self.routes.find(address) {
            return Some(known);
        }
        let steps = Cell::new(0);
        let is_live = |owner| {
            steps.update(|steps| steps + 1);
            is_live(owner)
        };
        let is_held = |holder: &Holder| match *holder {
            Holder::Owner { owner, .. } => is_live(owner),
            Holder::Group(key) => self.groups.is_live(key, is_live),
        };
        let found = self.names.lookup_where(address, is_held).map(Holder::route);
        self.groups.steps += steps.get();
        if let Some(route) = found {
            self.routes.insert(address, route);
        }
        found
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
            let owner = *owner;
            match own.pop() {
                Some(id) => {
                    self.remove(owner, id.as_str());
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

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
