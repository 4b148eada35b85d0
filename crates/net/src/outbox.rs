//! Frames that wait for their socket.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use gsb_proto::frame::Header;
use gsb_proto::{Framing, Outgoing, Piece};

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

/// How many frames are looked at in one step of taking back: others wait meanwhile.
const STEP: usize = 1024;

/// A step ends as well when the frames have so many bytes.
const STEP_BYTES: usize = 256 << 10;

/// More is queued than the limit allows. Nothing was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxFull {
    /// The limit, in bytes.
    pub limit: usize,
}

/// What travels with a queued frame until all of it was written, or it was dropped. Then it is dropped
/// itself, possibly under the lock of its [`Link`](crate::Link): it must not use the link.
pub trait Ticket {
    /// So many more bytes of the frame were written, and some were not.
    fn written(&mut self, bytes: usize);
}

/// For links whose frames are all alike.
impl Ticket for () {
    fn written(&mut self, _bytes: usize) {}
}

/// What is to become of a queued frame when frames are taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is taken back.
    TakeBack,
    /// It stays until it is written. It is not asked about again.
    Stay,
    /// It stays for now, and so does all that is queued behind it.
    NotYet,
}

/// Frames that were taken back in one step.
#[derive(Debug)]
pub struct TakenBack<T> {
    /// Their tickets, in the order in which the frames would have left.
    pub tickets: Vec<T>,
    /// Whether there is more to look at, in another step.
    pub is_more: bool,
}

/// Derived, it would ask for tickets with a default.
impl<T> Default for TakenBack<T> {
    fn default() -> Self {
        TakenBack { tickets: Vec::new(), is_more: false }
    }
}

/// Encoded frames in the order in which they leave.
pub(crate) struct Outbox<T> {
    /// What leaves first: the frames that were looked at when others were taken back, and that stay. Apart from
    /// the rest, so that nothing behind a frame that is taken back has to move, and none is looked at twice.
    seen: Queue<T>,
    rest: Queue<T>,
    /// All that is queued, in bytes.
    queued: usize,
}

/// Frames, one behind the other.
struct Queue<T> {
    pieces: VecDeque<Bytes>,
    /// What comes behind `pieces`, still growing.
    tail: BytesMut,
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
        Outbox { seen: Queue::default(), rest: Queue::default(), queued: 0 }
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { pieces: VecDeque::new(), tail: BytesMut::new(), spans: VecDeque::new() }
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
        frame: Outgoing<'_>,
        ticket: T,
        limit: usize,
    ) -> Result<(), OutboxFull> {
        // No header: a Hello for a classic connection, which simply is not told.
        let body = frame.body_len();
        let Some(header) = Header::new(frame.kind, body, framing) else {
            return Ok(());
        };
        let length = header.as_ref().len() + body;
        if !self.is_empty() && self.queued + length > limit {
            return Err(OutboxFull { limit });
        }
        self.queued += length;
        let copied = if self.queued > BACKLOG { COPIED_TO_WAIT } else { COPIED };
        self.rest.spans.push_back(Span { left: length, begun: false, ticket });
        self.rest.copy(header.as_ref());
        for &piece in frame.pieces {
            self.rest.append(piece, copied);
        }
        Ok(())
    }

    /// What leaves first.
    fn first(&mut self) -> &mut Queue<T> {
        if self.seen.spans.is_empty() { &mut self.rest } else { &mut self.seen }
    }

    /// Takes out what leaves first, to be written: something, unless nothing is queued, and perhaps not all.
    pub(crate) fn take(&mut self) -> VecDeque<Bytes> {
        let first = self.first();
        first.seal();
        std::mem::take(&mut first.pieces)
    }

    /// Notes that `written` bytes of what was taken have left, and puts `rest` back to the front.
    pub(crate) fn put_back(&mut self, mut rest: VecDeque<Bytes>, written: usize) {
        self.queued -= written;
        let left = self.seen.pass(written);
        self.rest.pass(left);
        // It was taken from here, or all of it has left.
        let first = self.first();
        if rest.is_empty() {
            // Kept for its room.
            if first.pieces.capacity() == 0 && rest.capacity() <= PIECES {
                first.pieces = rest;
            }
        } else {
            rest.append(&mut first.pieces);
            first.pieces = rest;
        }
        self.seen.tidy();
        self.rest.tidy();
    }

    /// The tickets of the frames that are queued, from the first to leave; and whether some of the frame
    /// was written.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = (&T, bool)> {
        self.seen.spans.iter().chain(&self.rest.spans).map(|span| (&span.ticket, span.begun))
    }

    /// The ticket of the frame of which some was written, and some was not.
    pub(crate) fn begun(&mut self) -> Option<&mut T> {
        self.first().spans.front_mut().filter(|span| span.begun).map(|span| &mut span.ticket)
    }

    /// Takes back frames as `decide` says, from where the last step ended, and as many as make one step. Does not
    /// ask about a frame of which something was written, which stays. Costs what the frames do that are asked
    /// about, however much is queued behind them. Returns their bytes, too, which may take long to drop.
    pub(crate) fn take_back(
        &mut self,
        mut decide: impl FnMut(&T) -> Fate,
    ) -> (TakenBack<T>, Vec<Bytes>) {
        let (mut taken, mut gone) = (TakenBack::default(), Vec::new());
        let (mut frames, mut bytes) = (0, 0);
        self.rest.seal();
        while let Some(first) = self.rest.spans.front() {
            if frames == STEP || bytes >= STEP_BYTES {
                taken.is_more = true;
                break;
            }
            let fate = if first.begun { Fate::Stay } else { decide(&first.ticket) };
            if fate == Fate::NotYet {
                break;
            }
            let Some(span) = self.rest.spans.pop_front() else {
                break;
            };
            frames += 1;
            bytes += span.left;
            let parts = cut(&mut self.rest.pieces, span.left);
            if fate == Fate::TakeBack {
                gone.extend(parts);
                self.queued -= span.left;
                taken.tickets.push(span.ticket);
            } else {
                // Copying a large one would take long, and it shares little of what it was cut from.
                let copied = if span.left > COPIED_TO_WAIT { 0 } else { COPIED_TO_WAIT };
                parts.for_each(|part| self.seen.append(Piece::from(&part), copied));
                self.seen.spans.push_back(span);
            }
        }
        self.rest.tidy();
        if self.rest.spans.len() <= STEP && self.rest.spans.capacity() > 4 * STEP {
            // There were very many. The few that are left are quickly moved.
            self.rest.spans.shrink_to(2 * STEP);
        }
        (taken, gone)
    }

    /// Whether to drop all of it would take long.
    pub(crate) fn is_long(&self) -> bool {
        self.seen.spans.len() + self.rest.spans.len() > STEP
    }

    /// Drops some of the frames; whether there are more.
    pub(crate) fn drop_some(&mut self) -> bool {
        for _ in 0..STEP {
            let first = self.first();
            first.seal();
            let Some(span) = first.spans.pop_front() else {
                return false;
            };
            cut(&mut first.pieces, span.left).for_each(drop);
        }
        true
    }
}

impl<T: Ticket> Queue<T> {
    /// Lets go of the frames that the first `written` bytes belong to, as far as they are here. Returns how many
    /// bytes do not.
    fn pass(&mut self, mut written: usize) -> usize {
        while written > 0
            && let Some(front) = self.spans.front_mut()
        {
            if front.left <= written {
                written -= front.left;
                self.spans.pop_front();
            } else {
                front.left -= written;
                front.begun = true;
                front.ticket.written(written);
                written = 0;
            }
        }
        written
    }

    /// Keeps no large buffers for nothing.
    fn tidy(&mut self) {
        if self.spans.is_empty() {
            if self.tail.capacity() > KEPT {
                self.tail = BytesMut::new();
            }
            if self.spans.capacity() > PIECES {
                self.spans = VecDeque::new();
            }
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.tail.len() + bytes.len() > CHUNK {
            self.seal();
        }
        self.tail.extend_from_slice(bytes);
    }

    /// Appends bytes; up to `copied` of them are copied, lest they keep all that they were cut from.
    fn append(&mut self, piece: Piece<'_>, copied: usize) {
        if piece.bytes.len() <= copied {
            self.copy(piece.bytes);
        } else {
            self.seal();
            self.pieces.push_back(piece.to_bytes());
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
