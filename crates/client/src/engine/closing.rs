//! How a bus ends: by its last handle, by `close`, by `shutdown`, or with its runtime.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::changes::wait_until;
use crate::engine::nesting::handlers_of;
use crate::engine::request::Outcome;
use crate::error::{Error, LostReason};
use crate::status::NameKind;
use crate::timeouts::with_timeout;

/// How long a shutdown waits for the end of handlers that it has dropped, and until their callers are told.
const STOPPING_TIMEOUT: Duration = Duration::from_secs(1);

/// Ends the bus when it is dropped, so that a shutdown whose future is dropped ends the bus, too.
struct EndGuard<'a>(&'a Engine);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.end_in_destructor();
    }
}

impl Engine {
    /// The last handle was dropped. The connection's task still writes queued frames, for a limited time.
    pub(crate) fn finish(&self) {
        match self.has_router {
            true => self.finish.notify_one(),
            false => self.end_in_destructor(),
        }
    }

    /// Waits until the last handle was [dropped](Engine::finish), or the bus has ended.
    pub(crate) async fn finished(&self) {
        self.finish.notified().await;
    }

    /// Ends the bus.
    pub(crate) fn end(&self, reason: &LostReason) {
        self.change(|state, deferred| state.end(reason, deferred));
        self.ended_now();
    }

    /// [`end`](Engine::end) for destructors: the connection's task closes the connection.
    fn end_in_destructor(&self) {
        self.change_in_destructor(|state, deferred| state.end(&LostReason::Closed, deferred));
        self.ended_now();
    }

    fn ended_now(&self) {
        self.services_changed.notify_waiters();
        self.finish.notify_one();
    }

    /// Gives all names back, waits for the handlers that run, and sends queued frames, all within `timeout`. Drops the
    /// handlers that run longer. Then ends the bus.
    pub(crate) async fn shut_down(&self, timeout: Duration) -> Outcome {
        let work = async {
            self.change(|state, deferred| {
                state.is_stopping = true;
                for id in state.announcements.names(NameKind::Service) {
                    drop(state.remove_name(NameKind::Service, &id, None, deferred));
                }
            });
            // Until the router has confirmed that the names are free, it may send calls to them. They are served, as
            // are those to names that were given back before.
            let are_free = || (!self.state.lock().is_unregistering()).then_some(());
            wait_until(&self.changes.names, are_free).await;
            self.running_calls.wait().await;
            self.close_gracefully().await;
            Ok(())
        };
        let guard = EndGuard(self);
        let mut is_done = with_timeout(Some(timeout), "", work).await.is_ok();
        // A handler that shuts the bus down must not drop itself.
        let is_handler = handlers_of(self.running_calls.bus()) > 0;
        if !is_done && !is_handler && self.running_calls.count() > 0 {
            is_done = self.stop_handlers().await;
        }
        let running = self.running_calls.count();
        self.end(&LostReason::Closed);
        drop(guard);
        if is_done { Ok(()) } else { Err(Error::Unfinished { running, after: timeout }) }
    }

    /// Drops the handlers that run. Returns whether all have ended, and their callers were told.
    async fn stop_handlers(&self) -> bool {
        self.running_calls.stop();
        let stopped = async {
            self.running_calls.wait_stopped().await;
            self.close_gracefully().await;
        };
        tokio::time::timeout(STOPPING_TIMEOUT, stopped).await.is_ok()
    }

    /// Sends queued frames within the request timeout, then ends the bus.
    pub(crate) async fn close(&self) {
        let _guard = EndGuard(self);
        // A router that has not read it by then has stopped reading.
        let _ = tokio::time::timeout(self.options.request_timeout, self.close_gracefully()).await;
        self.end(&LostReason::Closed);
    }

    /// Sends queued frames, then the end of the stream, and waits until the router closes its side. A connection
    /// that is closed before that drops what the router has not read.
    async fn close_gracefully(&self) {
        let Ok(link) = self.state.lock().link().cloned() else {
            return;
        };
        let intake = self.state.lock().with_session(|session| session.intake.clone());
        link.flush();
        if let Some(intake) = intake.and_then(|intake| intake.upgrade()) {
            intake.all_sent().await;
        }
        link.drained().await;
        self.change(|state, _| state.is_closing = true);
        link.finish();
        let is_over = || (!self.state.lock().is_connected_over(&link)).then_some(());
        wait_until(&self.changes.connection, is_over).await;
    }

    /// Writes queued frames, as far as the router takes them within `time`. Blocks the thread, see
    /// [`TaskGuard`](crate::engine::connection).
    pub(crate) fn write_blocking(&self, time: Duration) {
        let link = self.state.lock().link().cloned();
        if let Ok(link) = link {
            link.write_within(time);
        }
    }

    /// Whether this side has sent the end of the stream, so that the loss of the connection ends the bus.
    pub(crate) fn is_closing(&self) -> bool {
        self.state.lock().is_closing
    }
}
