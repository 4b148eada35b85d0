//! The outbox: frames that wait for their socket.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use gsb_proto::framing::MAX_HEADER;
use gsb_proto::{Framing, Outgoing};

use crate::batch::Batch;
use crate::queue::{COPIED, PIECES, Queue, QueuedFrame, cut};

/// The largest body that is copied if more than [`BACKLOG`] is queued, in bytes. A copied body does not keep alive the
/// larger buffer that it was read into, so a frame that waits long takes little more memory than its own bytes.
const COPIED_TO_WAIT: usize = 64 << 10;

/// A queue of more bytes than this belongs to a peer that reads slowly.
const BACKLOG: usize = 256 << 10;

/// How many frames are visited or dropped in one step, during which other tasks wait.
const STEP: usize = 1024;

/// The error of a frame that exceeds the limit of the outbox. It was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxFull {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Encoded frames, in the order in which they are written.
pub(crate) struct Outbox<T> {
    queue: Queue<T>,
    /// How many of the first frames were visited.
    visited: usize,
    /// The number of queued bytes.
    queued: usize,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Outbox { queue: Queue::default(), visited: 0, queued: 0 }
    }
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("queued", &self.queued).finish_non_exhaustive()
    }
}

impl<T: QueuedFrame> Outbox<T> {
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Appends a frame and its [`QueuedFrame`], as [`Queue::push`] does. A frame larger than the limit is admitted when
    /// nothing else is queued.
    pub(crate) fn push(
        &mut self,
        framing: Framing,
        frame: Outgoing<'_>,
        companion: impl FnOnce(Option<&mut T>) -> Option<T>,
        limit: usize,
    ) -> Result<(), OutboxFull> {
        let most = frame.body_len() + MAX_HEADER;
        if !self.is_empty() && self.queued.saturating_add(most) > limit {
            return Err(OutboxFull { limit });
        }
        let copied = self.copied(most);
        self.queued += self.queue.push(framing, frame, copied, companion).unwrap_or(0);
        Ok(())
    }

    /// Appends all frames of a batch.
    pub(crate) fn push_batch(&mut self, batch: &mut Batch<T>) {
        let copied = self.copied(batch.queued());
        self.queued += batch.queued();
        self.queue.push_all(batch.take(), copied);
    }

    /// The largest body that is copied if `more` bytes are added to the queue, in bytes.
    fn copied(&self, more: usize) -> usize {
        if self.queued + more > BACKLOG { COPIED_TO_WAIT } else { COPIED }
    }

    /// Removes all queued bytes, to be written.
    pub(crate) fn take(&mut self) -> VecDeque<Bytes> {
        self.queue.seal();
        std::mem::take(&mut self.queue.pieces)
    }

    /// Records that `written` of the removed bytes were written, and puts the rest back to the front.
    pub(crate) fn put_back(&mut self, mut rest: VecDeque<Bytes>, written: usize) {
        self.queued -= written;
        self.visited = self.visited.saturating_sub(self.queue.pass(written));
        let pieces = &mut self.queue.pieces;
        if rest.is_empty() {
            // Kept so that its memory is used again.
            if pieces.capacity() == 0 && rest.capacity() <= PIECES {
                *pieces = rest;
            }
        } else {
            rest.append(pieces);
            *pieces = rest;
        }
        self.queue.tidy();
    }

    /// Calls `visit` for queued frames, in steps. Returns whether there are more. It visits all frames that are queued
    /// when the first step begins, except those that are written before their turn.
    pub(crate) fn visit(&mut self, visit: impl FnMut(&mut T)) -> bool {
        let frames = self.queue.spans.iter_mut().skip(self.visited).take(STEP);
        frames.map(|span| &mut span.companion).for_each(visit);
        self.visited += STEP;
        let is_more = self.visited < self.queue.spans.len();
        if !is_more {
            self.visited = 0;
        }
        is_more
    }

    /// Whether dropping the whole outbox would take long.
    pub(crate) fn is_long(&self) -> bool {
        self.queue.spans.len() > STEP
    }

    /// Drops some of the frames. Returns whether there are more.
    pub(crate) fn drop_some(&mut self) -> bool {
        for _ in 0..STEP {
            self.queue.seal();
            let Some(span) = self.queue.spans.pop_front() else {
                return false;
            };
            cut(&mut self.queue.pieces, span.left).for_each(drop);
        }
        true
    }
}

/// The first pieces, for one vectored write.
pub(crate) fn with_slices<R>(
    pieces: &VecDeque<Bytes>,
    write: impl FnOnce(&[IoSlice<'_>]) -> R,
) -> R {
    let mut slices = [IoSlice::new(&[]); PIECES];
    let count = pieces.len().min(PIECES);
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(piece);
    }
    write(&slices[..count])
}

/// Removes the first `written` bytes.
pub(crate) fn advance(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = pieces.front_mut() {
        if written < first.len() {
            first.advance(written);
            return;
        }
        written -= first.len();
        pieces.pop_front();
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
