//! The buffer of a stream or subscription: bounded in bytes, filled without waiting.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::engine::credit::cost;
use crate::error::{Error, LostReason};
use crate::panics::contain;
use crate::status::Refused;

/// Payloads up to this length, in bytes, are copied, so that they do not keep the whole buffer that they were read into.
const COPIED: usize = 64 << 10;

/// What happens when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// The queue ends, with an error.
    End,
    /// The newest items are dropped. The consumer gets their number, in their place.
    Drop,
}

/// An entry of a queue.
#[derive(Debug)]
enum Entry<T> {
    /// An item, its cost, and how much of the cost its headers are.
    Item(T, usize, usize),
    /// Items are missing here.
    Gap(Gap),
}

/// What a consumer has missed at one point of its queue. It becomes at most one error of each kind.
#[derive(Debug, Default)]
struct Gap {
    /// Items that did not fit into the queue.
    overflow: u64,
    /// Why the connection to the router was lost, the last time.
    lost: Option<LostReason>,
    /// Events that the router has dropped.
    dropped_by_router: u64,
    /// The router has taken the topic away, the last time.
    refused: Option<Arc<Refused>>,
}

/// A queue between the task that reads a connection and one consumer.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    limit: usize,
    when_full: WhenFull,
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("limit", &self.limit).finish_non_exhaustive()
    }
}

struct State<T> {
    /// There are never two gaps in a row, so that gaps take no more memory than items.
    entries: VecDeque<Entry<T>>,
    /// The [cost] of all items, with their headers.
    bytes: usize,
    /// The part of it that the headers are. They take nothing from the credit of the sender (rule CA-14).
    headers: usize,
    /// How much the sender of the items may be ahead of the consumer, in bytes; 0 if the sender has no credit.
    window: usize,
    /// What the consumer has read of the window, and the sender was not granted again.
    owed: usize,
    /// No further item comes. The consumer gets `error` after the last item.
    ended: bool,
    error: Option<Error>,
    waker: Option<Waker>,
}

impl<T> Queue<T> {
    /// A queue that holds up to `limit` bytes, or one item.
    pub(crate) fn new(limit: usize, when_full: WhenFull) -> Self {
        Queue {
            state: Mutex::new(State {
                entries: VecDeque::new(),
                bytes: 0,
                headers: 0,
                window: 0,
                owed: 0,
                ended: false,
                error: None,
                waker: None,
            }),
            limit,
            when_full,
        }
    }

    /// The sender has a credit of `window` bytes. As long as it keeps to it all items fit, also the last one, which may
    /// be larger than what is left of the credit.
    pub(crate) fn set_window(&self, window: usize) {
        self.state.lock().window = window;
    }

    /// Makes the [window](Queue::set_window) larger. The consumer owes the sender the difference.
    pub(crate) fn widen(&self, window: usize) {
        let mut state = self.state.lock();
        state.owed += window.saturating_sub(state.window);
        state.window = state.window.max(window);
    }

    /// Whether the sender may send an item.
    pub(crate) fn has_credit(&self) -> bool {
        let state = self.state.lock();
        state.bytes.saturating_add(state.owed) < state.window
    }

    /// The cost of all items, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Drops all items, and ends the queue with an error, unless the consumer has read the end.
    pub(crate) fn abort(&self, error: Error) {
        let mut state = self.state.lock();
        let entries = std::mem::take(&mut state.entries);
        if !state.ended || !entries.is_empty() {
            state.error = Some(error);
        }
        (state.ended, state.bytes, state.headers) = (true, 0, 0);
        let waker = state.waker.take();
        drop(state);
        drop(entries);
        wake(waker);
    }

    /// Adds an item of `length` bytes, and of `headers` bytes of headers. `false` if it does not fit, or the queue has
    /// ended.
    pub(crate) fn push(&self, item: T, length: usize, headers: usize) -> bool {
        let (is_queued, waker) = self.add(item, length, headers);
        wake(waker);
        is_queued
    }

    /// [`push`](Queue::push) for callers that hold a lock: returns also the waker, to be woken after the lock is
    /// released.
    pub(crate) fn push_quietly(&self, item: T, length: usize) -> (bool, Option<Waker>) {
        self.add(item, length, 0)
    }

    fn add(&self, item: T, length: usize, headers: usize) -> (bool, Option<Waker>) {
        let mut state = self.state.lock();
        if state.ended {
            return (false, None);
        }
        let cost = cost(length).saturating_add(headers);
        let keeps_to_window = state.bytes - state.headers < state.window
            && state.headers.saturating_add(headers) <= self.limit;
        let fits =
            state.bytes == 0 || state.bytes.saturating_add(cost) <= self.limit || keeps_to_window;
        // After an overflow items are dropped until the consumer has read its error, so that it stands in its place.
        let overflows = matches!(state.entries.back(), Some(Entry::Gap(gap)) if gap.overflow > 0);
        let is_queued = fits && !overflows;
        if is_queued {
            state.bytes += cost;
            state.headers += headers;
            state.entries.push_back(Entry::Item(item, cost, headers));
        } else if self.when_full == WhenFull::Drop {
            state.note(|gap| gap.overflow = gap.overflow.saturating_add(1));
        } else {
            state.ended = true;
            let limit = self.limit.max(state.window);
            state.error = Some(Error::Overflow { limit, missed: 1 });
        }
        (is_queued, state.waker.take())
    }

    /// Adds a gap: the router has dropped `count` events. Returns the waker to wake.
    pub(crate) fn missed(&self, count: u64) -> Option<Waker> {
        self.interrupt(|gap| gap.dropped_by_router = gap.dropped_by_router.saturating_add(count))
    }

    /// Adds a gap: the connection was lost, and will be made again. Returns the waker to wake.
    pub(crate) fn lost(&self, reason: LostReason) -> Option<Waker> {
        self.interrupt(|gap| gap.lost = Some(reason))
    }

    /// Adds a gap: the router has taken the topic away. Returns the waker to wake.
    pub(crate) fn refused(&self, refused: Arc<Refused>) -> Option<Waker> {
        self.interrupt(|gap| gap.refused = Some(refused))
    }

    fn interrupt(&self, note: impl FnOnce(&mut Gap)) -> Option<Waker> {
        let mut state = self.state.lock();
        if state.ended {
            return None;
        }
        state.note(note);
        state.waker.take()
    }

    /// Ends the queue. The consumer gets `error` after the last item.
    pub(crate) fn end(&self, error: Option<Error>) {
        let mut state = self.state.lock();
        if !state.ended {
            state.ended = true;
            state.error = error;
        }
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// The next item. `None` after the end.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        self.poll_next_granting(cx).0
    }

    /// [`poll_next`](Queue::poll_next) for a sender with a [window](Queue::set_window): returns also the credit to grant
    /// to it, in bytes. It is mostly 0: half of the window is granted at a time.
    pub(crate) fn poll_next_granting(
        &self,
        cx: &mut Context<'_>,
    ) -> (Poll<Option<Result<T, Error>>>, usize) {
        // Wakers are code of users: the replaced one is dropped after the lock is released.
        let _replaced;
        let mut state = self.state.lock();
        match state.entries.pop_front() {
            Some(Entry::Item(item, cost, headers)) => {
                state.bytes -= cost;
                state.headers -= headers;
                let grant = state.read(cost - headers);
                return (Poll::Ready(Some(Ok(item))), grant);
            }
            Some(Entry::Gap(mut gap)) => {
                let error = gap.take(self.limit);
                if !gap.is_empty() {
                    state.entries.push_front(Entry::Gap(gap));
                }
                return (Poll::Ready(Some(Err(error))), 0);
            }
            None => {}
        }
        if state.ended {
            return (Poll::Ready(state.error.take().map(Err)), 0);
        }
        _replaced = match &state.waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => state.waker.replace(cx.waker().clone()),
        };
        (Poll::Pending, 0)
    }
}

impl<T> State<T> {
    /// The consumer has read an item that took `cost` from the credit. Returns the credit to grant.
    fn read(&mut self, cost: usize) -> usize {
        if self.window == 0 || self.ended {
            return 0;
        }
        self.owed = self.owed.saturating_add(cost);
        match self.owed >= self.window.div_ceil(2) {
            true => std::mem::take(&mut self.owed),
            false => 0,
        }
    }

    /// Changes the gap after the last item.
    fn note(&mut self, note: impl FnOnce(&mut Gap)) {
        if let Some(Entry::Gap(gap)) = self.entries.back_mut() {
            return note(gap);
        }
        let mut gap = Gap::default();
        note(&mut gap);
        self.entries.push_back(Entry::Gap(gap));
    }
}

impl Gap {
    fn is_empty(&self) -> bool {
        self.overflow == 0
            && self.lost.is_none()
            && self.refused.is_none()
            && self.dropped_by_router == 0
    }

    /// Removes an error from a gap that is not empty. `limit` is that of the queue.
    fn take(&mut self, limit: usize) -> Error {
        if self.overflow > 0 {
            return Error::Overflow { limit, missed: std::mem::take(&mut self.overflow) };
        }
        if let Some(reason) = self.lost.take() {
            return Error::ConnectionLost(reason);
        }
        if let Some(refused) = self.refused.take() {
            return refused.error.clone();
        }
        Error::Missed { count: std::mem::take(&mut self.dropped_by_router) }
    }
}

/// Wakers are code of users, and may panic: not to be called under a lock.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        contain("a waker of the program", || waker.wake());
    }
}

/// A copy of a small payload, which does not keep the buffer that it was read into. A large payload is not copied.
pub(crate) fn detach(data: Bytes) -> Bytes {
    if data.len() <= COPIED { Bytes::copy_from_slice(&data) } else { data }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::*;

    fn next(queue: &Queue<u32>) -> Poll<Option<Result<u32, Error>>> {
        queue.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_full_stream_ends_with_an_error_after_the_items_that_fitted() {
        let queue = Queue::new(200, WhenFull::End);
        assert!(queue.push(1, 30, 0));
        assert!(queue.push(2, 30, 0));
        assert!(!queue.push(3, 30, 0));
        assert!(!queue.push(4, 30, 0));
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(1)))));
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(2)))));
        let Poll::Ready(Some(Err(Error::Overflow { limit: 200, .. }))) = next(&queue) else {
            panic!("no error");
        };
        assert!(matches!(next(&queue), Poll::Ready(None)));
    }

    #[test]
    fn a_sender_that_keeps_to_its_credit_never_overflows() {
        for (window, length) in [(1, 0), (1000, 30), (1000, 2000), (1000, 936)] {
            let queue = Queue::new(1, WhenFull::End);
            queue.set_window(window);
            let mut credit = i64::try_from(window).unwrap();
            let mut ahead = 0;
            for read in 0..100 {
                while credit > 0 {
                    credit -= i64::try_from(cost(length)).unwrap();
                    assert!(queue.push(0, length, 0), "window {window}, items of {length} bytes");
                    ahead += cost(length);
                }
                assert!(ahead < window + cost(length));
                let (next, grant) =
                    queue.poll_next_granting(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(next, Poll::Ready(Some(Ok(0)))), "item {read} of {window}");
                credit += i64::try_from(grant).unwrap();
                ahead -= cost(length);
            }
        }
    }

    // They would exceed the memory of the reader otherwise.
    #[test]
    fn headers_take_no_credit_but_have_the_limit_of_the_buffer() {
        let queue = Queue::new(1000, WhenFull::End);
        queue.set_window(10_000);
        for _ in 0..10 {
            assert!(queue.push(0, 936, 100));
        }
        assert!(!queue.push(0, 936, 0), "the window is used up");

        let queue = Queue::new(1000, WhenFull::End);
        queue.set_window(10_000);
        assert!(queue.push(0, 936, 1000));
        assert_eq!(queue.poll_next_granting(&mut Context::from_waker(Waker::noop())).1, 0);
        for _ in 0..4 {
            assert!(queue.push(0, 936, 250));
            assert_eq!(queue.state.lock().owed, 1000);
        }
        assert!(!queue.push(0, 936, 1), "the headers have reached the limit");
    }

    #[test]
    fn a_sender_is_granted_half_of_the_window_at_a_time_and_nothing_after_the_end() {
        let queue = Queue::new(10_000, WhenFull::End);
        queue.set_window(1000);
        for item in 0..12 {
            queue.push(item, 36, 0);
        }
        let grant = || queue.poll_next_granting(&mut Context::from_waker(Waker::noop())).1;
        let grants: Vec<_> = (0..10).map(|_| grant()).collect();
        assert_eq!(grants, [0, 0, 0, 0, 500, 0, 0, 0, 0, 500]);
        queue.end(None);
        assert_eq!((0..2).map(|_| grant()).sum::<usize>(), 0);
    }

    #[test]
    fn a_full_subscription_reports_a_gap_in_its_place() {
        let queue = Queue::new(200, WhenFull::Drop);
        for item in 1..=5 {
            assert_eq!(queue.push(item, 30, 0), item <= 2);
        }
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(1)))));
        assert!(!queue.push(6, 0, 0), "there is room again, but the gap comes first");
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(2)))));
        let Poll::Ready(Some(Err(Error::Overflow { missed: 4, .. }))) = next(&queue) else {
            panic!("no gap");
        };
        assert!(queue.push(7, 30, 0));
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(7)))));
        assert!(next(&queue).is_pending());
    }

    /// All items and errors, as text.
    fn all(queue: &Queue<u32>) -> Vec<String> {
        let next = || match next(queue) {
            Poll::Ready(Some(Ok(item))) => Some(item.to_string()),
            Poll::Ready(Some(Err(Error::Overflow { missed, .. }))) => {
                Some(format!("overflow {missed}"))
            }
            Poll::Ready(Some(Err(Error::Missed { count }))) => Some(format!("missed {count}")),
            Poll::Ready(Some(Err(Error::ConnectionLost(reason)))) => {
                Some(format!("lost: {reason}"))
            }
            Poll::Ready(Some(Err(error))) => Some(error.to_string()),
            Poll::Ready(None) | Poll::Pending => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_full_subscription_reports_each_kind_of_gap_and_its_count() {
        let queue = Queue::new(200, WhenFull::Drop);
        for item in 1..=4 {
            queue.push(item, 30, 0);
        }
        for _ in 0..7 {
            queue.missed(1_000_000 / 8);
        }
        queue.lost(LostReason::HungUp);
        queue.push(5, 30, 0);
        queue.missed(1_000_000 / 8);
        queue.lost(LostReason::Stopping);
        assert_eq!(
            all(&queue),
            ["1", "2", "overflow 3", "lost: the router is shutting down", "missed 1000000"]
        );
        queue.missed(u64::MAX);
        queue.missed(u64::MAX);
        assert_eq!(all(&queue), [format!("missed {}", u64::MAX)]);
    }

    #[test]
    fn a_gap_is_reported_before_later_items() {
        let queue = Queue::new(200, WhenFull::Drop);
        queue.push(1, 200, 0);
        queue.push(2, 200, 0);
        queue.lost(LostReason::HungUp);
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(1)))));
        assert!(matches!(next(&queue), Poll::Ready(Some(Err(Error::Overflow { missed: 1, .. })))));
        assert!(queue.push(3, 300, 0), "one item always fits");
        assert_eq!(all(&queue), ["lost: the router closed the connection", "3"]);
    }

    #[test]
    fn gaps_take_no_more_memory_than_items() {
        let queue = Queue::new(1000, WhenFull::Drop);
        for _ in 0..1000 {
            queue.lost(LostReason::HungUp);
            queue.missed(1);
            queue.push(1, 0, 0);
        }
        assert!(queue.state.lock().entries.len() <= 2 * 1000 / cost(0) + 1);
        let told = all(&queue);
        let sum = |kind: &str| -> u64 {
            let counts =
                told.iter().filter_map(|error| error.strip_prefix(kind)?.parse::<u64>().ok());
            counts.sum()
        };
        assert_eq!(sum("missed "), 1000);
        assert_eq!(sum("overflow ") + sum(""), 1000);
    }

    #[test]
    fn one_item_always_fits_and_the_end_comes_last() {
        let queue = Queue::new(10, WhenFull::End);
        assert!(queue.push(1, 1000, 0));
        queue.end(Some(Error::Overflow { limit: 0, missed: 9 }));
        queue.end(None);
        assert!(!queue.push(2, 0, 0));
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(1)))));
        assert!(matches!(next(&queue), Poll::Ready(Some(Err(Error::Overflow { missed: 9, .. })))));
        assert!(matches!(next(&queue), Poll::Ready(None)));
    }
}
