//! Flow control: who pays for queued bytes, which connections are not read because of it, and which peers have stalled
//! (rules LI-2 to LI-6).

mod charges;
mod stall;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

pub(crate) use charges::Purpose;
use charges::{Account, FRAME_COST, Total, Waiter};
pub use charges::{Charge, Cost};
pub use stall::Progress;
use stall::SlowPeer;
pub(crate) use stall::Verdict;

use crate::config::{BrokerConfig, Limits};
use crate::connections::PerConnection;
use crate::ids::{CallKey, ConnId};

/// The queue limit while the memory limit is exceeded, in bytes.
const SHORT_LIMIT: usize = 64 << 10;

/// An unfinished frame of up to this size does not count for the memory limit, in bytes.
const UNCOUNTED: usize = 64 << 10;

/// A spent budget is full again after this time.
const REFILL: Duration = Duration::from_secs(60);

/// The flow control of one connection.
#[derive(Debug)]
struct Peer {
    id: ConnId,
    account: Arc<Account>,
    /// Wakes the task of the connection when the frame that it is paused for is to be handled again.
    waker: Waker,
    /// The account into which a frame of it does not fit, and for which purpose.
    paused: Option<(ConnId, Purpose)>,
    /// The bytes of its unfinished frame, if they are many.
    unfinished: usize,
    /// Boxed, because most connections are never slow.
    slow: Option<Box<SlowPeer>>,
    /// When its budget is full: the time that it may wait for peers that stall, which is a stall timeout in each
    /// [`REFILL`] (a token bucket).
    full_budget_at: Instant,
}

impl Peer {
    /// See [`Flow::admits`]. `limit` is the queue limit at the moment.
    #[inline]
    fn admits(&self, from: ConnId, purpose: Purpose, body: usize, limit: usize) -> bool {
        let used = self.account.used(purpose);
        (used == 0 || used + body + FRAME_COST <= limit) && self.account.is_turn(purpose, from)
    }
}

/// The flow control of all connections.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) config: BrokerConfig,
    peers: PerConnection<Option<Peer>>,
    count: usize,
    /// The large unfinished frames: their sizes in bytes, and their connections.
    unfinished: BTreeSet<(usize, ConnId)>,
    total: Arc<Total>,
    /// The total was above its limit, and has not fallen to three quarters of it since.
    is_short: bool,
}

impl Flow {
    pub(crate) fn new(config: BrokerConfig) -> Self {
        let (peers, count, unfinished, total, is_short) = Default::default();
        Flow { config, peers, count, unfinished, total, is_short }
    }

    /// Connections that wait for room go on when others free it, as before.
    pub(crate) fn set_limits(&mut self, limits: Limits, memory_limit: usize) {
        (self.config.limits, self.config.memory_limit) = (limits, memory_limit);
    }

    pub(crate) fn add(&mut self, id: ConnId, waker: Waker, now: Instant) {
        self.count += 1;
        let account = Arc::new(Account::new(id, self.total.clone()));
        let (paused, unfinished, slow) = Default::default();
        let peer = Peer { id, account, waker, paused, unfinished, slow, full_budget_at: now };
        *self.peers.entry(id) = Some(peer);
    }

    /// A connection is gone. What is queued stays charged to it until it is written.
    pub(crate) fn remove(&mut self, id: ConnId) {
        self.resume(id);
        self.set_unfinished(id, 0);
        self.release_blocked(id);
        self.count -= usize::from(self.peers.take(id).is_some());
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    fn get(&self, id: ConnId) -> Option<&Peer> {
        self.peers.get(id)?.as_ref().filter(|peer| peer.id == id)
    }

    #[inline]
    fn get_mut(&mut self, id: ConnId) -> Option<&mut Peer> {
        self.peers.entry(id).as_mut().filter(|peer| peer.id == id)
    }

    /// The cost for `payer` of a frame with a body of `body` bytes; `None` if the payer is gone.
    #[inline]
    pub(crate) fn cost(
        &self,
        payer: ConnId,
        purpose: Purpose,
        body: usize,
        call: Option<CallKey>,
    ) -> Option<Cost<'_>> {
        let account = &self.get(payer)?.account;
        Some(Cost { account, purpose, bytes: body + FRAME_COST, call })
    }

    /// The queue limit of each connection at the moment.
    #[inline]
    fn queue_limit(&mut self) -> usize {
        let (used, limit) = (self.total.used(), self.config.memory_limit);
        self.is_short = used > limit || self.is_short && used > limit / 4 * 3;
        let limit = self.config.limits.queued_bytes;
        if self.is_short { limit.min(SHORT_LIMIT) } else { limit }
    }

    /// Whether a frame of `from` may be queued at the cost of `payer`: it fits or is alone, and no other connection waits
    /// for the same.
    #[inline]
    pub(crate) fn admits(
        &mut self,
        from: ConnId,
        (payer, purpose): (ConnId, Purpose),
        body: usize,
    ) -> bool {
        let limit = self.queue_limit();
        self.get(payer).is_none_or(|peer| peer.admits(from, purpose, body, limit))
    }

    /// [`admit`](Flow::admit) for a call: it is forwarded, or answered.
    #[inline]
    pub(crate) fn admit_call(&mut self, from: ConnId, body: usize) -> bool {
        let limit = self.queue_limit();
        let is_admitted = self.get(from).is_none_or(|peer| {
            peer.admits(from, Purpose::Answers, 0, limit)
                && peer.admits(from, Purpose::Calls, body, limit)
        });
        // In this order, which is also the order of the waits.
        is_admitted
            || self.admit(from, (from, Purpose::Answers), 0)
                && self.admit(from, (from, Purpose::Calls), body)
    }

    /// Whether a frame is [admitted](Flow::admits). If not, the connection is paused, and woken when the frame is to be
    /// tried again.
    #[inline]
    pub(crate) fn admit(&mut self, from: ConnId, payer: (ConnId, Purpose), body: usize) -> bool {
        let is_admitted = self.admits(from, payer, body);
        if !is_admitted {
            self.pause(from, payer, body);
        }
        is_admitted
    }

    #[cold]
    fn pause(&mut self, id: ConnId, payer: (ConnId, Purpose), body: usize) {
        if self.paused(id) != Some(payer) {
            self.resume(id);
        }
        let limit = self.queue_limit();
        // Half, or less where the frame would not fit.
        let usage = (limit / 2).min(limit.saturating_sub(body + FRAME_COST));
        if let Some(peer) = self.get_mut(id) {
            peer.paused = Some(payer);
            let waiter = Waiter { id, purpose: payer.1, usage, waker: Some(peer.waker.clone()) };
            if let Some(payer) = self.get(payer.0) {
                payer.account.wait(waiter);
            }
        }
    }

    /// The frame that a connection was paused for is handled.
    pub(crate) fn resume(&mut self, id: ConnId) {
        if let Some((payer, _)) = self.get_mut(id).and_then(|peer| peer.paused.take())
            && let Some(payer) = self.get(payer)
        {
            payer.account.leave(id);
        }
    }

    /// The account that a paused connection waits for, and for which purpose.
    #[inline]
    pub(crate) fn paused(&self, id: ConnId) -> Option<(ConnId, Purpose)> {
        self.get(id)?.paused
    }

    /// Whether a peer has stalled.
    #[inline]
    pub(crate) fn is_stalled(&self, id: ConnId) -> bool {
        let slow = self.get(id).and_then(|peer| peer.slow.as_ref());
        slow.is_some_and(|slow| slow.stalled_at.is_some())
    }

    /// Looks at a peer whose socket is full, or was. Calls of the `callers` are in its outbox.
    pub(crate) fn look(
        &mut self,
        id: ConnId,
        progress: Progress,
        callers: &BTreeSet<ConnId>,
        now: Instant,
    ) -> Verdict {
        let stall_timeout = self.config.stall_timeout;
        let slow = self.get_mut(id).map(|peer| peer.slow.take()).filter(|_| progress.queued > 0);
        let Some(slow) = slow else {
            return Verdict::Fine;
        };
        let mut slow = slow.unwrap_or_else(|| Box::new(SlowPeer::new(progress, now)));
        let mut blocked = self.get(id).map_or(vec![], |peer| peer.account.replying());
        let waits_for_calls = |id: &&ConnId| self.paused(**id) == Some((**id, Purpose::Calls));
        blocked.extend(callers.iter().filter(waits_for_calls));
        blocked.retain(|other| *other != id);
        let mut budget = stall_timeout;
        for other in &blocked {
            if let Some(other) = self.get_mut(*other) {
                other.full_budget_at = other.full_budget_at.max(now);
                let spent = (other.full_budget_at - now).div_duration_f64(REFILL);
                budget = budget.min(stall_timeout.saturating_sub(stall_timeout.mul_f64(spent)));
            }
        }
        let verdict = slow.look(progress, (blocked, budget), &self.config, now);
        if let Some(peer) = self.get_mut(id) {
            peer.slow = Some(slow);
        }
        if verdict == Verdict::Stalled {
            self.release_blocked(id);
        }
        verdict
    }

    /// A connection tries again if it waits for `payer`: a call between the two has ended, which it may wait to reply to.
    pub(crate) fn wake_if_waiting(&self, id: ConnId, payer: ConnId) {
        if let Some(peer) = self.get(id)
            && peer.paused.is_some_and(|(waits_for, _)| waits_for == payer)
        {
            peer.waker.wake_by_ref();
        }
    }

    /// No connection waits for this one any more. Those that did have spent a part of their budgets.
    fn release_blocked(&mut self, id: ConnId) {
        if let Some(peer) = self.get(id) {
            peer.account.wake(true);
        }
        let stall_timeout = self.config.stall_timeout;
        if let Some(slow) = self.get_mut(id).and_then(|peer| peer.slow.as_mut()) {
            let refill = REFILL.mul_f64(slow.spent.div_duration_f64(stall_timeout));
            // No more than a whole budget can be spent, however many peers a connection waits for at the same time.
            let latest = slow.looked_at + REFILL;
            for other in std::mem::take(&mut slow.blocked) {
                if let Some(other) = self.get_mut(other) {
                    let full_at = (other.full_budget_at + refill).min(latest);
                    other.full_budget_at = other.full_budget_at.max(full_at);
                }
            }
        }
    }

    /// `bytes` of an unfinished frame have come. If they are more than before, and the memory limit is exceeded, returns the
    /// connection with the largest unfinished frame, and its size in bytes.
    pub(crate) fn set_unfinished(&mut self, id: ConnId, bytes: usize) -> Option<(ConnId, usize)> {
        let bytes = if bytes > UNCOUNTED { bytes } else { 0 };
        let before = std::mem::replace(&mut self.get_mut(id)?.unfinished, bytes);
        if bytes != before {
            self.total.changed(before, bytes);
            self.unfinished.remove(&(before, id));
            self.unfinished.extend((bytes > 0).then_some((bytes, id)));
        }
        let is_too_much = bytes > before && self.total.used() > self.config.memory_limit;
        let (bytes, largest) = *self.unfinished.last().filter(|_| is_too_much)?;
        Some((largest, bytes))
    }
}
