//! How a bus stands with its router, for users to watch.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

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
    /// What the router has refused since it is connected, and is asked for again.
    pub refused: Vec<Refused>,
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
    /// Whether there will be no other.
    fn is_over(&self) -> bool {
        matches!(self.connection, Connection::Closed(_))
    }

    /// Whether there is nothing new in the other one, as far as anybody can see.
    pub(crate) fn is_same(&self, other: &Status) -> bool {
        let refused = |status: &Status| {
            let names = status.refused.iter();
            names.map(|it| (it.kind, it.name.clone(), it.refusals)).collect::<Vec<_>>()
        };
        self.connection == other.connection
            && self.is_settled == other.is_settled
            && self.refused.len() == other.refused.len()
            && refused(self) == refused(other)
    }
}

/// A status that can be told from older ones.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub(crate) version: u64,
    pub(crate) status: Status,
}

/// Watches the [`Status`] of a bus, without holding the bus. A change that is followed by another before
/// it was looked at may be skipped.
#[derive(Debug, Clone)]
pub struct StatusWatch {
    receiver: watch::Receiver<Numbered>,
    /// The end was seen.
    is_over: bool,
}

impl StatusWatch {
    pub(crate) fn new(receiver: watch::Receiver<Numbered>) -> Self {
        let is_over = receiver.borrow().status.is_over();
        StatusWatch { receiver, is_over }
    }

    /// The status now.
    pub fn current(&self) -> Status {
        self.receiver.borrow().status.clone()
    }

    /// Waits for a change since the last one that was seen, and returns it; `None` when the bus has ended
    /// and that was seen.
    pub async fn changed(&mut self) -> Option<Status> {
        if self.is_over {
            return None;
        }
        self.receiver.changed().await.ok()?;
        let status = self.receiver.borrow_and_update().status.clone();
        self.is_over = status.is_over();
        Some(status)
    }

    /// Waits until the status is as wanted, which it may be now; `None` when the bus has ended first.
    pub async fn wait_for(&mut self, mut is_it: impl FnMut(&Status) -> bool) -> Option<Status> {
        loop {
            // A copy, because `is_it` may do something with the bus that changes the status.
            let status = self.receiver.borrow_and_update().status.clone();
            self.is_over = status.is_over();
            if is_it(&status) {
                return Some(status);
            }
            if self.is_over {
                return None;
            }
            self.receiver.changed().await.ok()?;
        }
    }
}
