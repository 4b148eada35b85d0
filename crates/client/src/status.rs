//! How a bus stands with its router, for users to watch.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, LostReason};

/// How a bus stands with its router; see [`Bus::watch`](crate::Bus::watch).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The connection.
    pub connection: Connection,
    /// Whether the router has answered for every service and topic of this bus. `false` while it is not
    /// connected, or when it is and not all is restored yet.
    pub is_settled: bool,
    /// The names that the router has refused since it is connected, and is asked for again.
    pub refused: Refusals,
    pub(crate) is_serving: bool,
}

/// The connection to the router.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connection {
    /// The bus has no router.
    InProcess,
    /// It is being made.
    Connecting {
        /// How many attempts in a row have failed before.
        failures: u32,
    },
    /// It is there.
    Connected(RouterInfo),
    /// It was lost, or could not be made yet, and is tried again.
    Lost {
        /// Why.
        reason: LostReason,
        /// The pause before the next attempt. It is cut short when somebody waits for the router.
        retry_in: Duration,
    },
    /// It is gone for good.
    Closed(LostReason),
}

/// What a router says of itself in its Hello; nothing in the classic framing, which knows no Hello.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouterInfo {
    /// The program's name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Tells this run of the router from all others.
    pub instance_id: Bytes,
    /// Whether it leaves a client's own broadcasts out when asked to.
    pub(crate) heeds_no_echo: bool,
    /// The level of the extensions that both sides speak.
    pub(crate) level: u32,
    /// The largest frame that it accepts, in bytes, if it says so.
    pub(crate) max_frame: Option<usize>,
}

impl fmt::Debug for RouterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameKind {
    /// A service.
    Service,
    /// A topic that is subscribed to.
    Topic,
}

/// A name that the router refuses, and is asked for again after a while.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Refused {
    /// What it is.
    pub kind: NameKind,
    /// The service id or topic.
    pub name: String,
    /// What the router says.
    pub error: Error,
    /// How often it was refused in a row.
    pub refusals: u32,
    /// The pause before it is asked for again, counted from the last refusal.
    pub retry_in: Duration,
}

/// The names that the router refuses, in order. A copy shares its memory with the original until that changes, so that a
/// status costs the same however many names are refused.
#[derive(Clone, Default)]
pub struct Refusals {
    names: Arc<BTreeMap<(NameKind, String), Arc<Refused>>>,
}

impl Refusals {
    /// How many names are refused.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether none is refused.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names: services first, then topics, each in the order of their text.
    pub fn iter(&self) -> impl Iterator<Item = &Refused> {
        self.names.values().map(|refused| &**refused)
    }

    pub(crate) fn insert(&mut self, refused: Arc<Refused>) {
        let key = (refused.kind, refused.name.clone());
        Arc::make_mut(&mut self.names).insert(key, refused);
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, key: &(NameKind, String)) -> bool {
        self.names.contains_key(key) && Arc::make_mut(&mut self.names).remove(key).is_some()
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Whether the router knows a name.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Announcement {
    /// The name stays within this process.
    InProcess,
    /// The router will be asked as soon as there is a connection, or has not answered yet.
    Pending,
    /// The router has confirmed it.
    Confirmed,
    /// The router has refused it, and is asked again after a while.
    Refused(Error),
    /// The name was given back, or the bus has ended.
    Ended,
}

impl Status {
    /// Whether calls reach every service of this bus: the bus is connected, and the router has confirmed every name that
    /// is registered with it. Always true of a bus without a router, until it ends; services that are registered
    /// [in process](crate::Bus::in_process) and subscriptions do not count.
    ///
    /// [`is_settled`](Status::is_settled) is true with an answer of any kind. A bus whose names the router refuses,
    /// because another program holds them, is settled and not serving.
    pub fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// Whether there will be no other.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.connection, Connection::Closed(_))
    }
}
