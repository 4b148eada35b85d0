//! Panics in code of users: handlers, destructors and wakers.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

/// Runs code of users. Catches a panic and logs it, with `what` as its origin.
pub(crate) fn contain(what: impl fmt::Display, run: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
        discard(payload);
        log::error!("{what} panicked");
    }
}

/// Drops the payload of a panic. If its destructor panics as well, the payload of that second panic is leaked.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// A waker whose panics are contained.
struct ContainedWaker(Waker);

impl Wake for ContainedWaker {
    fn wake(self: Arc<Self>) {
        contain("a waker of the program", || self.0.wake_by_ref());
    }
}

/// Polls a future with a waker whose panics are contained. Tokio wakes all tasks that wait for one event in a
/// loop; a panic there would leave the other tasks asleep.
///
/// It allocates for the first poll, and again when the waker changes.
pub(crate) async fn contain_waker<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    // The waker of the last poll, and the same waker contained.
    let mut known: Option<(Waker, Waker)> = None;
    poll_fn(|cx| {
        let (_, contained) = match known.take() {
            Some(same) if same.0.will_wake(cx.waker()) => known.insert(same),
            _ => {
                let waker = cx.waker().clone();
                let contained = Waker::from(Arc::new(ContainedWaker(waker.clone())));
                known.insert((waker, contained))
            }
        };
        future.as_mut().poll(&mut Context::from_waker(contained))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics when it is dropped, with another bomb as the payload.
    struct Bomb(u32, Arc<()>);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if let Some(fewer) = self.0.checked_sub(1) {
                std::panic::panic_any(Bomb(fewer, self.1.clone()));
            }
        }
    }

    #[test]
    fn a_payload_is_dropped_even_if_its_destructor_panics() {
        let (quiet, held) = (Arc::new(()), Arc::new(()));
        discard(Box::new(quiet.clone()));
        assert_eq!(Arc::strong_count(&quiet), 1);
        discard(Box::new(Bomb(3, held.clone())));
        assert_eq!(Arc::strong_count(&held), 2, "only what has panicked again is leaked");
    }

    // A handler that runs waits for its cancellation, too, and is polled often.
    #[test]
    fn a_future_that_is_polled_again_with_the_same_waker_does_not_allocate() {
        let waker = Waker::from(Arc::new(ContainedWaker(Waker::noop().clone())));
        let mut waiting = pin!(contain_waker(std::future::pending::<()>()));
        let mut poll = |waker: &Waker| {
            let cx = &mut Context::from_waker(waker);
            let poll = || assert!(waiting.as_mut().poll(cx).is_pending());
            allocation_counter::measure(poll).count_total
        };
        assert_eq!([poll(&waker), poll(&waker.clone()), poll(Waker::noop())], [1, 0, 1]);
    }

    #[test]
    fn a_panic_is_contained() {
        contain("a test", || std::panic::panic_any(Bomb(1, Arc::default())));
    }
}
