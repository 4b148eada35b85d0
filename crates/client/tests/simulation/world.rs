//! The records of a run: the operations, their outcomes, and the broken guarantees.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use gsb_client::Error;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::events::{EventFacts, SubscriptionFacts};
use crate::order::Order;

/// How late a timer may fire, in ms.
pub(crate) const SLACK: u64 = 5;

/// A time in ms since the begin of the run.
pub(crate) type Millis = u64;

pub(crate) struct World {
    start: Instant,
    facts: Mutex<Facts>,
}

#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) trace: Vec<String>,
    /// Broken guarantees.
    pub(crate) problems: Vec<String>,
    /// Cases that occurred at least once. Runs with few of them prove little.
    pub(crate) reached: BTreeSet<String>,
    /// The clients that were shut down; no other connection ends in a run without faults.
    pub(crate) calm_but: Option<BTreeSet<usize>>,
    /// Routers that are stopping: until their end they serve their connections, and another router may have started.
    pub(crate) stopping: usize,
    /// The clients with the classic framing, whose streams have no credit.
    pub(crate) classic: BTreeSet<usize>,
    pub(crate) services: Vec<ServiceFacts>,
    pub(crate) orders: Vec<Order>,
    pub(crate) events: Vec<EventFacts>,
    pub(crate) subscriptions: Vec<SubscriptionFacts>,
    /// Handlers that are not dropped yet, and their running calls.
    pub(crate) witnesses: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Reply,
    Stream,
    Push,
}

/// A service that a client registered or tried to register.
#[derive(Debug, Clone)]
pub(crate) struct ServiceFacts {
    /// The client.
    pub(crate) owner: usize,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) in_process: bool,
    /// When it was unregistered. A later call must not reach it.
    pub(crate) gone: Option<Millis>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(World { start: Instant::now(), facts: Mutex::default() })
    }

    pub(crate) fn now(&self) -> Millis {
        millis(self.start.elapsed())
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock()
    }

    pub(crate) fn log(&self, line: impl Display) {
        let line = format!("{:>7} {line}", self.now());
        self.facts().trace.push(line);
    }

    /// Records a broken guarantee.
    pub(crate) fn problem(&self, line: impl Display) {
        self.log(format_args!("!!! {line}"));
        self.facts().problems.push(line.to_string());
    }

    pub(crate) fn reach(&self, what: impl Display) {
        self.facts().reached.insert(what.to_string());
    }

    pub(crate) fn expect(&self, is_so: bool, line: impl FnOnce() -> String) {
        if !is_so {
            self.problem(line());
        }
    }
}

pub(crate) fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Waits for a time. Does not yield if the time is zero.
pub(crate) async fn pause(time: Millis) {
    if time > 0 {
        tokio::time::sleep(Duration::from_millis(time)).await;
    }
}

/// Whether a service of this name gets the calls to an address.
pub(crate) fn serves(name: &str, address: &str) -> bool {
    address.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The kind of an error, in a word.
pub(crate) fn kind_of(error: &Error) -> &'static str {
    match error {
        Error::AlreadyRegistered { .. } => "already registered",
        Error::NoSuchService { .. } => "no such service",
        Error::BadRequest { .. } => "bad request",
        Error::Busy { .. } => "busy",
        Error::ServiceFailure { .. } => "service failure",
        Error::Cancelled { .. } => "cancelled",
        Error::Timeout { .. } => "timeout",
        Error::IsStream { .. } => "is a stream",
        Error::Overflow { .. } => "overflow",
        Error::Missed { .. } => "missed",
        Error::NotSent(_) => "not sent",
        Error::ConnectionLost(_) => "connection lost",
        Error::ShutDown => "shut down",
        Error::TooLarge { .. } => "too large",
        Error::Unfinished { .. } => "unfinished",
        _ => "another error",
    }
}
