//! A batch: frames for one link that are pushed together.

use gsb_proto::{Framing, Outgoing};

use crate::queue::{COPIED, Queue, QueuedFrame};

/// Frames for one [`Link`](crate::Link): [pushed](crate::Link::push_batch) together, under one lock. It can be
/// reused, so that its memory is allocated once.
pub struct Batch<T> {
    queue: Queue<T>,
    queued: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Batch { queue: Queue::default(), queued: 0 }
    }
}

impl<T> std::fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("queued", &self.queued).finish_non_exhaustive()
    }
}

impl<T: QueuedFrame> Batch<T> {
    /// Appends a frame. `companion` makes its [`QueuedFrame`](crate::QueuedFrame), or adds the frame to the one before
    /// it; then the two are written as one.
    pub fn push(
        &mut self,
        framing: Framing,
        frame: Outgoing<'_>,
        companion: impl FnOnce(Option<&mut T>) -> Option<T>,
    ) {
        // `None` is a Hello for a classic connection, where that message does not exist.
        self.queued += self.queue.push(framing, frame, COPIED, companion).unwrap_or(0);
    }

    /// The number of bytes.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Drops all frames.
    pub fn clear(&mut self) {
        *self = Batch::default();
    }

    /// The queue of all frames.
    pub(crate) fn take(&mut self) -> &mut Queue<T> {
        self.queued = 0;
        &mut self.queue
    }
}
