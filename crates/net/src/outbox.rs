//! Frames that wait for their socket.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use gsb_proto::framing::MAX_HEADER;
use gsb_proto::{Framing, Outgoing, Slice};

use crate::batch::Batch;
use crate::queue::{COPIED, PIECES, Queue, Ticket, cut};

/// Up to how many bytes a body is copied where more than [`BACKLOG`] is queued: what has to wait must not take much
/// more memory than it has bytes. In bytes.
const COPIED_TO_WAIT: usize = 64 << 10;

/// More than is queued between peers that keep up with each other. In bytes.
const BACKLOG: usize = 256 << 10;

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

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Outbox { seen: Queue::default(), rest: Queue::default(), queued: 0 }
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

    /// Appends a frame, with a ticket as in [`Queue::push`]. A frame larger than the limit is let in when nothing else
    /// is queued.
    pub(crate) fn push(
        &mut self,
        framing: Framing,
        frame: Outgoing<'_>,
        ticket: impl FnOnce(Option<&mut T>) -> Option<T>,
        limit: usize,
    ) -> Result<(), OutboxFull> {
        let most = frame.body_len() + MAX_HEADER;
        if !self.is_empty() && self.queued.saturating_add(most) > limit {
            return Err(OutboxFull { limit });
        }
        let copied = self.copied(most);
        self.queued += self.rest.push(framing, frame, copied, ticket).unwrap_or(0);
        Ok(())
    }

    /// Appends all frames of a batch.
    pub(crate) fn push_batch(&mut self, batch: &mut Batch<T>) {
        let copied = self.copied(batch.queued());
        self.queued += batch.queued();
        self.rest.push_all(batch.take(), copied);
    }

    /// Up to how many bytes a body is copied, when so much more is queued.
    fn copied(&self, more: usize) -> usize {
        if self.queued + more > BACKLOG { COPIED_TO_WAIT } else { COPIED }
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
                parts.for_each(|part| self.seen.append(Slice::from(&part), copied));
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
