//! The open connections.

use std::fmt;
use std::net::IpAddr;

use gsb_proto::Framing;
use slab::Slab;

use crate::ids::ConnId;

/// The identity of a peer, as its socket proves it. Only the same peer may replace a connection (rule CO-4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The user behind a Unix socket.
    Uid(u32),
    /// The address behind a TCP socket.
    Ip(IpAddr),
    /// Not known. It is never the same peer as another.
    Unknown,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Uid(uid) => write!(f, "user id {uid}"),
            Identity::Ip(ip) => write!(f, "{ip}"),
            Identity::Unknown => f.write_str("an unknown peer"),
        }
    }
}

impl Identity {
    /// Whether both are the same peer.
    pub(crate) fn is_same_peer(&self, other: &Identity) -> bool {
        *self != Identity::Unknown && self == other
    }
}

/// What the broker remembers of a connection as such.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    pub(crate) identity: Identity,
    pub(crate) framing: Option<Framing>,
    pub(crate) hello_seen: bool,
    /// A frame other than Hello was received, so the level is fixed.
    pub(crate) has_begun: bool,
    /// The level of the extensions that it may use (rule CO-18).
    pub(crate) level: u32,
    /// Whether it does not want its own broadcasts.
    pub(crate) no_echo: bool,
    /// How many broadcasts to it were dropped since the last delivered one.
    pub(crate) missed: u64,
}

/// The live connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Slab<Connection>,
    serial: u32,
}

impl Connections {
    pub(crate) fn add(&mut self, identity: Identity) -> ConnId {
        self.serial = self.serial.wrapping_add(1);
        let entry = self.slots.vacant_entry();
        let id = ConnId { slot: entry.key() as u32, serial: self.serial };
        entry.insert(Connection {
            id,
            identity,
            framing: None,
            hello_seen: false,
            has_begun: false,
            level: 0,
            no_echo: false,
            missed: 0,
        });
        id
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&Connection> {
        self.slots.get(id.slot()).filter(|connection| connection.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot()).filter(|connection| connection.id == id)
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> bool {
        let live = self.get(id).is_some();
        if live {
            self.slots.remove(id.slot());
        }
        live
    }

    /// The connection in a slot.
    pub(crate) fn in_slot(&self, slot: usize) -> Option<ConnId> {
        self.slots.get(slot).map(|connection| connection.id)
    }

    /// All connections are in slots below this one.
    pub(crate) fn end(&self) -> usize {
        self.slots.capacity()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// Something that a registry keeps for each live connection.
#[derive(Debug)]
pub(crate) struct PerConnection<T> {
    slots: Vec<T>,
}

impl<T> Default for PerConnection<T> {
    fn default() -> Self {
        PerConnection { slots: Vec::new() }
    }
}

impl<T: Default> PerConnection<T> {
    pub(crate) fn get(&self, connection: ConnId) -> Option<&T> {
        self.slots.get(connection.slot())
    }

    /// The entry of a live connection; made on first use.
    pub(crate) fn entry(&mut self, connection: ConnId) -> &mut T {
        let slot = connection.slot();
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, T::default);
        }
        &mut self.slots[slot]
    }

    /// Takes the entry of a connection that goes, so that its slot is clean for the next.
    pub(crate) fn take(&mut self, connection: ConnId) -> T {
        self.slots.get_mut(connection.slot()).map(std::mem::take).unwrap_or_default()
    }
}
