//! Who serves what.

use std::collections::HashSet;

use gsb_proto::{PrefixMap, ServiceId};

use crate::connections::{ConnId, PerConnection};
use crate::refusal::Refusal;

#[derive(Debug)]
pub(crate) struct Services {
    owners: PrefixMap<ConnId>,
    own: PerConnection<HashSet<ServiceId>>,
    limit: usize,
}

impl Services {
    /// `limit` is how many services one connection may register.
    pub(crate) fn new(limit: usize) -> Self {
        Services { owners: PrefixMap::new(), own: PerConnection::default(), limit }
    }

    pub(crate) fn register(&mut self, owner: ConnId, id: &str) -> Result<(), Refusal> {
        let id = ServiceId::new(id)?;
        if let Some(holder) = self.owners.get(id.as_str()) {
            return Err(Refusal::ServiceTaken { own: *holder == owner, id });
        }
        let own = self.own.entry(owner);
        if own.len() >= self.limit {
            return Err(Refusal::TooManyServices { limit: self.limit });
        }
        own.insert(id.clone());
        // It was not there a moment ago.
        let _ = self.owners.insert(id, owner);
        Ok(())
    }

    /// `false` if `owner` does not hold `id`.
    pub(crate) fn unregister(&mut self, owner: ConnId, id: &str) -> bool {
        let held = self.own.entry(owner).remove(id);
        if held {
            self.owners.remove(id);
        }
        held
    }

    /// Who serves an address.
    pub(crate) fn find(&self, address: &str) -> Option<ConnId> {
        self.owners.lookup(address).copied()
    }

    pub(crate) fn remove_connection(&mut self, connection: ConnId) {
        for id in self.own.take(connection) {
            self.owners.remove(id.as_str());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }
}
