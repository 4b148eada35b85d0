//! Credit: how many bytes of a stream its sender may still send (rules CA-14 and CA-15).

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::sync::Notify;

use crate::engine::changes::wait_until;

/// The credit for the body of a request with which its caller begins, in bytes (rule CA-15).
pub(crate) const FIRST_CREDIT: usize = 65_536;

/// What an item takes from a credit besides the length of its data, in bytes.
const ITEM: usize = 64;

/// What an item with `length` bytes of data takes from a credit, in bytes.
pub(crate) fn cost(length: usize) -> usize {
    length.saturating_add(ITEM)
}

/// The credit of the sender of one stream. One task sends, and the task of the connection adds.
#[derive(Debug)]
pub(crate) struct Credit {
    /// May be below 0: an item may be sent as long as it is more than 0.
    left: AtomicI64,
    is_closed: AtomicBool,
    changed: Notify,
}

impl Credit {
    pub(crate) fn new(bytes: u64) -> Self {
        Credit {
            left: AtomicI64::new(signed(bytes)),
            is_closed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// The receiver grants more.
    pub(crate) fn add(&self, bytes: u64) {
        self.change(signed(bytes));
        self.changed.notify_waiters();
    }

    /// The call has ended: no further item is sent.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits until the call has ended.
    pub(crate) async fn closed(&self) {
        wait_until(&self.changed, || self.is_closed.load(Ordering::SeqCst).then_some(())).await;
    }

    /// An item with `length` bytes of data is sent.
    pub(crate) fn take(&self, length: usize) {
        self.change(-signed(cost(length) as u64));
    }

    /// Whether an item may be sent.
    pub(crate) fn is_available(&self) -> bool {
        self.left.load(Ordering::SeqCst) > 0
    }

    /// Waits until an item may be sent.
    pub(crate) async fn available(&self) {
        wait_until(&self.changed, || self.is_available().then_some(())).await;
    }

    fn change(&self, bytes: i64) {
        let change = |left: i64| Some(left.saturating_add(bytes));
        // It never fails, because `change` always returns a value.
        let _ = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
    }
}

/// Sums saturate, so that a larger number means as much.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn is_available(credit: &Credit) -> bool {
        credit.available().now_or_never().is_some()
    }

    #[test]
    fn the_last_item_may_take_more_than_is_left() {
        let credit = Credit::new(65);
        credit.take(0);
        assert!(is_available(&credit));
        credit.take(1000);
        assert!(!is_available(&credit));
        credit.add(1063);
        assert!(!is_available(&credit));
        credit.add(1);
        assert!(is_available(&credit));
    }

    #[test]
    fn sums_saturate() {
        let credit = Credit::new(u64::MAX);
        credit.add(u64::MAX);
        credit.take(usize::MAX);
        credit.take(usize::MAX);
        credit.take(usize::MAX);
        assert!(!is_available(&credit));
        credit.add(u64::MAX);
        credit.add(u64::MAX);
        assert!(is_available(&credit));
    }
}
