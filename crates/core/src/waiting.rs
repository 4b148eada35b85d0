//! What a connection waits for, and how long it is let wait for others.

use std::time::{Duration, Instant};

use crate::calls::CallKey;
use crate::connections::ConnId;

/// One part in so many of the time that passes is taken off what was waited in vain.
const FORGET: u32 = 10;

/// So many stall timeouts a connection may wait in vain before it is kept short.
const WHOLE_WAITS: u32 = 2;

/// A connection that is kept short waits for this part of the stall timeout still.
const SHORT_WAIT: u32 = 16;

/// What a frame of a connection waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Waiting {
    /// That the connection itself reads the router's answers.
    Answers,
    /// That the calls of the connection itself are taken.
    Calls,
    /// That the caller reads whom the frame is a reply to.
    Caller(ForCaller),
}

/// A reply that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForCaller {
    pub(crate) caller: ConnId,
    /// What it is a reply to. Another call may have the request id by the time that there is room.
    pub(crate) call: CallKey,
    pub(crate) since: Instant,
    /// How long it waits if the caller reads nothing.
    pub(crate) patience: Duration,
    /// When it is given up, however fast the caller reads.
    pub(crate) until: Instant,
}

impl Waiting {
    /// What there has to be room for, for counting.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Waiting::Answers => "answers",
            Waiting::Calls => "calls",
            Waiting::Caller(_) => "replies",
        }
    }

    /// The wait for a caller, if it is one.
    pub(crate) fn for_caller(&self) -> Option<ForCaller> {
        match self {
            Waiting::Caller(waiting) => Some(*waiting),
            Waiting::Answers | Waiting::Calls => None,
        }
    }
}

/// How long a connection has lately waited for callers who did not read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InVain {
    time: Duration,
    as_of: Option<Instant>,
}

impl InVain {
    /// What is not forgotten.
    fn time(&self, now: Instant) -> Duration {
        let ago = self.as_of.map_or(Duration::ZERO, |as_of| now.saturating_duration_since(as_of));
        self.time.saturating_sub(ago / FORGET)
    }

    /// The connection has waited for so long, and for nothing.
    pub(crate) fn add(&mut self, time: Duration, stall_timeout: Duration, now: Instant) {
        let most = stall_timeout.saturating_mul(WHOLE_WAITS);
        self.time = self.time(now).saturating_add(time).min(most);
        self.as_of = Some(now);
    }

    /// How long the connection is let wait for a caller that reads nothing: the stall timeout, unless it has
    /// waited in vain for too long, so that those who do not read cost it a small part of its time, and not
    /// a stall timeout each. Never nothing, so that a caller that reads is not taken for one that does not.
    pub(crate) fn patience(&self, stall_timeout: Duration, now: Instant) -> Duration {
        let left = stall_timeout.saturating_mul(WHOLE_WAITS).saturating_sub(self.time(now));
        left.clamp(stall_timeout / SHORT_WAIT, stall_timeout)
    }
}
