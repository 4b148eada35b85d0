//! Notifying the tasks that wait for a change of a bus.

use std::pin::pin;

use tokio::sync::{Notify, watch};

use crate::panics::contain_waker;
use crate::status::Connection;

/// The part of the state that tasks wait for. Its size does not depend on the number of names, so comparing it with
/// the one before always costs the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusSummary {
    pub(crate) connection: Connection,
    pub(crate) is_settled: bool,
    pub(crate) is_serving: bool,
    /// Changes whenever the list of refused names does.
    pub(crate) refusals: u64,
    /// Whether the router may still send calls for names that were given back.
    pub(crate) is_unregistering: bool,
}

/// Changes that tasks are to be notified of.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The version of the status, if it is a new one.
    version: Option<u64>,
    connection: bool,
    names: bool,
}

impl Changes {
    /// Adds the differences between two summaries. `version` is the version of the status.
    pub(crate) fn add(&mut self, before: &StatusSummary, now: &StatusSummary, version: u64) {
        self.version = Some(version);
        self.connection |= before.connection != now.connection;
        self.names |= now.is_settled && !before.is_settled;
        self.names |= before.is_unregistering && !now.is_unregistering;
    }
}

/// Notifies the tasks that wait for a change of a bus.
#[derive(Debug)]
pub(crate) struct ChangeNotifier {
    /// The version of the last status that watchers were notified of. They read the status itself from the bus.
    version: watch::Sender<u64>,
    /// The connection was made or lost, or the bus has ended.
    pub(crate) connection: Notify,
    /// The router has answered for all names, or has confirmed all that were given back; or as `connection`.
    pub(crate) names: Notify,
}

impl Default for ChangeNotifier {
    fn default() -> Self {
        ChangeNotifier {
            version: watch::Sender::new(0),
            connection: Notify::new(),
            names: Notify::new(),
        }
    }
}

impl ChangeNotifier {
    /// Notifies the tasks that wait for these changes. Wakers are code of users: not to be called
    /// under a lock. The waiting tasks [contain](contain_waker) their panics.
    pub(crate) fn notify(&self, changes: Option<Changes>) {
        let Some(changes) = changes else {
            return;
        };
        if let Some(version) = changes.version {
            // Another thread may have notified of a later version already.
            let update = |known: &mut u64| {
                let is_newer = version > *known;
                *known = version.max(*known);
                is_newer
            };
            self.version.send_if_modified(update);
        }
        if changes.connection {
            self.connection.notify_waiters();
        }
        if changes.connection || changes.names {
            self.names.notify_waiters();
        }
    }

    /// The versions of the statuses to come.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

/// Waits until `look` returns something, now or after a notification. Tasks are woken in the order in which they
/// began to wait.
pub(crate) async fn wait_until<R>(changed: &Notify, mut look: impl FnMut() -> Option<R>) -> R {
    loop {
        let mut changed = pin!(changed.notified());
        changed.as_mut().enable();
        if let Some(found) = look() {
            return found;
        }
        contain_waker(changed).await;
    }
}
