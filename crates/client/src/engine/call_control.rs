//! Whether a call is cancelled, as its handler sees it.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::engine::changes::wait_until;

/// The state of a call that its handler shares with the connection, or with the caller in this process.
#[derive(Debug, Default)]
pub(crate) struct CallControl {
    is_cancelled: AtomicBool,
    is_detached: AtomicBool,
    cancelled: Notify,
    /// The body of an upload, until its handler begins: a stream of bytes, or of typed parts within the process.
    body: Mutex<Option<Box<dyn Any + Send>>>,
}

impl CallControl {
    /// The caller waits no longer.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        self.cancelled.notify_waiters();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }

    /// Gives the call a body.
    pub(crate) fn set_body(&self, body: impl Any + Send) {
        *self.body.lock() = Some(Box::new(body));
    }

    /// Takes the body of the call. `None` if the call has no body, or its body has been taken.
    pub(crate) fn take_body(&self) -> Option<Box<dyn Any + Send>> {
        self.body.lock().take()
    }

    /// Waits until the call is cancelled.
    pub(crate) async fn cancelled(&self) {
        wait_until(&self.cancelled, || self.is_cancelled().then_some(())).await;
    }

    /// The handler goes on when the call is cancelled.
    pub(crate) fn detach(&self) {
        self.is_detached.store(true, Ordering::SeqCst);
        // The handler may wait for both already.
        self.cancelled.notify_waiters();
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.is_detached.load(Ordering::SeqCst)
    }

    /// Waits until the call is cancelled, and its handler goes on.
    pub(crate) async fn cancelled_when_detached(&self) {
        let goes_on = || (self.is_cancelled() && self.is_detached()).then_some(());
        wait_until(&self.cancelled, goes_on).await;
    }

    /// Whether the handler has to be dropped.
    pub(crate) fn ends_handler(&self) -> bool {
        self.is_cancelled() && !self.is_detached()
    }

    /// Waits until the handler has to be dropped.
    pub(crate) async fn handler_ends(&self) {
        wait_until(&self.cancelled, || self.ends_handler().then_some(())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    // Another task may detach the handler at the moment at which its call is cancelled.
    #[test]
    fn a_handler_that_is_detached_late_goes_on() {
        let (control, woken) = (CallControl::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        let cx = &mut Context::from_waker(&waker);
        let mut goes_on = pin!(control.cancelled_when_detached());
        assert!(goes_on.as_mut().poll(cx).is_pending());
        control.cancel();
        assert!(woken.0.swap(false, Ordering::SeqCst));
        assert!(goes_on.as_mut().poll(cx).is_pending());
        control.detach();
        assert!(woken.0.swap(false, Ordering::SeqCst));
        assert!(goes_on.as_mut().poll(cx).is_ready());
    }
}
