//! Counts the calls that are running, so that a shutdown can wait for their end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Fuse};
use tokio::sync::Notify;

use crate::engine::changes::wait_until;
use crate::engine::nesting::{self, BusId};
use crate::panics::contain_waker;

/// A future that ends when the handlers of a bus have to be dropped. It may be polled after its end.
pub(crate) type Stopped = Fuse<BoxFuture<'static, ()>>;

/// The calls that the services of a bus are handling.
#[derive(Debug, Default)]
pub(crate) struct RunningCalls {
    running: AtomicUsize,
    /// The handlers that wait for the end of all others, and are not waited for.
    waiting: AtomicUsize,
    /// The streams within the process: each runs only while its reader polls it.
    held: AtomicUsize,
    /// A task waits for the end of all calls. All operations are sequentially consistent, so that either the task that
    /// ends a call sees this, or the waiting task sees the end.
    is_awaited: AtomicBool,
    ended: Notify,
    /// All handlers have to be dropped, because a shutdown has waited long enough.
    is_stopped: AtomicBool,
    stopped: Notify,
}

/// Handlers that wait for the end of all others, until this is dropped.
struct WaitingHandlers<'a> {
    running_calls: &'a RunningCalls,
    handlers: usize,
}

impl Drop for WaitingHandlers<'_> {
    fn drop(&mut self) {
        self.running_calls.waiting.fetch_sub(self.handlers, Ordering::SeqCst);
    }
}

impl RunningCalls {
    /// A call begins.
    pub(crate) fn begin(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
    }

    /// A call has ended.
    pub(crate) fn end(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) {
            self.ended.notify_waiters();
        }
    }

    /// The handler of a call is held by its reader.
    pub(crate) fn hold(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
    }

    /// The handler of a call is no longer held by its reader. The call is about to end, or goes on by itself.
    pub(crate) fn release(&self) {
        self.held.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether the handlers have to be dropped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// Drops the handlers that wait, except those that are detached.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.stopped.notify_waiters();
    }

    /// Waits until the handlers have to be dropped.
    pub(crate) fn stopped(self: &Arc<Self>) -> Stopped {
        let calls = self.clone();
        let stopped = async move {
            let is_stopped = || calls.is_stopped().then_some(());
            wait_until(&calls.stopped, is_stopped).await;
        };
        stopped.boxed().fuse()
    }

    /// Identifies the bus.
    pub(crate) fn bus(&self) -> BusId {
        BusId(std::ptr::from_ref(self).addr())
    }

    /// How many calls are running, without the handlers that wait for the others.
    pub(crate) fn count(&self) -> usize {
        let waiting = self.waiting.load(Ordering::SeqCst);
        self.running.load(Ordering::SeqCst).saturating_sub(waiting)
    }

    /// Notes the handlers that the caller is a part of: they wait for the end of all others, and must not be waited
    /// for.
    fn exempt_own_handlers(&self) -> WaitingHandlers<'_> {
        let handlers = nesting::handlers_of(self.bus());
        self.waiting.fetch_add(handlers, Ordering::SeqCst);
        self.ended.notify_waiters();
        WaitingHandlers { running_calls: self, handlers }
    }

    /// Waits until no call is running, except for the handlers that wait themselves.
    pub(crate) async fn wait(&self) {
        self.wait_until(|| self.count() == 0).await;
    }

    /// [`wait`](RunningCalls::wait) after [`stop`](RunningCalls::stop): without the streams that readers hold, which end
    /// when they are read.
    pub(crate) async fn wait_stopped(&self) {
        self.wait_until(|| self.count() <= self.held.load(Ordering::SeqCst)).await;
    }

    async fn wait_until(&self, is_over: impl Fn() -> bool) {
        self.is_awaited.store(true, Ordering::SeqCst);
        let _exempt = self.exempt_own_handlers();
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if is_over() {
                return;
            }
            contain_waker(ended).await;
        }
    }
}
