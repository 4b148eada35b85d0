//! What has come and is not consumed yet: bounded in bytes, filled without waiting.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::{Error, LostReason};
use crate::panics::contain;

/// What an item costs besides its bytes.
const OVERHEAD: usize = 64;

/// Payloads up to this length are copied, so that they do not keep the buffer alive that they were
/// read into. In bytes.
const COPIED: usize = 64 << 10;

/// What happens when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// The queue ends there, with an error.
    End,
    /// The newest items are dropped; the consumer is told how many when it gets there.
    Drop,
}

/// An entry of a queue.
#[derive(Debug)]
enum Entry<T> {
    /// An item and what it costs.
    Item(T, usize),
    /// What was missed at this point.
    Gap(Gap),
}

/// What a consumer has missed at one point of its queue: at most one error of each kind, however much was missed.
#[derive(Debug, Default)]
struct Gap {
    /// Items that did not fit into the queue.
    overflow: u64,
    /// Why the connection to the router was lost, the last time.
    lost: Option<LostReason>,
    /// Events that the router has dropped.
    dropped_by_router: u64,
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
    /// There are never two gaps in a row, so that gaps take no more memory than items do.
    entries: VecDeque<Entry<T>>,
    /// What the items cost.
    bytes: usize,
    /// Nothing comes any more; the error is taken by the consumer when it gets there.
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
                ended: false,
                error: None,
                waker: None,
            }),
            limit,
            when_full,
        }
    }

    /// Adds an item with `length` bytes; `false` if nothing more is wanted.
    pub(crate) fn push(&self, item: T, length: usize) -> bool {
        let (wanted, waker) = self.push_quietly(item, length);
        wake(waker);
        wanted
    }

    /// Adds an item. Returns whether more is wanted, and the waker to wake: for callers that hold a lock and must
    /// not do so yet.
    pub(crate) fn push_quietly(&self, item: T, length: usize) -> (bool, Option<Waker>) {
        let mut state = self.state.lock();
        if state.ended {
            return (false, None);
        }
        let cost = length + OVERHEAD;
        let fits = state.bytes == 0 || state.bytes + cost <= self.limit;
        // After an overflow nothing is taken until the consumer has seen it, so that it comes in its place.
        let overflows = matches!(state.entries.back(), Some(Entry::Gap(gap)) if gap.overflow > 0);
        if fits && !overflows {
            state.bytes += cost;
            state.entries.push_back(Entry::Item(item, cost));
        } else if self.when_full == WhenFull::Drop {
            state.note(|gap| gap.overflow = gap.overflow.saturating_add(1));
        } else {
            state.ended = true;
            state.error = Some(Error::Overflow { limit: self.limit, missed: 1 });
        }
        (!state.ended, state.waker.take())
    }

    /// The router has dropped `count` events, of which the consumer hears when it gets there. Returns the waker to
    /// wake.
    pub(crate) fn missed(&self, count: u64) -> Option<Waker> {
        self.interrupt(|gap| gap.dropped_by_router = gap.dropped_by_router.saturating_add(count))
    }

    /// The connection was lost and is made again, of which the consumer hears when it gets there. Returns the waker
    /// to wake.
    pub(crate) fn lost(&self, reason: LostReason) -> Option<Waker> {
        self.interrupt(|gap| gap.lost = Some(reason))
    }

    fn interrupt(&self, note: impl FnOnce(&mut Gap)) -> Option<Waker> {
        let mut state = self.state.lock();
        if state.ended {
            return None;
        }
        state.note(note);
        state.waker.take()
    }

    /// Nothing comes any more; the consumer gets `error` after what is there.
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

    /// The next item; `None` after the end.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        // Dropping a waker may run anything, so what is replaced is dropped when the lock is not held.
        let _replaced;
        let mut state = self.state.lock();
        match state.entries.pop_front() {
            Some(Entry::Item(item, cost)) => {
                state.bytes -= cost;
                return Poll::Ready(Some(Ok(item)));
            }
            Some(Entry::Gap(mut gap)) => {
                let error = gap.take(self.limit);
                if !gap.is_empty() {
                    state.entries.push_front(Entry::Gap(gap));
                }
                return Poll::Ready(Some(Err(error)));
            }
            None => {}
        }
        if state.ended {
            return Poll::Ready(state.error.take().map(Err));
        }
        _replaced = match &state.waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => state.waker.replace(cx.waker().clone()),
        };
        Poll::Pending
    }
}

impl<T> State<T> {
    /// Notes something in the gap behind all items.
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
        self.overflow == 0 && self.lost.is_none() && self.dropped_by_router == 0
    }

    /// The next error to tell of a gap that is not empty; `limit` is that of the queue.
    fn take(&mut self, limit: usize) -> Error {
        if self.overflow > 0 {
            return Error::Overflow { limit, missed: std::mem::take(&mut self.overflow) };
        }
        if let Some(reason) = self.lost.take() {
            return Error::ConnectionLost(reason);
        }
        Error::Missed { count: std::mem::take(&mut self.dropped_by_router) }
    }
}

/// Must not be called under a lock: wakers are not ours, and may panic.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        contain("a waker", || waker.wake());
    }
}

/// The payload on its own, if it is small enough to be copied.
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
    fn a_full_stream_ends_with_an_error_behind_what_fitted() {
        let queue = Queue::new(200, WhenFull::End);
        assert!(queue.push(1, 30));
        assert!(queue.push(2, 30));
        assert!(!queue.push(3, 30));
        assert!(!queue.push(4, 30));
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(1)))));
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(2)))));
        let Poll::Ready(Some(Err(Error::Overflow { limit: 200, .. }))) = next(&queue) else {
            panic!("no error");
        };
        assert!(matches!(next(&queue), Poll::Ready(None)));
    }

    #[test]
    fn a_full_subscription_tells_the_gap_in_its_place() {
        let queue = Queue::new(200, WhenFull::Drop);
        for item in 1..=5 {
            assert!(queue.push(item, 30));
        }
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(1)))));
        assert!(queue.push(6, 0), "there is room again, but the gap comes first");
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(2)))));
        let Poll::Ready(Some(Err(Error::Overflow { missed: 4, .. }))) = next(&queue) else {
            panic!("no gap");
        };
        assert!(queue.push(7, 30));
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(7)))));
        assert!(next(&queue).is_pending());
    }

    /// All that is there, as text.
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
    fn a_full_subscription_tells_each_kind_of_gap_and_its_count() {
        let queue = Queue::new(200, WhenFull::Drop);
        for item in 1..=4 {
            queue.push(item, 30);
        }
        for _ in 0..7 {
            queue.missed(1_000_000 / 8);
        }
        queue.lost(LostReason::HungUp);
        queue.push(5, 30);
        queue.missed(1_000_000 / 8);
        queue.lost(LostReason::Stopping);
        assert_eq!(
            all(&queue),
            ["1", "2", "overflow 3", "lost: the router stops", "missed 1000000"]
        );
        queue.missed(u64::MAX);
        queue.missed(u64::MAX);
        assert_eq!(all(&queue), [format!("missed {}", u64::MAX)]);
    }

    #[test]
    fn all_of_a_gap_is_told_before_what_comes_after_it() {
        let queue = Queue::new(200, WhenFull::Drop);
        queue.push(1, 200);
        queue.push(2, 200);
        queue.lost(LostReason::HungUp);
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(1)))));
        assert!(matches!(next(&queue), Poll::Ready(Some(Err(Error::Overflow { missed: 1, .. })))));
        assert!(queue.push(3, 300), "one item always fits");
        assert_eq!(all(&queue), ["lost: the router closed it", "3"]);
    }

    #[test]
    fn gaps_take_no_more_memory_than_items() {
        let queue = Queue::new(1000, WhenFull::Drop);
        for _ in 0..1000 {
            queue.lost(LostReason::HungUp);
            queue.missed(1);
            queue.push(1, 0);
        }
        assert!(queue.state.lock().entries.len() <= 2 * 1000 / OVERHEAD + 1);
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
        assert!(queue.push(1, 1000));
        queue.end(Some(Error::Overflow { limit: 0, missed: 9 }));
        queue.end(None);
        assert!(!queue.push(2, 0));
        assert!(matches!(next(&queue), Poll::Ready(Some(Ok(1)))));
        assert!(matches!(next(&queue), Poll::Ready(Some(Err(Error::Overflow { missed: 9, .. })))));
        assert!(matches!(next(&queue), Poll::Ready(None)));
    }
}
