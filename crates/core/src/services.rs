//! Who serves what.

use std::collections::VecDeque;

use gsb_proto::{PrefixMap, Quoted, ServiceId};

use crate::connections::PerConnection;
use crate::ids::ConnId;
use crate::refusal::Refusal;
use crate::routes::Routes;

#[derive(Debug)]
struct Owned {
    owner: ConnId,
    /// Where it stands in what the owner holds.
    at: usize,
}

#[derive(Debug)]
pub(crate) struct Services {
    owners: PrefixMap<Owned>,
    own: PerConnection<Vec<ServiceId>>,
    /// What is still to be removed of connections that are gone. Nobody finds it any more.
    leaving: VecDeque<(ConnId, Vec<ServiceId>)>,
    routes: Routes,
    limit: usize,
    /// How many are held by those who are not gone.
    count: usize,
}

impl Services {
    /// `limit` is how many services one connection may register.
    pub(crate) fn new(limit: usize) -> Self {
        Services {
            owners: PrefixMap::new(),
            own: PerConnection::default(),
            leaving: VecDeque::new(),
            routes: Routes::default(),
            limit,
            count: 0,
        }
    }

    /// `is_live` says which connections are not gone.
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
        self.routes.forget();
        let owned = Owned { owner, at: own.len() };
        own.push(id.clone());
        self.count += 1;
        match self.owners.get_mut(id.as_str()) {
            // Of one that is gone, which was not yet come to.
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
        self.routes.forget();
        self.count -= 1;
        let own = self.own.entry(owner);
        own.swap_remove(at);
        if let Some(moved) = own.get(at).and_then(|id| self.owners.get_mut(id.as_str())) {
            moved.at = at;
        }
        true
    }

    /// Who serves an address. `is_live` says which connections are not gone.
    pub(crate) fn find(
        &mut self,
        address: &str,
        is_live: impl Fn(ConnId) -> bool,
    ) -> Option<ConnId> {
        if let Some(known) = self.routes.find(address) {
            return Some(known);
        }
        let found = self.owners.lookup_where(address, |owned| is_live(owned.owner))?.owner;
        self.routes.note(address, found);
        Some(found)
    }

    /// All that the connection holds is free from now on, but removed by [`Services::sweep`].
    pub(crate) fn remove_connection(&mut self, connection: ConnId) {
        let own = self.own.take(connection);
        self.count -= own.len();
        if !own.is_empty() {
            self.routes.forget();
            self.leaving.push_back((connection, own));
        }
    }

    /// Removes so many services of connections that are gone. Returns how many more it might have.
    pub(crate) fn sweep(&mut self, mut budget: usize) -> usize {
        while budget > 0
            && let Some((owner, own)) = self.leaving.front_mut()
        {
            match own.pop() {
                Some(id) => {
                    if self.owners.get(id.as_str()).is_some_and(|owned| owned.owner == *owner) {
                        self.owners.remove(id.as_str());
                    }
                    budget -= 1;
                }
                None => drop(self.leaving.pop_front()),
            }
        }
        budget
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}
