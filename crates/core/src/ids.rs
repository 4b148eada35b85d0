//! The names of connections and calls.

use std::fmt;

/// Names a connection of a [`Broker`](crate::Broker). No other connection of that broker has ever had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

impl ConnId {
    /// A small number that no other live connection has, for tables beside the broker.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.serial)
    }
}

/// Names a call. Another call may have it after 4,294,967,296 further ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallKey {
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

impl CallKey {
    /// It is kept small, because each queued call carries one.
    pub(crate) fn new(slot: usize, serial: u64) -> Self {
        CallKey { slot: slot as u32, serial: serial as u32 }
    }
}
