//! Watching how a bus stands with its router.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::panics::contain_waker;
use crate::shared::Shared;
use crate::status::Status;

/// Watches the [`Status`] of a bus, without holding the bus. A change that is followed by another before
/// it was looked at may be skipped.
///
/// A name that the router refuses again, for the same reason, is no change, so that a standby whose name another program
/// holds for days is not woken all the time. [`StatusWatch::current`] has its latest
/// [`refusals`](crate::Refused::refusals).
#[derive(Clone)]
pub struct StatusWatch {
    shared: Arc<Shared>,
    receiver: watch::Receiver<u64>,
    /// The number of the last status that was seen.
    seen: u64,
    /// The end was seen.
    is_over: bool,
}

impl fmt::Debug for StatusWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusWatch").field("bus", &self.shared).finish_non_exhaustive()
    }
}

impl StatusWatch {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let receiver = shared.changes().subscribe();
        let (seen, is_over) = shared.status_number();
        StatusWatch { shared, receiver, seen, is_over }
    }

    /// The status now.
    pub fn current(&self) -> Status {
        self.shared.status()
    }

    /// Waits for a change since the last one that was seen, and returns it; `None` when the bus has ended
    /// and that was seen.
    pub async fn changed(&mut self) -> Option<Status> {
        loop {
            if self.is_over {
                return None;
            }
            if self.shared.status_number().0 > self.seen {
                return Some(self.look());
            }
            contain_waker(self.receiver.changed()).await.ok()?;
        }
    }

    /// Waits until the status is as wanted, which it may be now; `None` when the bus has ended first.
    pub async fn wait_for(&mut self, mut is_it: impl FnMut(&Status) -> bool) -> Option<Status> {
        loop {
            // A copy, because `is_it` may do something with the bus that changes the status.
            let status = self.look();
            if is_it(&status) {
                return Some(status);
            }
            if self.is_over {
                return None;
            }
            while self.shared.status_number().0 == self.seen {
                contain_waker(self.receiver.changed()).await.ok()?;
            }
        }
    }

    fn look(&mut self) -> Status {
        let (number, status) = self.shared.numbered_status();
        self.seen = number;
        self.is_over = status.is_over();
        status
    }
}
