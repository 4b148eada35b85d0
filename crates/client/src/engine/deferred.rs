//! Work that follows a change of the state, and is done after its lock is released.

use std::sync::Arc;
use std::task::Waker;

use gsb_net::Link;
use tokio::sync::oneshot;

use crate::engine::pending_calls::PendingCall;
use crate::engine::queue::Queue;
use crate::engine::request::{Counted, Outcome, OutcomeSender};
use crate::engine::service_entry::ServiceEntry;
use crate::error::Error;
use crate::event::Broadcast;
use crate::panics::contain;
use crate::status::Refused;

/// Work that must not be done under the lock: it does I/O, or runs code of users.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    pub(crate) flush: Option<Arc<Link>>,
    pub(crate) close: Option<Arc<Link>>,
    pub(crate) outcomes: Vec<(OutcomeSender, Outcome)>,
    pub(crate) counts: Vec<(oneshot::Sender<Counted>, Counted)>,
    pub(crate) wakers: Vec<Waker>,
    pub(crate) lost_calls: Vec<(PendingCall, Error)>,
    pub(crate) ended_queues: Vec<(Arc<Queue<Broadcast>>, Option<Error>)>,
    pub(crate) dropped: Vec<Arc<ServiceEntry>>,
    /// Refusals to be logged.
    pub(crate) refused: Vec<Arc<Refused>>,
    /// The time of the next retry of a refused name may have changed.
    pub(crate) retry_changed: bool,
    /// The status may have changed.
    pub(crate) status_changed: bool,
    /// Watchers of the status are notified of many changes at once, by `Engine::notify_batched`.
    pub(crate) notify_later: bool,
}

impl Deferred {
    pub(crate) fn run(self) {
        if let Some(link) = self.flush {
            link.flush();
        }
        if let Some(link) = self.close {
            link.close();
        }
        // Wakers and destructors are code of users. If one panics, the others still have to run.
        for (sender, outcome) in self.outcomes {
            // The receiver may be gone.
            contain("a waker of the program", || drop(sender.send(outcome)));
        }
        for (sender, count) in self.counts {
            contain("a waker of the program", || drop(sender.send(count)));
        }
        for waker in self.wakers {
            contain("a waker of the program", || waker.wake());
        }
        for (call, error) in self.lost_calls {
            call.fail(error);
        }
        for (queue, error) in self.ended_queues {
            queue.end(error);
        }
        // A service contains the panics of its handler's destructor itself.
        drop(self.dropped);
    }
}
