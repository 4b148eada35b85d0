//! Who pays for what waits to be written.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::calls::CallKey;
use crate::connections::{ConnId, PerConnection};

/// What a queued frame costs beside its own bytes: about what the queue itself needs for it. In bytes.
const FRAME_COST: usize = 64;

/// Frames that are charged for together come to this at most. What they cost beside their bytes is free again only
/// when all of them were written. In bytes.
const LARGEST_SUM: usize = 16 << 10;

/// What queued bytes are for. Each connection has a limit of its own for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// What the router itself says to the payer.
    Answers,
    /// Calls that the payer made, on their way to a service.
    Calls,
    /// Replies to the payer's calls.
    Replies,
    /// Broadcasts to the payer.
    Broadcasts,
    /// What is left of a call that the payer has begun to take, and did not take in time. At most one, and
    /// nothing waits for it.
    Remainder,
}

const PURPOSES: usize = 5;

/// What of one connection's waits to be written, anywhere in the router.
#[derive(Debug)]
struct Account {
    used: [AtomicUsize; PURPOSES],
    /// Somebody has had to wait for room, and perhaps others still do.
    awaited: AtomicBool,
    /// There may be room again.
    room: Notify,
    /// So much must be left at most before whoever waits first has its go.
    wake_at: [AtomicUsize; PURPOSES],
}

impl Account {
    fn used(&self, purpose: Purpose) -> usize {
        self.used[purpose as usize].load(Ordering::SeqCst)
    }

    fn release(&self, purpose: Purpose, bytes: usize) {
        let before = self.used[purpose as usize].fetch_sub(bytes, Ordering::SeqCst);
        let after = before - bytes;
        let wake_at = self.wake_at[purpose as usize].load(Ordering::SeqCst);
        let is_low_now = before > wake_at && after <= wake_at || after == 0;
        if is_low_now && self.awaited.load(Ordering::SeqCst) {
            self.room.notify_waiters();
        }
    }
}

/// The bytes of one frame that somebody pays for until they are written or dropped.
///
/// Goes with the frame: [`written`](Charge::written) as its bytes leave, dropped when all have or when the
/// frame is given up.
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

    /// Whether the frame is a call, which the router takes back when its service does not take it within the
    /// stall timeout: see [`Broker::not_taken`](crate::Broker::not_taken).
    pub fn is_call(&self) -> bool {
        self.purpose == Purpose::Calls
    }

    /// How many bytes are not written yet.
    pub fn left(&self) -> usize {
        self.bytes
    }

    /// From now on it is at the cost of whose room this is, as the remainder of a call that it did not take
    /// in time: whoever has paid so far is not to blame any more for what still waits.
    pub fn pass_to(&mut self, room: &Room) {
        self.account.release(self.purpose, self.bytes);
        (self.account, self.purpose, self.call) = (room.0.clone(), Purpose::Remainder, None);
        self.account.used[self.purpose as usize].fetch_add(self.bytes, Ordering::SeqCst);
    }

    /// The call that the frame carries, if somebody waits for its end.
    pub fn call(&self) -> Option<CallKey> {
        self.call
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
#[must_use = "what is queued has to be charged"]
pub struct Cost<'a> {
    /// `None` if the payer is gone.
    account: Option<&'a Arc<Account>>,
    purpose: Purpose,
    bytes: usize,
    call: Option<CallKey>,
}

impl Cost<'_> {
    /// Charges it; `None` if nobody pays for it, because the payer is gone.
    pub fn charge(self) -> Option<Charge> {
        let Cost { account, purpose, bytes, call } = self;
        let account = account?;
        account.used[purpose as usize].fetch_add(bytes, Ordering::SeqCst);
        Some(Charge { account: account.clone(), purpose, bytes, call })
    }

    /// Charges it as a part of what is charged already, for a frame that is not taken back by itself: where the
    /// two are paid by the same connection for the same purpose, are no calls, and come to little.
    ///
    /// # Errors
    /// The cost, where they are not.
    pub fn add_to(self, charge: &mut Charge) -> Result<(), Self> {
        let bytes = charge.bytes + self.bytes;
        match self.account {
            Some(account)
                if Arc::ptr_eq(account, &charge.account)
                    && self.purpose == charge.purpose
                    && self.purpose != Purpose::Calls
                    && bytes <= LARGEST_SUM =>
            {
                account.used[self.purpose as usize].fetch_add(self.bytes, Ordering::SeqCst);
                charge.bytes = bytes;
                Ok(())
            }
            _ => Err(self),
        }
    }
}

/// A place to wait at for room in somebody's budget.
#[derive(Debug, Clone)]
pub struct Room(Arc<Account>);

impl Room {
    /// Completes when there may be room. For a loop: enable it, try again, and only then await it.
    pub fn notified(&self) -> Notified<'_> {
        self.0.room.notified()
    }

    /// Whether it is made by the same connection.
    pub fn is(&self, other: &Room) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Completes when nothing of the connection is queued anywhere. For a connection that has ended.
    pub async fn emptied(&self) {
        self.0.awaited.store(true, Ordering::SeqCst);
        loop {
            let mut notified = pin!(self.notified());
            notified.as_mut().enable();
            if self.0.used.iter().all(|used| used.load(Ordering::SeqCst) == 0) {
                return;
            }
            notified.await;
        }
    }
}

/// Whether something may be queued now.
#[derive(Debug)]
pub(crate) enum Admission {
    Yes,
    /// Not before there is room. At the given time the payer may have stalled: ask again.
    Wait(Room, Instant),
    /// Not before there is room: for the stall timeout the payer has hardly read, nor has it since.
    Stalled(Room),
}

/// A budget that was used up, and from which too little was freed since.
#[derive(Debug, Clone, Copy)]
struct Full {
    since: Instant,
    /// How many bytes were ever freed at that time.
    freed: u64,
    stalled: bool,
    /// Who has waited first, and so is first to have room.
    first: Option<ConnId>,
}

/// Somebody who has a frame for a connection that pays for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) id: ConnId,
    /// How long it waits for one that reads nothing.
    pub(crate) patience: Duration,
    /// When it has waited for too long in any case, if it waits already.
    pub(crate) until: Option<Instant>,
}

#[derive(Debug)]
struct Budget {
    /// Whose it is: a connection that is gone may still be asked for, and another have its place.
    owner: ConnId,
    account: Arc<Account>,
    /// Apart, since most connections never have one.
    full: [Option<Box<Full>>; PURPOSES],
    /// How many wait to reply to it, and who was the last that was let in.
    waiting: usize,
    last: Option<ConnId>,
    /// How many bytes were ever charged.
    charged: [u64; PURPOSES],
}

/// What each connection pays for.
#[derive(Debug)]
pub(crate) struct Budgets {
    budgets: PerConnection<Option<Budget>>,
    count: usize,
    limit: usize,
    stall_timeout: Duration,
}

impl Budgets {
    /// `limit` is how many bytes one connection may have queued for each purpose.
    pub(crate) fn new(limit: usize, stall_timeout: Duration) -> Self {
        Budgets { budgets: PerConnection::default(), count: 0, limit, stall_timeout }
    }

    pub(crate) fn add(&mut self, connection: ConnId) {
        let account = Account {
            used: Default::default(),
            awaited: AtomicBool::new(false),
            room: Notify::new(),
            wake_at: std::array::from_fn(|_| AtomicUsize::new(self.low())),
        };
        self.count += 1;
        *self.budgets.entry(connection) = Some(Budget {
            owner: connection,
            account: Arc::new(account),
            full: Default::default(),
            waiting: 0,
            last: None,
            charged: Default::default(),
        });
    }

    /// Where to wait for what is queued of a connection.
    pub(crate) fn room(&self, connection: ConnId) -> Option<Room> {
        let budget = self.budgets.get(connection)?.as_ref();
        budget
            .filter(|budget| budget.owner == connection)
            .map(|budget| Room(budget.account.clone()))
    }

    /// What is queued already stays charged to it until it is written.
    pub(crate) fn remove_connection(&mut self, connection: ConnId) {
        self.count -= usize::from(self.budgets.take(connection).is_some());
    }

    /// Those who wait for room to reply to a connection try again: what they wait with may not be wanted any more.
    pub(crate) fn wake(&self, payer: ConnId) {
        let budget = self.budgets.get(payer).and_then(Option::as_ref);
        if let Some(budget) = budget.filter(|budget| budget.owner == payer && budget.waiting > 0) {
            budget.account.room.notify_waiters();
        }
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// So much must be left at most before whoever has to wait has its go.
    fn low(&self) -> usize {
        (self.limit / 2).max(1)
    }

    /// Whether a frame with a body of so many bytes may be queued at the cost of `payer`. One larger than
    /// the limit may when nothing else is. Once one may not, no other may before it, so that whoever waits
    /// is not overtaken by those who need less; and not before half of the limit is free again. Whoever had
    /// room last is not the next to be first.
    ///
    /// A payer of whose budget not even half is freed within the stall timeout has stalled, until it is.
    pub(crate) fn admit(
        &mut self,
        payer: ConnId,
        purpose: Purpose,
        body: usize,
        now: Instant,
    ) -> Admission {
        self.admit_bytes(payer, purpose, body + FRAME_COST, None, now)
    }

    /// Whether a reply is admitted without a look at who waits: as long as nobody has to.
    pub(crate) fn admit_reply_at_once(
        &mut self,
        payer: ConnId,
        body: usize,
        sender: ConnId,
    ) -> bool {
        self.has_room(payer, Purpose::Replies, body + FRAME_COST, Some(sender))
    }

    /// [`admit`](Budgets::admit) for a reply.
    pub(crate) fn admit_reply(
        &mut self,
        payer: ConnId,
        body: usize,
        sender: Sender,
        now: Instant,
    ) -> Admission {
        self.admit_bytes(payer, Purpose::Replies, body + FRAME_COST, Some(sender), now)
    }

    /// Whether the router may say something to `payer` if it has to.
    pub(crate) fn admit_answer(&mut self, payer: ConnId, now: Instant) -> Admission {
        self.admit_bytes(payer, Purpose::Answers, 0, None, now)
    }

    /// How long a reply with a body of so many bytes may wait: the stall timeout, or two if more than half of
    /// the limit has to become free for it.
    pub(crate) fn longest_wait(&self, body: usize) -> Duration {
        let is_large = body + FRAME_COST > self.limit.saturating_sub(self.low());
        self.stall_timeout * if is_large { 2 } else { 1 }
    }

    /// The budget of a connection, unless it is gone.
    fn of(&mut self, payer: ConnId) -> Option<&mut Budget> {
        self.budgets.entry(payer).as_mut().filter(|budget| budget.owner == payer)
    }

    /// Whether so many bytes may be queued, and nothing has had to wait.
    #[inline]
    fn has_room(
        &mut self,
        payer: ConnId,
        purpose: Purpose,
        bytes: usize,
        sender: Option<ConnId>,
    ) -> bool {
        let limit = self.limit;
        // Nobody sends to a connection that is gone.
        let Some(budget) = self.of(payer) else {
            return true;
        };
        let used = budget.account.used(purpose);
        let has_room = budget.full[purpose as usize].is_none()
            && (used == 0 || used.saturating_add(bytes) <= limit);
        if has_room {
            budget.last = sender.or(budget.last);
        }
        has_room
    }

    #[inline]
    fn admit_bytes(
        &mut self,
        payer: ConnId,
        purpose: Purpose,
        bytes: usize,
        sender: Option<Sender>,
        now: Instant,
    ) -> Admission {
        if self.has_room(payer, purpose, bytes, sender.map(|sender| sender.id)) {
            return Admission::Yes;
        }
        self.admit_in_turn(payer, purpose, bytes, sender, now)
    }

    /// [`admit`](Budgets::admit) where somebody has had to wait, or has to now.
    #[cold]
    fn admit_in_turn(
        &mut self,
        payer: ConnId,
        purpose: Purpose,
        bytes: usize,
        sender: Option<Sender>,
        now: Instant,
    ) -> Admission {
        let (limit, low, stall_timeout) = (self.limit, self.low(), self.stall_timeout);
        // Nobody sends to a connection that is gone.
        let Some(budget) = self.of(payer) else {
            return Admission::Yes;
        };
        let used = budget.account.used(purpose);
        let fits = used == 0 || used.saturating_add(bytes) <= limit;
        let freed = budget.charged[purpose as usize].saturating_sub(used as u64);
        let full = &mut budget.full[purpose as usize];
        let id = sender.map(|sender| sender.id);
        let waits = sender.is_some_and(|sender| sender.until.is_some());
        let others_wait = sender.is_some() && budget.waiting > usize::from(waits);
        let had_its_turn = others_wait && budget.last == id;
        let may_be_first = |first: Option<ConnId>| match first {
            Some(first) => Some(first) == id,
            None => !had_its_turn,
        };
        if fits && full.as_ref().is_none_or(|full| used <= low && may_be_first(full.first)) {
            budget.last = id.or(budget.last);
            if full.take().is_some() {
                budget.account.wake_at[purpose as usize].store(low, Ordering::SeqCst);
                // For those who come after it.
                budget.account.room.notify_waiters();
            }
            return Admission::Yes;
        }
        let anew = Full { since: now, freed, stalled: false, first: None };
        let full = full.get_or_insert_with(|| Box::new(anew));
        if freed >= full.freed + low as u64 {
            **full = Full { first: full.first, ..anew };
        }
        let (patience, until) =
            sender.map_or((stall_timeout, None), |sender| (sender.patience, sender.until));
        // Who reads as fast as one must has no less time for it because somebody is impatient.
        let progress = stall_timeout.mul_f64((freed - full.freed) as f64 / low as f64);
        let deadline = full.since + stall_timeout.min(patience.saturating_add(progress));
        let deadline = until.map_or(deadline, |until| deadline.min(until));
        full.stalled |= now >= full.since + stall_timeout;
        budget.account.awaited.store(true, Ordering::SeqCst);
        let room = Room(budget.account.clone());
        if full.stalled || now >= deadline {
            return Admission::Stalled(room);
        }
        budget.waiting += usize::from(sender.is_some() && !waits);
        if may_be_first(full.first) {
            full.first = id;
            let wake_at = limit.saturating_sub(bytes).min(low);
            let account = &budget.account;
            account.wake_at[purpose as usize].store(wake_at, Ordering::SeqCst);
            // What was freed meanwhile has not woken anybody.
            if account.used(purpose) <= wake_at {
                account.room.notify_waiters();
            }
        }
        Admission::Wait(room, deadline)
    }

    /// Whoever has waited to reply to `payer` does not any more, and perhaps was not let in.
    pub(crate) fn stop_waiting(&mut self, payer: ConnId, sender: ConnId) {
        let low = self.low();
        let budget = self.of(payer);
        let Some(Budget { account, full, waiting, .. }) = budget else {
            return;
        };
        *waiting = waiting.saturating_sub(1);
        if let Some(full) = &mut full[Purpose::Replies as usize]
            && (full.first == Some(sender) || full.first.is_none() && *waiting == 1)
        {
            full.first = None;
            account.wake_at[Purpose::Replies as usize].store(low, Ordering::SeqCst);
            account.room.notify_waiters();
        }
    }

    /// Whether a broadcast may be queued for `payer`, for which nobody ever waits.
    pub(crate) fn has_room_for_broadcast(&self, payer: ConnId, body: usize) -> bool {
        let budget = self.budgets.get(payer).and_then(Option::as_ref);
        budget.filter(|budget| budget.owner == payer).is_some_and(|budget| {
            let used = budget.account.used(Purpose::Broadcasts);
            used == 0 || used + body + FRAME_COST <= self.limit
        })
    }

    /// What a frame with a body of so many bytes costs `payer`, which has been asked before, or has to pay in any
    /// case.
    pub(crate) fn cost(
        &mut self,
        payer: ConnId,
        purpose: Purpose,
        body: usize,
        call: Option<CallKey>,
    ) -> Cost<'_> {
        let bytes = body + FRAME_COST;
        let budget = self.of(payer);
        let account = budget.map(|budget| {
            budget.charged[purpose as usize] += bytes as u64;
            &budget.account
        });
        Cost { account, purpose, bytes, call }
    }
}
