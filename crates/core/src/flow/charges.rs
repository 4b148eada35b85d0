//! Who pays for queued bytes: the account of each connection, and the charges on it (rule LI-2).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::ids::{CallKey, ConnId};

/// What a queued frame costs beside its own bytes: about what the queue itself needs for it. In bytes.
pub(super) const FRAME_COST: usize = 64;

/// Frames that are charged for together come to this at most. What they cost beside their bytes is released only
/// when all of them were written. In bytes.
const LARGEST_SUM: usize = 16 << 10;

/// The unit of the sum of all accounts, in bytes. An account changes the sum only when it enters another unit.
const BLOCK: usize = 4 << 10;

/// What queued bytes are for. Each connection has a limit for each but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The router's own answers to the payer.
    Answers,
    /// The payer's calls, on their way to a service.
    Calls,
    /// Replies to the payer's calls.
    Replies,
    /// Broadcasts to the payer.
    Broadcasts,
    /// Calls in the outbox of a peer that has stalled. They count for the sum of all accounts alone.
    Stalled,
}

const PURPOSES: usize = 5;

impl Purpose {
    /// For counting by purpose.
    pub(crate) fn name(self) -> &'static str {
        ["answers", "calls", "replies", "broadcasts", "stalled"][self as usize]
    }
}

/// The sum of all accounts and unfinished frames, in bytes. Of each part, whole blocks count.
#[derive(Debug, Default)]
pub(super) struct Total(AtomicUsize);

impl Total {
    pub(super) fn used(&self) -> usize {
        self.0.load(SeqCst)
    }

    /// One of its parts has changed.
    #[inline]
    pub(super) fn changed(&self, before: usize, after: usize) {
        let blocks = (after / BLOCK).wrapping_sub(before / BLOCK);
        if blocks != 0 {
            self.0.fetch_add(blocks.wrapping_mul(BLOCK), SeqCst);
        }
    }
}

/// A connection that is not read until the usage of an account for a purpose is low enough.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: ConnId,
    pub(super) purpose: Purpose,
    /// The highest usage at which it goes on, in bytes.
    pub(super) usage: usize,
    /// `None` once it was woken.
    pub(super) waker: Option<Waker>,
}

/// What one connection pays for, anywhere in the router.
#[derive(Debug)]
pub(super) struct Account {
    owner: ConnId,
    used: [AtomicUsize; PURPOSES],
    total: Arc<Total>,
    waiters: Mutex<Waiters>,
    /// Whether there are any.
    is_awaited: AtomicBool,
}

/// The connections that wait for an account.
#[derive(Debug, Default)]
struct Waiters {
    /// The owner, which waits for room for its calls or for answers to it.
    owner: Option<Waiter>,
    /// The connections that wait for room for replies, first come, first served.
    replying: VecDeque<Waiter>,
}

impl Account {
    pub(super) fn new(owner: ConnId, total: Arc<Total>) -> Self {
        let (used, waiters, is_awaited) = Default::default();
        Account { owner, used, total, waiters, is_awaited }
    }

    #[inline]
    pub(super) fn used(&self, purpose: Purpose) -> usize {
        self.used[purpose as usize].load(SeqCst)
    }

    /// Adds a number of bytes, which may be negative in two's complement.
    #[inline]
    fn add(&self, purpose: Purpose, bytes: usize) {
        let before = self.used[purpose as usize].fetch_add(bytes, SeqCst);
        self.total.changed(before, before.wrapping_add(bytes));
        if self.is_awaited.load(SeqCst) {
            self.wake(false);
        }
    }

    /// Whether no other connection waits for the same, or `id` is the first that does.
    #[inline]
    pub(super) fn is_turn(&self, purpose: Purpose, id: ConnId) -> bool {
        purpose != Purpose::Replies
            || !self.is_awaited.load(SeqCst)
            || self.waiters().replying.front().is_none_or(|first| first.id == id)
    }

    /// The connections that wait for room for replies, the first first.
    pub(super) fn replying(&self) -> Vec<ConnId> {
        self.waiters().replying.iter().map(|waiter| waiter.id).collect()
    }

    /// A connection waits. It keeps its place if it has waited for the same before.
    pub(super) fn wait(&self, waiter: Waiter) {
        let mut waiters = self.waiters();
        if waiter.purpose != Purpose::Replies {
            waiters.owner = Some(waiter);
        } else if let Some(place) = waiters.replying.iter_mut().find(|other| other.id == waiter.id)
        {
            *place = waiter;
        } else {
            waiters.replying.push_back(waiter);
        }
        self.is_awaited.store(true, SeqCst);
        drop(waiters);
        // The usage may have fallen in between.
        self.wake(false);
    }

    /// A connection does not wait any more. If it was the first, the next one is.
    pub(super) fn leave(&self, id: ConnId) {
        let mut waiters = self.waiters();
        waiters.owner.take_if(|waiter| waiter.id == id);
        // Usually it is the first one.
        if waiters.replying.pop_front_if(|waiter| waiter.id == id).is_none() {
            waiters.replying.retain(|waiter| waiter.id != id);
        }
        let is_awaited = waiters.owner.is_some() || !waiters.replying.is_empty();
        self.is_awaited.store(is_awaited, SeqCst);
        drop(waiters);
        self.wake(false);
    }

    /// Wakes the owner, and the first of the other connections, if the usage is low enough; or all of them. Once each.
    #[cold]
    pub(super) fn wake(&self, all: bool) {
        let mut woken = Vec::new();
        let mut waiters = self.waiters();
        let Waiters { owner, replying } = &mut *waiters;
        let count = if all { replying.len() } else { 1 };
        for waiter in owner.iter_mut().chain(replying.iter_mut().take(count)) {
            if all || self.used(waiter.purpose) <= waiter.usage {
                woken.extend(waiter.waker.take());
            }
        }
        drop(waiters);
        woken.into_iter().for_each(Waker::wake);
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a queued frame, which a connection pays for until they are written or dropped.
///
/// It travels with the frame: [`written`](Charge::written) as bytes leave, dropped with the frame. Both may happen
/// on any thread, and may wake a [paused](crate::Backpressure) connection.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    purpose: Purpose,
    bytes: usize,
    call: Option<CallKey>,
}

impl Charge {
    /// So many more bytes of the frame are written.
    pub fn written(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.account.add(self.purpose, bytes.wrapping_neg());
    }

    /// The connection that made the call in the frame, if it may not be read because too many of its calls are queued.
    pub fn paused_caller(&self) -> Option<ConnId> {
        let may_be_paused = self.purpose == Purpose::Calls && self.account.is_awaited.load(SeqCst);
        may_be_paused.then_some(self.account.owner)
    }

    /// The peer whose outbox the frame is in has stalled: if the frame is a call, its caller does not pay for it any
    /// more. Returns the call, if its caller waits for its end.
    pub fn stall(&mut self) -> Option<CallKey> {
        if self.purpose == Purpose::Calls {
            self.account.add(Purpose::Stalled, self.bytes);
            self.account.add(Purpose::Calls, self.bytes.wrapping_neg());
            self.purpose = Purpose::Stalled;
        }
        self.call.take()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.written(self.bytes);
        }
    }
}

/// What a frame costs, before it is queued and its cost is [charged](Cost::charge).
#[derive(Debug)]
#[must_use = "a queued frame has to be charged"]
pub struct Cost<'a> {
    pub(super) account: &'a Arc<Account>,
    pub(super) purpose: Purpose,
    pub(super) bytes: usize,
    pub(super) call: Option<CallKey>,
}

impl Cost<'_> {
    /// Charges it. It becomes a part of `before`, the charge of the frame before it, and `None` is returned, if the same
    /// connection pays for both, for the same purpose other than calls, and the sum is small.
    #[inline]
    pub fn charge(self, before: Option<&mut Charge>) -> Option<Charge> {
        let Cost { account, purpose, bytes, call } = self;
        account.add(purpose, bytes);
        match before {
            Some(before)
                if before.purpose == purpose
                    && purpose != Purpose::Calls
                    && before.bytes + bytes <= LARGEST_SUM
                    && Arc::ptr_eq(account, &before.account) =>
            {
                before.bytes += bytes;
                None
            }
            _ => Some(Charge { account: account.clone(), purpose, bytes, call }),
        }
    }
}
