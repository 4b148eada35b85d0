//! Frames that wait for their socket.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use gsb_proto::{Frame, Framing};

/// Bodies up to this length are copied together, so that many leave as one piece and none of them
/// keeps the buffer alive that it was read into. In bytes.
const COPIED: usize = 16 << 10;

/// How many pieces are handed to one system call.
const PIECES: usize = 64;

/// A buffer of more than this is not kept while nothing is queued. In bytes.
const KEPT: usize = 4 << 10;

/// More is queued than the limit allows. Nothing was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxFull {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Encoded frames in the order in which they leave.
#[derive(Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Bytes>,
    /// What comes behind `pieces`, still growing.
    tail: BytesMut,
    /// All that is queued, in bytes.
    queued: usize,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("queued", &self.queued).finish_non_exhaustive()
    }
}

impl Outbox {
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Appends a frame. A frame larger than the limit is let in when nothing else is queued.
    pub(crate) fn push(
        &mut self,
        framing: Framing,
        frame: &Frame,
        limit: usize,
    ) -> Result<(), OutboxFull> {
        // No header: a Hello for a classic connection, which simply is not told.
        let Some(header) = frame.header(framing) else {
            return Ok(());
        };
        let length = header.as_ref().len() + frame.body.len();
        if !self.is_empty() && self.queued + length > limit {
            return Err(OutboxFull { limit });
        }
        self.queued += length;
        self.tail.extend_from_slice(header.as_ref());
        for segment in frame.body.segments() {
            if segment.len() <= COPIED {
                self.tail.extend_from_slice(segment);
            } else {
                self.seal();
                self.pieces.push_back(segment.clone());
            }
        }
        Ok(())
    }

    /// Takes everything out, to be written.
    pub(crate) fn take(&mut self) -> VecDeque<Bytes> {
        self.seal();
        std::mem::take(&mut self.pieces)
    }

    /// Notes that `written` bytes of what was taken have left, and puts `rest` back to the front.
    pub(crate) fn put_back(&mut self, mut rest: VecDeque<Bytes>, written: usize) {
        self.queued -= written;
        if rest.is_empty() {
            // Kept for its room.
            if self.pieces.capacity() == 0 && rest.capacity() <= PIECES {
                self.pieces = rest;
            }
        } else {
            rest.append(&mut self.pieces);
            self.pieces = rest;
        }
        if self.is_empty() && self.tail.capacity() > KEPT {
            self.tail = BytesMut::new();
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

/// The first of the pieces, for one vectored write.
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

/// Drops the first `written` bytes.
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
