//! Stopping a router: in which order its calls and connections end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gsb_core::LONGEST_TIMEOUT;
use tokio::sync::Notify;

use crate::router_state::RouterState;

/// How long a stopping router waits for queued frames to be written, and then for its connections to close.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Stops a [`Router`](crate::Router). May be used on any thread.
#[derive(Debug, Clone)]
pub struct ShutdownHandle {
    stop: Arc<Stop>,
}

/// Not a watch channel, which wakes its receivers in a random order: a simulated run must be repeatable.
#[derive(Debug, Default)]
struct Stop {
    is_requested: AtomicBool,
    requested: Notify,
}

impl ShutdownHandle {
    pub(crate) fn new() -> Self {
        ShutdownHandle { stop: Arc::default() }
    }

    /// Asks the router to stop. Has no effect on a router that has stopped.
    pub fn shutdown(&self) {
        self.stop.is_requested.store(true, Ordering::SeqCst);
        self.stop.requested.notify_waiters();
    }

    /// Completes when the router was asked to stop.
    pub(crate) async fn requested(&self) {
        let mut requested = pin!(self.stop.requested.notified());
        requested.as_mut().enable();
        if !self.stop.is_requested.load(Ordering::SeqCst) {
            requested.await;
        }
    }
}

/// Ends the calls and connections of a router that accepts no more: tells the peers, refuses new calls, gives the open
/// ones `drain_timeout` to end, ends the rest, tells the peers that nothing more is handled, waits until queued frames are
/// written, and closes all connections.
pub(crate) async fn drain(state: &RouterState, drain_timeout: Duration) {
    state.begin_to_stop().await;
    if timeout(state, drain_timeout, state.is_idle()).await.is_none() {
        let open = state.usage().open_calls;
        log::warn!(
            "{open} calls are still open after {} s (--drain-timeout) and end now",
            drain_timeout.as_secs_f64()
        );
    }
    state.finish_stopping().await;
    let links = state.stop();
    let flushed = async {
        for link in &links {
            link.drained().await;
        }
    };
    if timeout(state, FLUSH_TIMEOUT, flushed).await.is_none() {
        log::warn!(
            "some peers did not read the rest of their queues within {} s; the rest is lost",
            FLUSH_TIMEOUT.as_secs_f64()
        );
    }
    for link in links {
        link.close();
    }
}

/// The result of a future that completes before the router has run for `time`.
async fn timeout<T>(
    state: &RouterState,
    time: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let deadline = state.clock.now() + time.min(LONGEST_TIMEOUT);
    tokio::select! {
        biased;
        result = future => Some(result),
        () = state.clock.sleep_until(deadline) => None,
    }
}

/// Closes all connections when dropped. Their tasks run beside [`Router::run`](crate::Router::run), and only a
/// destructor runs when that future is dropped.
pub(crate) struct CloseOnDrop(pub(crate) Arc<RouterState>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        for link in self.0.stop() {
            link.close();
        }
    }
}
