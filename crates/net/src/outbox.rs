//! Frames that wait for their socket.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use gsb_proto::{Frame, Framing};

/// Bodies up to this length are copied together, so that many leave as one piece and none of them
/// keeps the buffer alive that it was read into. In bytes.
const COPIED: usize = 16 << 10;

/// The same where more than [`BACKLOG`] is queued: what has to wait must not take much more memory than it has
/// bytes. In bytes.
const COPIED_TO_WAIT: usize = 64 << 10;

/// More than is queued between peers that keep up with each other. In bytes.
const BACKLOG: usize = 256 << 10;

/// How many bytes of small frames are copied into one piece, so that a long queue neither moves its
/// bytes when it grows nor keeps all of them for the last.
const CHUNK: usize = 64 << 10;

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

/// What travels with a queued frame until all of it was written, or it was dropped. Then it is dropped
/// itself, possibly under the lock of its [`Link`](crate::Link): it must not use the link.
pub trait Ticket {
    /// So many more bytes of the frame were written.
    fn written(&mut self, bytes: usize);
}

/// For links whose frames are all alike.
impl Ticket for () {
    fn written(&mut self, _bytes: usize) {}
}

/// Encoded frames in the order in which they leave.
pub(crate) struct Outbox<T> {
    pieces: VecDeque<Bytes>,
    /// What comes behind `pieces`, still growing.
    tail: BytesMut,
    /// All that is queued, in bytes.
    queued: usize,
    /// The frames of which something is queued.
    spans: VecDeque<Span<T>>,
}

struct Span<T> {
    /// What is left to write of the frame, in bytes.
    left: usize,
    /// Whether some of it was written.
    begun: bool,
    ticket: T,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Outbox { pieces: VecDeque::new(), tail: BytesMut::new(), queued: 0, spans: VecDeque::new() }
    }
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("queued", &self.queued).finish_non_exhaustive()
    }
}

impl<T: Ticket> Outbox<T> {
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
        ticket: T,
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
        self.spans.push_back(Span { left: length, begun: false, ticket });
        self.copy(header.as_ref());
        for segment in frame.body.segments() {
            self.append(segment);
        }
        Ok(())
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.tail.len() + bytes.len() > CHUNK {
            self.seal();
        }
        self.tail.extend_from_slice(bytes);
    }

    /// Takes everything out, to be written.
    pub(crate) fn take(&mut self) -> VecDeque<Bytes> {
        self.seal();
        std::mem::take(&mut self.pieces)
    }

    /// Notes that `written` bytes of what was taken have left, and puts `rest` back to the front.
    pub(crate) fn put_back(&mut self, mut rest: VecDeque<Bytes>, written: usize) {
        self.queued -= written;
        self.pass(written);
        if rest.is_empty() {
            // Kept for its room.
            if self.pieces.capacity() == 0 && rest.capacity() <= PIECES {
                self.pieces = rest;
            }
        } else {
            rest.append(&mut self.pieces);
            self.pieces = rest;
        }
        if self.is_empty() {
            if self.tail.capacity() > KEPT {
                self.tail = BytesMut::new();
            }
            if self.spans.capacity() > PIECES {
                self.spans = VecDeque::new();
            }
        }
    }

    /// Lets go of the frames that the first `written` bytes belong to.
    fn pass(&mut self, mut written: usize) {
        while written > 0
            && let Some(front) = self.spans.front_mut()
        {
            let part = written.min(front.left);
            written -= part;
            front.left -= part;
            front.begun = true;
            front.ticket.written(part);
            if front.left == 0 {
                self.spans.pop_front();
            }
        }
    }

    /// The tickets of the frames that are queued, from the first to leave; and whether some of the frame
    /// was written.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = (&T, bool)> {
        self.spans.iter().map(|span| (&span.ticket, span.begun))
    }

    /// The ticket of the frame of which some was written, and some was not.
    pub(crate) fn begun(&mut self) -> Option<&mut T> {
        self.spans.front_mut().filter(|span| span.begun).map(|span| &mut span.ticket)
    }

    /// Takes out what is queued, frames and all, to be changed and put back, while this goes on counting
    /// it.
    pub(crate) fn take_whole(&mut self) -> Outbox<T> {
        self.seal();
        Outbox {
            pieces: std::mem::take(&mut self.pieces),
            spans: std::mem::take(&mut self.spans),
            ..Outbox::default()
        }
    }

    /// Puts what was taken out, and has become shorter by `removed` bytes, back to the front.
    pub(crate) fn put_back_whole(&mut self, mut whole: Outbox<T>, removed: usize) {
        whole.spans.append(&mut self.spans);
        self.spans = whole.spans;
        self.queued -= removed;
        self.put_back(whole.pieces, 0);
    }

    /// Removes the frames that `is_unwanted` says, except one of which something was written. Returns
    /// their tickets, and how many bytes are gone.
    pub(crate) fn remove(&mut self, mut is_unwanted: impl FnMut(&T) -> bool) -> (Vec<T>, usize) {
        let mut kept = Outbox::default();
        let mut removed = Vec::new();
        let mut gone = 0;
        // How many bytes at the front belong to frames that stay.
        let mut run = 0;
        for span in std::mem::take(&mut self.spans) {
            if span.begun || !is_unwanted(&span.ticket) {
                run += span.left;
                kept.spans.push_back(span);
                continue;
            }
            for part in cut(&mut self.pieces, std::mem::take(&mut run)) {
                kept.append(&part);
            }
            cut(&mut self.pieces, span.left).for_each(drop);
            gone += span.left;
            removed.push(span.ticket);
        }
        kept.seal();
        kept.pieces.append(&mut self.pieces);
        *self = kept;
        (removed, gone)
    }

    /// Appends bytes; a few of them are copied, lest they keep all that they were cut from.
    fn append(&mut self, bytes: &Bytes) {
        let copied = if self.queued > BACKLOG { COPIED_TO_WAIT } else { COPIED };
        if bytes.len() <= copied {
            self.copy(bytes);
        } else {
            self.seal();
            self.pieces.push_back(bytes.clone());
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

/// Takes the first `length` bytes off the pieces.
fn cut(pieces: &mut VecDeque<Bytes>, mut length: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let first = pieces.front_mut().filter(|_| length > 0)?;
        let part = if first.len() <= length { pieces.pop_front()? } else { first.split_to(length) };
        length -= part.len();
        Some(part)
    })
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

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
