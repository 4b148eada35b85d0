//! Who pays for queued bytes: the account of each connection, and the charges on it (rule LI-2).

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use super::total::Total;
use crate::ids::{CallKey, ConnId};

/// What a queued frame costs beside its own bytes: about what the queue itself needs for it. In bytes.
pub(super) const FRAME_COST: usize = 64;

/// Frames that are charged for together come to this at most. What they cost beside their bytes is released only
/// when all of them were written. In bytes.
const LARGEST_SUM: usize = 16 << 10;

/// What queued bytes are for. Each connection has a limit for each of the first four.
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
    /// Calls of others in the outbox of the payer, which has stalled.
    Stalled,
    /// A frame of the payer that has begun to arrive.
    Unfinished,
}

const PURPOSES: usize = 6;

impl Purpose {
    /// For counting by purpose.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Purpose::Answers => "answers",
            Purpose::Calls => "calls",
            Purpose::Replies => "replies",
            Purpose::Broadcasts | Purpose::Stalled | Purpose::Unfinished => "others",
        }
    }
}

/// What one connection pays for, anywhere in the router.
#[derive(Debug)]
pub(crate) struct Account {
    owner: ConnId,
    used: [AtomicUsize; PURPOSES],
    /// The waker is woken when the usage falls below this; 0 if no connection waits for it.
    resume_below: [AtomicUsize; PURPOSES],
    wakers: Mutex<[Option<Waker>; PURPOSES]>,
    total: Arc<Total>,
}

impl Account {
    pub(super) fn new(owner: ConnId, total: Arc<Total>) -> Self {
        let (used, resume_below) = Default::default();
        Account { owner, used, resume_below, wakers: Mutex::default(), total }
    }

    #[inline]
    pub(super) fn used(&self, purpose: Purpose) -> usize {
        self.used[purpose as usize].load(SeqCst)
    }

    fn add(&self, purpose: Purpose, bytes: usize) {
        let before = self.used[purpose as usize].fetch_add(bytes, SeqCst);
        self.total.changed(before, before + bytes);
    }

    fn release(&self, purpose: Purpose, bytes: usize) {
        let before = self.used[purpose as usize].fetch_sub(bytes, SeqCst);
        let after = before - bytes;
        self.total.changed(before, after);
        if after < self.resume_below[purpose as usize].load(SeqCst) {
            self.wake(purpose);
        }
    }

    /// Wakes `waker` once, when the usage is at most `usage`. It replaces the waker that was set before.
    pub(super) fn wake_at(&self, purpose: Purpose, usage: usize, waker: &Waker) {
        self.wakers()[purpose as usize] = Some(waker.clone());
        self.resume_below[purpose as usize].store(usage + 1, SeqCst);
        // It may have fallen in between.
        if self.used(purpose) <= usage {
            self.wake(purpose);
        }
    }

    /// Sets the bytes of an unfinished frame; whether they are more than before.
    pub(super) fn set_unfinished(&self, bytes: usize) -> bool {
        let unfinished = &self.used[Purpose::Unfinished as usize];
        let before = unfinished.load(SeqCst);
        if before != bytes {
            unfinished.store(bytes, SeqCst);
            self.total.changed(before, bytes);
        }
        bytes > before
    }

    #[cold]
    fn wake(&self, purpose: Purpose) {
        if self.resume_below[purpose as usize].swap(0, SeqCst) > 0 {
            let waker = self.wakers()[purpose as usize].take();
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn wakers(&self) -> impl std::ops::DerefMut<Target = [Option<Waker>; PURPOSES]> + '_ {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.account.release(self.purpose, bytes);
    }

    /// The connection that made the call in the frame, if it is not read because too many of its calls are queued.
    pub fn paused_caller(&self) -> Option<ConnId> {
        let is_paused = self.purpose == Purpose::Calls
            && self.account.resume_below[Purpose::Calls as usize].load(SeqCst) > 0;
        is_paused.then_some(self.account.owner)
    }

    /// Charges a call in the outbox of a peer that has stalled to that peer. Returns the call, if the frame was one
    /// of another connection that waits for its end.
    pub fn move_to(&mut self, peer: &Payer) -> Option<CallKey> {
        if self.purpose != Purpose::Calls {
            // Whatever else is in an outbox is charged to its owner.
            return None;
        }
        self.account.release(self.purpose, self.bytes);
        (self.account, self.purpose) = (peer.0.clone(), Purpose::Stalled);
        self.account.add(self.purpose, self.bytes);
        self.call.take()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.account.release(self.purpose, self.bytes);
        }
    }
}

/// What a frame costs, before it is queued and its cost is [charged](Cost::charge).
#[derive(Debug)]
#[must_use = "a queued frame has to be charged"]
pub struct Cost<'a> {
    /// `None` if the payer is gone.
    pub(super) account: Option<&'a Arc<Account>>,
    pub(super) purpose: Purpose,
    pub(super) bytes: usize,
    pub(super) call: Option<CallKey>,
}

impl Cost<'_> {
    /// Charges it; `None` if the payer is gone.
    pub fn charge(self) -> Option<Charge> {
        let Cost { account, purpose, bytes, call } = self;
        let account = account?;
        account.add(purpose, bytes);
        Some(Charge { account: account.clone(), purpose, bytes, call })
    }

    /// Charges it as a part of an existing charge, where the same connection pays for both, for the same purpose
    /// other than calls, and the sum is small.
    ///
    /// # Errors
    /// The cost, where that is not so.
    pub fn add_to(self, charge: &mut Charge) -> Result<(), Self> {
        let bytes = charge.bytes + self.bytes;
        match self.account {
            Some(account)
                if Arc::ptr_eq(account, &charge.account)
                    && self.purpose == charge.purpose
                    && self.purpose != Purpose::Calls
                    && bytes <= LARGEST_SUM =>
            {
                account.add(self.purpose, self.bytes);
                charge.bytes = bytes;
                Ok(())
            }
            _ => Err(self),
        }
    }
}

/// A handle to the account of a connection, to which queued bytes are charged.
#[derive(Debug, Clone)]
pub struct Payer(pub(super) Arc<Account>);
