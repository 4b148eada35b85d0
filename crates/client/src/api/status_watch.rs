//! Watching the status of a bus.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::engine::Engine;
use crate::panics::contain_waker;
use crate::status::Status;

/// Watches the [`Status`] of a bus. It does not keep the bus alive. If the status changes several times before it is
/// read, only the last one is seen.
///
/// A name that the router refuses again for the same reason is not a change, so that a standby is not woken each time.
/// [`StatusWatch::current`] has the latest number of [`refusals`](crate::Refused::refusals).
#[derive(Clone)]
pub struct StatusWatch {
    engine: Arc<Engine>,
    receiver: watch::Receiver<u64>,
    /// The version of the last status that was seen.
    seen: u64,
    /// The last status of the bus was seen.
    is_over: bool,
}

impl fmt::Debug for StatusWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusWatch").field("bus", &self.engine).finish_non_exhaustive()
    }
}

impl StatusWatch {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let receiver = engine.changes().subscribe();
        let (seen, is_over) = engine.status_version();
        StatusWatch { engine, receiver, seen, is_over }
    }

    /// The status now.
    pub fn current(&self) -> Status {
        self.engine.status()
    }

    /// Waits for a status that differs from the last one seen. `None` after the bus has ended and its last status was
    /// seen.
    pub async fn changed(&mut self) -> Option<Status> {
        loop {
            if self.is_over {
                return None;
            }
            if self.engine.status_version().0 > self.seen {
                return Some(self.look());
            }
            contain_waker(self.receiver.changed()).await.ok()?;
        }
    }

    /// Waits for a status that matches, which may be the current one. `None` if the bus ends before.
    pub async fn wait_for(&mut self, mut matches: impl FnMut(&Status) -> bool) -> Option<Status> {
        loop {
            // A copy, because `matches` may call the bus and change its status.
            let status = self.look();
            if matches(&status) {
                return Some(status);
            }
            if self.is_over {
                return None;
            }
            while self.engine.status_version().0 == self.seen {
                contain_waker(self.receiver.changed()).await.ok()?;
            }
        }
    }

    fn look(&mut self) -> Status {
        let (version, status) = self.engine.versioned_status();
        self.seen = version;
        self.is_over = status.is_over();
        status
    }
}
