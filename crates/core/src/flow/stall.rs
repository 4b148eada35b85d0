//! Peers that read too little, and how long others wait for them (rules LI-3 and LI-4).

use std::time::{Duration, Instant};

use crate::ids::ConnId;

/// A peer takes at least so many bytes in each timeout.
const LEAST: u64 = 64 << 10;

/// While it keeps another connection from being read, it takes at least this part of the queue limit.
const SHARE_OF_LIMIT: u64 = 8;

/// A [`PauseBudget`] of one stall timeout is full again after this time.
const REFILL: Duration = Duration::from_secs(60);

/// How far a peer has got with its outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many bytes are queued for it.
    pub queued: usize,
    /// How many bytes its socket has ever taken.
    pub written: u64,
}

/// The limits that a slow peer is held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlowLimits {
    pub(crate) stall_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) queue_limit: usize,
}

/// A time in which a peer has to take some of what was queued for it when the time began.
#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    start: Progress,
}

impl Window {
    /// Whether the peer has taken so many bytes, or all there was.
    fn has_taken(&self, bytes: u64, progress: Progress) -> bool {
        progress.written - self.start.written >= bytes.min(self.start.queued as u64)
    }
}

/// What follows for a slow peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    stalled_at: Option<Instant>,
    /// The time in which other connections are not read because of it. Restarts whenever it has taken its share.
    blocking: Option<Window>,
    /// Those connections, and how long they have been kept waiting, as of the last look.
    pub(super) blocked: Vec<ConnId>,
    pub(super) blocked_for: Duration,
    pub(super) looked: Instant,
}

impl SlowPeer {
    pub(super) fn new(start: Progress, now: Instant) -> Self {
        let (stalled_at, blocking, blocked, blocked_for) = Default::default();
        let recent = Window { since: now, start };
        SlowPeer { recent, stalled_at, blocking, blocked, blocked_for, looked: now }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_at.is_some()
    }

    /// Looks at the peer again. `blocked` are the connections that are not read because of it, and `budget_left` is the least
    /// that one of them has left of its [`PauseBudget`].
    pub(super) fn look(
        &mut self,
        progress: Progress,
        (blocked, budget_left): (Vec<ConnId>, Duration),
        limits: SlowLimits,
        now: Instant,
    ) -> Verdict {
        self.looked = now;
        let anew = Window { since: now, start: progress };
        if self.recent.has_taken(LEAST, progress) {
            self.recent = anew;
        }
        if now >= self.recent.since + limits.write_timeout {
            return Verdict::Dead;
        }
        if let Some(stalled_at) = self.stalled_at {
            let has_read = self.recent.since > stalled_at;
            self.stalled_at.take_if(|_| has_read && progress.queued <= limits.queue_limit / 2);
            return Verdict::Fine;
        }
        let mut reads_too_little = now >= self.recent.since + limits.stall_timeout;
        self.blocking = self.blocking.filter(|_| !blocked.is_empty());
        self.blocked = blocked;
        if !self.blocked.is_empty() {
            let window = self.blocking.get_or_insert(anew);
            self.blocked_for = now - window.since;
            let share = LEAST.max(limits.queue_limit as u64 / SHARE_OF_LIMIT);
            // Of its share, the part for the time that has passed.
            let part = self.blocked_for.div_duration_f64(limits.stall_timeout);
            let due = share.min((share as f64 * part) as u64);
            if self.blocked_for >= budget_left && !window.has_taken(due, progress) {
                reads_too_little = true;
            } else if window.has_taken(share, progress) {
                *window = anew;
            }
        }
        if !reads_too_little {
            return Verdict::Fine;
        }
        self.stalled_at = Some(now);
        Verdict::Stalled
    }
}

/// A token bucket of the time that a connection waits for peers that stall: one stall timeout a minute.
#[derive(Debug, Clone, Copy)]
pub(super) struct PauseBudget {
    left: Duration,
    as_of: Instant,
}

impl PauseBudget {
    /// A full one.
    pub(super) fn new(stall_timeout: Duration, now: Instant) -> Self {
        PauseBudget { left: stall_timeout, as_of: now }
    }

    /// How long the connection may yet wait.
    pub(super) fn left(&self, stall_timeout: Duration, now: Instant) -> Duration {
        let refilled = now.saturating_duration_since(self.as_of).div_duration_f64(REFILL).min(1.0);
        stall_timeout.min(self.left + stall_timeout.mul_f64(refilled))
    }

    /// The connection has waited for so long.
    pub(super) fn spend(&mut self, time: Duration, stall_timeout: Duration, now: Instant) {
        let left = self.left(stall_timeout, now).saturating_sub(time);
        *self = PauseBudget { left, as_of: now };
    }
}
