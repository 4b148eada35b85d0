//! Who was heard when, and what follows from silence.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::config::LONGEST_TIMEOUT;
use crate::connections::{ConnId, PerConnection};

/// What a connection has to expect for its silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Silent for the timeout: send it a Ping.
    Ping(ConnId),
    /// Silent for twice the timeout, and this long: close it.
    Close(ConnId, Duration),
}

#[derive(Debug, Clone, Copy)]
struct State {
    heard: Instant,
    /// Under which the connection stands in `Liveness::deadlines`. It is not moved when something is
    /// heard, which is often, but looked at again when it comes, which is rare.
    deadline: Instant,
}

#[derive(Debug)]
pub(crate) struct Liveness {
    timeout: Option<Duration>,
    deadlines: BTreeSet<(Instant, ConnId)>,
    states: PerConnection<Option<State>>,
}

impl Liveness {
    /// `timeout` is the silence after which a Ping is due; `None` is patient for ever.
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        let timeout = timeout.map(|timeout| timeout.min(LONGEST_TIMEOUT));
        Liveness { timeout, deadlines: BTreeSet::new(), states: PerConnection::default() }
    }

    pub(crate) fn add(&mut self, connection: ConnId, now: Instant) {
        if let Some(timeout) = self.timeout {
            let deadline = now + timeout;
            *self.states.entry(connection) = Some(State { heard: now, deadline });
            self.deadlines.insert((deadline, connection));
        }
    }

    pub(crate) fn heard(&mut self, connection: ConnId, now: Instant) {
        if let Some(state) = self.states.entry(connection) {
            state.heard = now;
        }
    }

    pub(crate) fn remove_connection(&mut self, connection: ConnId) {
        if let Some(state) = self.states.take(connection) {
            self.deadlines.remove(&(state.deadline, connection));
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// What the next connection whose deadline has come has to expect; `None` when there is none left.
    /// `may_ping` says whether a connection can be sent a Ping, `is_excused` whether its silence is not its
    /// own.
    pub(crate) fn next_due(
        &mut self,
        now: Instant,
        may_ping: impl Fn(ConnId) -> bool,
        is_excused: impl Fn(ConnId) -> bool,
    ) -> Option<Due> {
        let timeout = self.timeout?;
        loop {
            let (deadline, connection) = *self.deadlines.first()?;
            if deadline > now {
                return None;
            }
            self.deadlines.pop_first();
            let Some(state) = self.states.entry(connection) else {
                continue;
            };
            if is_excused(connection) {
                state.heard = now;
            }
            let silence = now.saturating_duration_since(state.heard);
            let due = if silence >= 2 * timeout {
                Some(Due::Close(connection, silence))
            } else if silence >= timeout && may_ping(connection) {
                Some(Due::Ping(connection))
            } else {
                None
            };
            let patience = if silence >= timeout { 2 * timeout } else { timeout };
            state.deadline = state.heard + patience;
            if !matches!(due, Some(Due::Close(..))) {
                self.deadlines.insert((state.deadline, connection));
            }
            if due.is_some() {
                return due;
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.deadlines.len()
    }
}
