//! The status of a bus: its connection, and the names that the router knows or refuses.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, LostReason};

/// The status of a bus. See [`Bus::status`](crate::Bus::status) and [`Bus::watch`](crate::Bus::watch).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The connection.
    pub connection: Connection,
    /// Whether the router has answered for every service and topic of this bus. `false` without a connection, and after
    /// a reconnect until all names are restored.
    pub is_settled: bool,
    /// The names that the router refuses. The bus keeps asking for them.
    pub refused: Refusals,
    pub(crate) is_serving: bool,
}

/// The connection to the router.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connection {
    /// The bus has no router.
    InProcess,
    /// The bus is connecting.
    Connecting {
        /// How many attempts in a row have failed before this one.
        failures: u32,
    },
    /// The bus is connected.
    Connected(RouterInfo),
    /// The connection was lost, or could not be made. The bus tries again.
    Lost {
        /// Why.
        reason: LostReason,
        /// The pause before the next attempt. It is shorter if a caller waits for the router.
        retry_in: Duration,
    },
    /// The bus has ended.
    Closed(LostReason),
}

/// What a router states in its Hello. Empty in the classic framing, which has no Hello.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouterInfo {
    /// The name of the program.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The id of this run of the router. It changes with a restart.
    pub instance_id: Bytes,
    /// Whether the router supports not sending a client its own broadcasts.
    pub(crate) supports_no_echo: bool,
    /// The level of the protocol extensions that both sides support.
    pub(crate) level: u32,
    /// The largest frame that the router accepts, in bytes, if it states it.
    pub(crate) max_frame: Option<usize>,
}

impl fmt::Debug for RouterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// The kind of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameKind {
    /// A service.
    Service,
    /// A topic or pattern of a subscription.
    Topic,
}

/// A name that the router refuses. The bus asks for it again after a pause.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Refused {
    /// The kind of the name.
    pub kind: NameKind,
    /// The service id or topic.
    pub name: String,
    /// The refusal of the router.
    pub error: Error,
    /// How many times in a row the router has refused it.
    pub refusals: u32,
    /// The pause between the last refusal and the next attempt.
    pub retry_in: Duration,
}

/// The names that the router refuses: services before topics, each in alphabetical order.
///
/// A clone shares its memory with the original until the original changes, so that the cost of a status does not depend on
/// the number of refused names.
#[derive(Clone, Default)]
pub struct Refusals {
    names: Arc<BTreeMap<(NameKind, String), Arc<Refused>>>,
}

impl Refusals {
    /// How many names are refused.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no name is refused.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names: services first, then topics, each in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &Refused> {
        self.names.values().map(|refused| &**refused)
    }

    pub(crate) fn insert(&mut self, refused: Arc<Refused>) {
        let key = (refused.kind, refused.name.clone());
        Arc::make_mut(&mut self.names).insert(key, refused);
    }

    /// Removes a name. `false` if it is not refused.
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
    /// The name is known in this process only.
    InProcess,
    /// There is no connection, or the router has not answered yet.
    Pending,
    /// The router has confirmed the name.
    Confirmed,
    /// The router has refused the name. The bus keeps asking for it.
    Refused(Error),
    /// The name was unregistered, or the bus has ended.
    Ended,
}

impl Status {
    /// Whether calls from other processes reach every service of this bus: the bus is connected, and the router has
    /// confirmed every service. Services that are registered [in process](crate::Bus::in_process) and subscriptions do
    /// not count. A bus without a router is serving until it ends.
    ///
    /// [`is_settled`](Status::is_settled) is also true if the router has refused a name. A standby, whose name another
    /// program holds, is settled and not serving.
    pub fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// Whether this is the last status of the bus.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.connection, Connection::Closed(_))
    }
}
