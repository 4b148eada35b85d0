//! Work that is done after the lock of the router's state is released.

use std::sync::Arc;

use gsb_core::{CloseReason, ConnId, Identity, Report};
use gsb_net::{LeftOut, Link};
use log::Level;

use crate::queued_frame::QueuedFrame;
use crate::turn::SLICE;

/// Longer lists are not kept for reuse.
const KEPT: usize = 256;

/// How many links are written to between two readings of the clock.
const FLUSHES: usize = 16;

/// Work that is done after the lock is released, because it takes time or runs code of users. It can be reused, so that
/// its memory is allocated once.
///
/// Dropping it does the remaining work: a task that is cancelled between two steps must not leave a closed connection
/// open.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    pub(crate) flush: Vec<Arc<Link<QueuedFrame>>>,
    pub(crate) close: Vec<Arc<Link<QueuedFrame>>>,
    pub(crate) log: Vec<(Level, ConnId, Identity, Event, LeftOut)>,
}

/// An event of a connection that is logged.
#[derive(Debug)]
pub(crate) enum Event {
    Closed(CloseReason),
    Report(Report),
}

impl Deferred {
    /// Does a part of the work. Returns whether more is left; other tasks should run first.
    pub(crate) fn run_for_a_while(&mut self) -> bool {
        let mut begin = None;
        loop {
            let some = self.flush.len().saturating_sub(FLUSHES)..;
            for link in self.flush.drain(some) {
                link.flush();
            }
            if self.flush.is_empty() {
                self.run();
                return false;
            }
            if begin.get_or_insert_with(tokio::time::Instant::now).elapsed() >= SLICE {
                return true;
            }
        }
    }

    pub(crate) fn run(&mut self) {
        for link in self.flush.drain(..) {
            link.flush();
        }
        for link in self.close.drain(..) {
            link.close();
        }
        for (level, connection, identity, event, left_out) in self.log.drain(..) {
            match event {
                Event::Closed(reason) => {
                    log::log!(level, "connection {connection} of {identity} {reason}{left_out}");
                }
                Event::Report(report) => {
                    log::log!(level, "connection {connection} of {identity} {report}{left_out}");
                }
            }
        }
        self.flush.shrink_to(KEPT);
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        self.run();
    }
}
