//! Peers that read too little (rules LI-3 and LI-4).

use std::time::{Duration, Instant};

use crate::config::BrokerConfig;
use crate::ids::ConnId;

/// The least number of bytes that a peer has to take in each timeout.
const LEAST: u64 = 64 << 10;

/// While it keeps another connection from being read, it takes at least this part of the queue limit.
const SHARE_OF_LIMIT: u64 = 8;

/// How far a peer has got with its outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many bytes are queued for it.
    pub queued: usize,
    /// How many bytes its socket has ever taken.
    pub written: u64,
}

/// A time in which a peer has to take some of what was queued for it when the time began.
#[derive(Debug)]
struct Window {
    since: Instant,
    start: Progress,
}

impl Window {
    /// Whether the peer has taken this many bytes, or all that were queued when the time began.
    fn has_taken(&self, bytes: u64, progress: Progress) -> bool {
        progress.written - self.start.written >= bytes.min(self.start.queued as u64)
    }
}

/// What follows for a slow peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// It has just stalled.
    Stalled,
    /// It is to be closed.
    Dead,
}

/// A peer whose socket is full, or was when it stalled.
#[derive(Debug)]
pub(super) struct SlowPeer {
    /// The time since the peer took [`LEAST`] bytes. Restarts whenever it has.
    recent: Window,
    pub(super) stalled_at: Option<Instant>,
    /// The time in which other connections are not read because of it. Restarts whenever it has taken its share.
    blocking: Window,
    /// Those connections, and the part of their budgets that was spent, when the peer was last looked at.
    pub(super) blocked: Vec<ConnId>,
    pub(super) spent: Duration,
    pub(super) looked_at: Instant,
}

impl SlowPeer {
    pub(super) fn new(start: Progress, now: Instant) -> Self {
        let anew = || Window { since: now, start };
        let (stalled_at, blocked, spent) = Default::default();
        SlowPeer { recent: anew(), stalled_at, blocking: anew(), blocked, spent, looked_at: now }
    }

    /// Looks at the peer again. `blocked` are the connections that are not read because of it, and `budget` is the smallest
    /// one that any of them has left.
    pub(super) fn look(
        &mut self,
        progress: Progress,
        (blocked, budget): (Vec<ConnId>, Duration),
        config: &BrokerConfig,
        now: Instant,
    ) -> Verdict {
        self.looked_at = now;
        let anew = || Window { since: now, start: progress };
        if self.recent.has_taken(LEAST, progress) {
            self.recent = anew();
        }
        let (slow_for, limit) = (now - self.recent.since, config.limits.queued_bytes);
        if slow_for >= config.write_timeout {
            return Verdict::Dead;
        }
        if let Some(stalled_at) = self.stalled_at {
            let is_over = self.recent.since > stalled_at && progress.queued <= limit / 2;
            self.stalled_at = Some(stalled_at).filter(|_| !is_over);
            return Verdict::Fine;
        }
        let share = LEAST.max(limit as u64 / SHARE_OF_LIMIT);
        let is_first = blocked.is_empty() || self.blocked.is_empty();
        if is_first || self.blocking.has_taken(share, progress) {
            self.blocking = anew();
        }
        self.blocked = blocked;
        let blocked_for = now - self.blocking.since;
        self.spent = blocked_for.min(budget);
        // Of its share, the part for the time that has passed.
        let due = share as f64 * blocked_for.div_duration_f64(config.stall_timeout);
        let is_late = blocked_for >= budget && !self.blocking.has_taken(due as u64, progress);
        if slow_for < config.stall_timeout && !is_late {
            return Verdict::Fine;
        }
        self.stalled_at = Some(now);
        Verdict::Stalled
    }
}
