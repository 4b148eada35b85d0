//! The limit for what all connections hold together (rule LI-5).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Usage is added up in units of so many bytes, so that few changes of an account touch the sum.
const BLOCK: usize = 4 << 10;

/// What counts as the queue limit of a connection while the sum is above its limit, in bytes.
const SHORT_LIMIT: usize = 64 << 10;

/// The sum of all accounts. Of each account and purpose whole blocks count.
#[derive(Debug)]
pub(crate) struct Total {
    used: AtomicUsize,
    limit: usize,
    /// The sum was above the limit, and has not fallen to three quarters of it since.
    is_short: AtomicBool,
}

impl Total {
    pub(crate) fn new(limit: usize) -> Self {
        Total { used: AtomicUsize::new(0), limit, is_short: AtomicBool::new(false) }
    }

    /// The usage of an account for one purpose has changed.
    #[inline]
    pub(super) fn changed(&self, before: usize, after: usize) {
        let (before, after) = (before / BLOCK, after / BLOCK);
        if before != after {
            self.add(after.wrapping_sub(before).wrapping_mul(BLOCK));
        }
    }

    /// Adds a number of bytes, which may be negative in two's complement.
    fn add(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::SeqCst).wrapping_add(bytes);
        if used > self.limit {
            self.is_short.store(true, Ordering::Relaxed);
        } else if used <= self.limit / 4 * 3 && self.is_short.load(Ordering::Relaxed) {
            self.is_short.store(false, Ordering::Relaxed);
        }
    }

    /// What counts for a connection whose queue limit is `limit`.
    #[inline]
    pub(super) fn queue_limit(&self, limit: usize) -> usize {
        if self.is_short.load(Ordering::Relaxed) { limit.min(SHORT_LIMIT) } else { limit }
    }

    /// Whether the sum is above its limit.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::SeqCst) > self.limit
    }
}
