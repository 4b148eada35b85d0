//! What tasks are told of a bus: which changes of its state are news, and to whom.

use std::pin::pin;

use tokio::sync::{Notify, watch};

use crate::panics::contain_waker;
use crate::status::Connection;

/// The part of a bus's state that tasks wait for. Compared with what it was before, which costs the same however many
/// names a bus has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) connection: Connection,
    pub(crate) is_settled: bool,
    pub(crate) is_serving: bool,
    /// Differs whenever the list of refused names does.
    pub(crate) refusals: u64,
    /// Whether the router may still send calls for names that were given back.
    pub(crate) is_unregistering: bool,
}

/// Changes that tasks are to be told of.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// The number of the status, if it is a new one.
    status: Option<u64>,
    connection: bool,
    names: bool,
}

impl News {
    /// Adds what differs between two summaries; `version` is the number of the status.
    pub(crate) fn add(&mut self, before: &Summary, now: &Summary, version: u64) {
        self.status = Some(version);
        self.connection |= before.connection != now.connection;
        self.names |= now.is_settled && !before.is_settled;
        self.names |= before.is_unregistering && !now.is_unregistering;
    }
}

/// Wakes the tasks that wait for a change of a bus.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The number of the last status that watchers were told of. They look the status itself up.
    status: watch::Sender<u64>,
    /// The connection was made, or lost, or the bus has ended.
    pub(crate) connection: Notify,
    /// The router has answered for all names, or confirmed all that were given back; or as `connection`.
    pub(crate) names: Notify,
}

impl Default for Changes {
    fn default() -> Self {
        Changes { status: watch::Sender::new(0), connection: Notify::new(), names: Notify::new() }
    }
}

impl Changes {
    /// Wakes all who wait for these. Must not be called under a lock: wakers are not ours. They are
    /// [contained](contain_waker) by those who wait.
    pub(crate) fn tell(&self, news: News) {
        if let Some(version) = news.status {
            // Another thread may have told of a later one.
            let update = |known: &mut u64| {
                let is_newer = version > *known;
                *known = version.max(*known);
                is_newer
            };
            self.status.send_if_modified(update);
        }
        if news.connection {
            self.connection.notify_waiters();
        }
        if news.connection || news.names {
            self.names.notify_waiters();
        }
    }

    /// The numbers of the statuses to come.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.status.subscribe()
    }
}

/// Waits until `look` finds something, now or after a notification. Tasks are woken in the order in which they came.
pub(crate) async fn when<R>(changed: &Notify, mut look: impl FnMut() -> Option<R>) -> R {
    loop {
        let mut changed = pin!(changed.notified());
        changed.as_mut().enable();
        if let Some(found) = look() {
            return found;
        }
        contain_waker(changed).await;
    }
}
