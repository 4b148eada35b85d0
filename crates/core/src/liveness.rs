//! When each connection was heard, and what follows from silence (rules CO-9 and LI-8).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::close_reason::CloseReason;
use crate::config::{LONGEST_TIMEOUT, SHORTEST_TIMEOUT};
use crate::connections::PerConnection;
use crate::ids::ConnId;

/// What is due for a connection that is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// Silent for the timeout: send it a Ping.
    Ping(ConnId),
    /// Silent for twice the timeout, or within a frame for the frame timeout: close it.
    Close(ConnId, CloseReason),
    /// Nothing: it was heard meanwhile, or has been sent a Ping.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct State {
    heard: Instant,
    /// The value of `heard` when a Ping was sent last.
    pinged: Option<Instant>,
    /// Whether a frame has begun that is not whole.
    is_within_frame: bool,
    /// Under which the connection stands in `Liveness::deadlines`. It is not moved when something is
    /// heard, which is often, but looked at again when it comes, which is rare.
    deadline: Instant,
}

#[derive(Debug)]
pub(crate) struct Liveness {
    ping_timeout: Option<Duration>,
    frame_timeout: Duration,
    deadlines: BTreeSet<(Instant, ConnId)>,
    states: PerConnection<Option<State>>,
}

impl Liveness {
    /// `ping_timeout` is the silence after which a Ping is due; `None` waits for ever.
    pub(crate) fn new(ping_timeout: Option<Duration>, frame_timeout: Duration) -> Self {
        Liveness {
            ping_timeout: ping_timeout.map(|timeout| timeout.min(LONGEST_TIMEOUT)),
            frame_timeout: frame_timeout.clamp(SHORTEST_TIMEOUT, LONGEST_TIMEOUT),
            deadlines: BTreeSet::new(),
            states: PerConnection::default(),
        }
    }

    pub(crate) fn add(&mut self, connection: ConnId, now: Instant) {
        let first = self.ping_timeout.unwrap_or(LONGEST_TIMEOUT).min(self.frame_timeout);
        let state =
            State { heard: now, pinged: None, is_within_frame: false, deadline: now + first };
        *self.states.entry(connection) = Some(state);
        self.deadlines.insert((state.deadline, connection));
    }

    /// Whether a frame of the connection has begun that is not whole.
    pub(crate) fn set_within_frame(&mut self, connection: ConnId, is_within_frame: bool) {
        if let Some(state) = self.states.entry(connection) {
            state.is_within_frame = is_within_frame;
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

    /// What is due for the next connection whose deadline has passed; `None` if no deadline has passed.
    /// `may_ping` says whether a connection can be sent a Ping, `is_excused` whether it is exempt from timeouts.
    pub(crate) fn next_due(
        &mut self,
        now: Instant,
        may_ping: impl Fn(ConnId) -> bool,
        is_excused: impl Fn(ConnId) -> bool,
    ) -> Option<Due> {
        let (deadline, connection) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.deadlines.pop_first();
        let Some(state) = self.states.entry(connection) else {
            return Some(Due::Nothing);
        };
        if is_excused(connection) {
            state.heard = now;
        }
        let silence = now.saturating_duration_since(state.heard);
        let ping_timeout = self.ping_timeout.unwrap_or(LONGEST_TIMEOUT);
        if state.is_within_frame && silence >= self.frame_timeout {
            let reason = CloseReason::UnfinishedFrame(self.frame_timeout);
            return Some(Due::Close(connection, reason));
        }
        if silence >= 2 * ping_timeout {
            return Some(Due::Close(connection, CloseReason::Silent(silence)));
        }
        let timeout = if silence >= ping_timeout { 2 * ping_timeout } else { ping_timeout };
        // A frame may begin at any time.
        let begin = if state.is_within_frame { state.heard } else { now };
        state.deadline = (state.heard + timeout).min(begin + self.frame_timeout);
        self.deadlines.insert((state.deadline, connection));
        let is_ping_due = silence >= ping_timeout && state.pinged != Some(state.heard);
        if !is_ping_due || !may_ping(connection) {
            return Some(Due::Nothing);
        }
        state.pinged = Some(state.heard);
        Some(Due::Ping(connection))
    }

    pub(crate) fn len(&self) -> usize {
        self.deadlines.len()
    }
}
