//! Which live connection introduced itself with which instance id.

use std::collections::BTreeMap;

use crate::affinity::Seed;
use crate::connections::PerConnection;
use crate::ids::ConnId;

#[derive(Debug, Default)]
pub(crate) struct Instances {
    /// Ordered, since it may be large and a hash table that grows moves all that is in it.
    holders: BTreeMap<Box<[u8]>, ConnId>,
    own: PerConnection<Option<Box<[u8]>>>,
}

impl Instances {
    pub(crate) fn holder(&self, instance_id: &[u8]) -> Option<ConnId> {
        self.holders.get(instance_id).copied()
    }

    /// Sets the instance id of a connection that has none yet. An empty id is ignored.
    pub(crate) fn set(&mut self, connection: ConnId, instance_id: &[u8]) {
        if !instance_id.is_empty() {
            self.holders.insert(instance_id.into(), connection);
            *self.own.entry(connection) = Some(instance_id.into());
        }
    }

    /// What the connection's share of calls with an affinity is computed from.
    pub(crate) fn seed(&self, connection: ConnId) -> Seed {
        match self.own.get(connection) {
            Some(Some(instance_id)) => Seed::of_instance(instance_id),
            _ => Seed::of_connection(connection),
        }
    }

    pub(crate) fn remove_connection(&mut self, connection: ConnId) {
        if let Some(instance_id) = self.own.take(connection) {
            self.holders.remove(&instance_id);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.holders.len()
    }
}
