//! Flow control: who pays for queued bytes, which connections are not read because of it, and which peers have stalled
//! (rules LI-2 to LI-6).

mod charges;
mod stall;
mod total;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

pub(crate) use charges::Purpose;
use charges::{Account, FRAME_COST};
pub use charges::{Charge, Cost, Payer};
pub use stall::Progress;
use stall::{PauseBudget, SlowPeer};
pub(crate) use stall::{SlowLimits, Verdict};
use total::Total;

use crate::connections::PerConnection;
use crate::ids::{CallKey, ConnId};

/// An unfinished frame of up to so many bytes is charged to no account.
const SMALL: usize = 64 << 10;

/// Why a connection is paused: a frame of it does not fit into an account, and the connection is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paused {
    /// Whose account it is.
    pub(crate) payer: ConnId,
    pub(crate) purpose: Purpose,
    /// The call that the frame is a reply to: another may have its request id when the frame is handled again.
    pub(crate) reply_to: Option<CallKey>,
}

/// The flow control of one connection.
#[derive(Debug)]
struct Peer {
    id: ConnId,
    account: Arc<Account>,
    /// Wakes the task of the connection when the frame that it is paused for is to be handled again.
    waker: Waker,
    paused: Option<Paused>,
    /// The connections that are paused with a reply to this one, first come, first served.
    waiting: VecDeque<ConnId>,
    /// Apart, since most connections never are.
    slow: Option<Box<SlowPeer>>,
    budget: PauseBudget,
}

/// The flow control of all connections.
#[derive(Debug)]
pub(crate) struct Flow {
    peers: PerConnection<Option<Peer>>,
    count: usize,
    limits: SlowLimits,
    total: Arc<Total>,
}

impl Flow {
    /// All connections together may be charged `memory_limit` bytes.
    pub(crate) fn new(limits: SlowLimits, memory_limit: usize) -> Self {
        let total = Arc::new(Total::new(memory_limit));
        Flow { peers: PerConnection::default(), count: 0, limits, total }
    }

    pub(crate) fn add(&mut self, id: ConnId, waker: Waker, now: Instant) {
        self.count += 1;
        *self.peers.entry(id) = Some(Peer {
            id,
            account: Arc::new(Account::new(id, self.total.clone())),
            waker,
            paused: None,
            waiting: VecDeque::new(),
            slow: None,
            budget: PauseBudget::new(self.limits.stall_timeout, now),
        });
    }

    /// A connection is gone. What is queued stays charged to it until it is written.
    pub(crate) fn remove(&mut self, id: ConnId) {
        if let Some(paused) = self.resume(id) {
            self.leave(id, paused);
        }
        self.release_blocked(id);
        self.set_unfinished(id, 0);
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

    /// The account of a connection.
    pub(crate) fn payer(&self, id: ConnId) -> Option<Payer> {
        self.get(id).map(|peer| Payer(peer.account.clone()))
    }

    /// What a frame with a body of so many bytes costs `payer`.
    #[inline]
    pub(crate) fn cost(
        &self,
        payer: ConnId,
        purpose: Purpose,
        body: usize,
        call: Option<CallKey>,
    ) -> Cost<'_> {
        let account = self.get(payer).map(|peer| &peer.account);
        Cost { account, purpose, bytes: body + FRAME_COST, call }
    }

    /// Whether a frame of `from` may be queued at the cost of `payer`: it fits, or is alone, and no other waits for
    /// that.
    #[inline]
    pub(crate) fn admits(
        &self,
        payer: ConnId,
        purpose: Purpose,
        body: usize,
        from: ConnId,
    ) -> bool {
        self.get(payer).is_none_or(|peer| {
            let used = peer.account.used(purpose);
            let limit = self.total.queue_limit(self.limits.queue_limit);
            let others_wait = purpose == Purpose::Replies
                && peer.waiting.front().is_some_and(|first| *first != from);
            (used == 0 || used + body + FRAME_COST <= limit) && !others_wait
        })
    }

    /// A frame of a connection was not admitted, and waits with all that the connection sends behind it.
    pub(crate) fn pause(&mut self, id: ConnId, paused: Paused, body: usize) {
        let Some(peer) = self.get_mut(id) else {
            return;
        };
        peer.paused = Some(paused);
        let limit = self.total.queue_limit(self.limits.queue_limit);
        // Half, or less where the frame would not fit.
        let usage = (limit / 2).min(limit.saturating_sub(body + FRAME_COST));
        if paused.purpose == Purpose::Replies
            && let Some(payer) = self.get_mut(paused.payer)
        {
            if !payer.waiting.contains(&id) {
                payer.waiting.push_back(id);
            }
            if payer.waiting.front() != Some(&id) {
                return;
            }
        }
        self.wake_at(id, paused, usage);
    }

    /// Wakes a connection when the usage of the account that it waits for is at most `usage`.
    fn wake_at(&self, id: ConnId, paused: Paused, usage: usize) {
        if let (Some(payer), Some(peer)) = (self.get(paused.payer), self.get(id)) {
            payer.account.wake_at(paused.purpose, usage, &peer.waker);
        }
    }

    /// The frame that a connection is paused for is handled again; `None` if it is not paused.
    #[inline]
    pub(crate) fn resume(&mut self, id: ConnId) -> Option<Paused> {
        self.get_mut(id)?.paused.take()
    }

    /// Whether a connection is paused.
    pub(crate) fn is_paused(&self, id: ConnId) -> bool {
        self.get(id).is_some_and(|peer| peer.paused.is_some())
    }

    /// A connection does not wait any more, admitted or not. If it was the first, the next one is.
    pub(crate) fn leave(&mut self, id: ConnId, paused: Paused) {
        let usage = self.total.queue_limit(self.limits.queue_limit) / 2;
        if paused.purpose == Purpose::Replies
            && let Some(payer) = self.get_mut(paused.payer)
        {
            payer.waiting.retain(|waiting| *waiting != id);
            if let Some(next) = payer.waiting.front().copied() {
                self.wake_at(next, paused, usage);
            }
        }
    }

    /// Whether a peer has stalled.
    #[inline]
    pub(crate) fn is_stalled(&self, id: ConnId) -> bool {
        let slow = self.get(id).and_then(|peer| peer.slow.as_ref());
        slow.is_some_and(|slow| slow.is_stalled())
    }

    /// Looks at a peer whose socket is full, or was. Calls of the `callers` are in its outbox.
    pub(crate) fn look(
        &mut self,
        id: ConnId,
        progress: Progress,
        callers: &BTreeSet<ConnId>,
        now: Instant,
    ) -> Verdict {
        let limits = self.limits;
        let Some(peer) = self.get(id) else {
            return Verdict::Fine;
        };
        let left = |other: &ConnId| {
            let other =
                self.get(*other).filter(|other| other.paused.is_some() && other.id != id)?;
            Some((other.id, other.budget.left(limits.stall_timeout, now)))
        };
        let (blocked, left): (Vec<_>, Vec<_>) =
            peer.waiting.iter().chain(callers).filter_map(left).unzip();
        let budget_left = left.into_iter().min().unwrap_or_default();
        let Some(peer) = self.get_mut(id) else {
            return Verdict::Fine;
        };
        if progress.queued == 0 {
            peer.slow = None;
            return Verdict::Fine;
        }
        let slow = peer.slow.get_or_insert_with(|| Box::new(SlowPeer::new(progress, now)));
        let verdict = slow.look(progress, (blocked, budget_left), limits, now);
        if verdict == Verdict::Stalled {
            self.release_blocked(id);
        }
        verdict
    }

    /// The connections that wait for this one try again: the calls that they reply to may have ended.
    pub(crate) fn wake_waiting(&self, id: ConnId) {
        let waiting = self.get(id).map(|peer| &peer.waiting);
        let others = waiting.into_iter().flatten().filter_map(|other| self.get(*other));
        others.for_each(|other| other.waker.wake_by_ref());
    }

    /// No connection waits for this one any more. Those that did have spent some of their budgets.
    fn release_blocked(&mut self, id: ConnId) {
        self.wake_waiting(id);
        let stall_timeout = self.limits.stall_timeout;
        let Some(peer) = self.get_mut(id) else {
            return;
        };
        peer.waiting.clear();
        let Some(slow) = &mut peer.slow else {
            return;
        };
        let (time, looked) = (slow.blocked_for, slow.looked);
        for other in std::mem::take(&mut slow.blocked) {
            if let Some(other) = self.get_mut(other) {
                other.budget.spend(time, stall_timeout, looked);
            }
        }
    }

    /// So many bytes have come of a frame of a connection that is not whole. Returns whether they are more than before,
    /// and more than all connections may have together.
    pub(crate) fn set_unfinished(&self, id: ConnId, bytes: usize) -> bool {
        let bytes = if bytes > SMALL { bytes } else { 0 };
        self.get(id).is_some_and(|peer| peer.account.set_unfinished(bytes))
            && self.total.is_exceeded()
    }

    /// The connection with the largest unfinished frame, and how large that is.
    pub(crate) fn largest_unfinished(&self) -> Option<(ConnId, usize)> {
        let peers = self.peers.iter().flatten();
        peers.map(|peer| (peer.id, peer.account.used(Purpose::Unfinished))).max_by_key(|it| it.1)
    }
}
