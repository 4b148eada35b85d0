//! What has come and is not consumed yet: bounded in bytes, filled without waiting.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Error;

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
    items: VecDeque<(Result<T, Error>, usize)>,
    bytes: usize,
    missed: u64,
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
                items: VecDeque::new(),
                bytes: 0,
                missed: 0,
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
        let (wanted, waker) = self.push_quietly(Ok(item), length);
        wake(waker);
        wanted
    }

    /// Adds an item, or an error that is not the end. Returns whether more is wanted, and whom to wake:
    /// for whoever holds a lock and must not do so yet.
    pub(crate) fn push_quietly(
        &self,
        item: Result<T, Error>,
        length: usize,
    ) -> (bool, Option<Waker>) {
        let mut state = self.state.lock();
        if state.ended {
            return (false, None);
        }
        let cost = length + OVERHEAD;
        let fits = state.items.is_empty() || state.bytes + cost <= self.limit;
        // After a gap nothing is taken until the consumer has seen it, so that it comes in its place.
        if fits && state.missed == 0 {
            state.bytes += cost;
            state.items.push_back((item, cost));
        } else {
            state.missed += 1;
            if self.when_full == WhenFull::End {
                let error = self.overflow(&mut state);
                state.ended = true;
                state.error = Some(error);
            }
        }
        (!state.ended, state.waker.take())
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
        if let Some((item, cost)) = state.items.pop_front() {
            state.bytes -= cost;
            return Poll::Ready(Some(item));
        }
        if state.missed > 0 {
            return Poll::Ready(Some(Err(self.overflow(&mut state))));
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

    fn overflow(&self, state: &mut State<T>) -> Error {
        Error::Overflow { limit: self.limit, missed: std::mem::take(&mut state.missed) }
    }
}

/// Must not be called under a lock: wakers are not ours.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
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
