//! Frames in the order in which they leave.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use gsb_proto::framing::Header;
use gsb_proto::{Framing, Outgoing, Slice};

/// Bodies up to this length are copied together, so that many leave as one piece and none of them
/// keeps the buffer alive that it was read into. In bytes.
pub(crate) const COPIED: usize = 16 << 10;

/// How many bytes of small frames are copied into one piece, so that a long queue neither moves its
/// bytes when it grows nor keeps all of them for the last.
const CHUNK: usize = 64 << 10;

/// How many pieces are handed to one system call.
pub(crate) const PIECES: usize = 64;

/// Room for small frames, at first. In bytes.
const FIRST: usize = 256;

/// A buffer of more than this is not kept while nothing is queued. In bytes.
const KEPT: usize = 4 << 10;

/// What travels with a queued frame until the frame is written or dropped. Then it is dropped itself, possibly under
/// the lock of its [`Link`](crate::Link): it must not use the link.
pub trait QueuedFrame {
    /// So many more bytes of the frame were written, and some were not.
    fn written(&mut self, bytes: usize);
}

/// For links whose frames are all alike.
impl QueuedFrame for () {
    fn written(&mut self, _bytes: usize) {}
}

/// Frames, one behind the other.
pub(crate) struct Queue<T> {
    pub(crate) pieces: VecDeque<Bytes>,
    /// What comes behind `pieces`, still growing.
    tail: BytesMut,
    /// How many bytes it had when it was complete last time.
    last: u16,
    /// The frames of which something is queued.
    pub(crate) spans: VecDeque<Span<T>>,
}

pub(crate) struct Span<T> {
    /// What is left to write of the frame, in bytes.
    pub(crate) left: usize,
    /// Whether some of it was written.
    pub(crate) begun: bool,
    pub(crate) companion: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { pieces: VecDeque::new(), tail: BytesMut::new(), last: 0, spans: VecDeque::new() }
    }
}

impl<T: QueuedFrame> Queue<T> {
    /// Appends a frame of which bodies up to `copied` bytes are copied; how many bytes it has. `companion` makes what
    /// travels with it, or adds the frame to the last one, if nothing of that was written: it is given what travels with
    /// that, and returns `None`.
    /// `None` if the frame cannot be said in this framing.
    pub(crate) fn push(
        &mut self,
        framing: Framing,
        frame: Outgoing<'_>,
        copied: usize,
        companion: impl FnOnce(Option<&mut T>) -> Option<T>,
    ) -> Option<usize> {
        let body = frame.body_len();
        let header = Header::new(frame.kind, body, framing)?;
        let length = header.as_ref().len() + body;
        let last = self.spans.back_mut().filter(|last| !last.begun);
        match (companion(last.map(|last| &mut last.companion)), self.spans.back_mut()) {
            (Some(companion), _) => {
                self.spans.push_back(Span { left: length, begun: false, companion });
            }
            (None, Some(last)) => last.left += length,
            // Nothing went before it that it could go with.
            (None, None) => return None,
        }
        self.copy(header.as_ref());
        for &piece in frame.slices {
            self.append(piece, copied);
        }
        Some(length)
    }

    /// Appends all frames of another queue, which has none then.
    pub(crate) fn push_all(&mut self, other: &mut Queue<T>, copied: usize) {
        if self.spans.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        self.spans.append(&mut other.spans);
        for piece in other.pieces.drain(..) {
            self.append(Slice::from(&piece), copied);
        }
        self.copy(&other.tail);
        other.tail.clear();
    }

    /// Drops the frames that the first `written` bytes belong to; returns how many frames these are.
    pub(crate) fn pass(&mut self, mut written: usize) -> usize {
        let mut frames = 0;
        while written > 0
            && let Some(front) = self.spans.front_mut()
        {
            if front.left <= written {
                written -= front.left;
                self.spans.pop_front();
                frames += 1;
            } else {
                front.left -= written;
                front.begun = true;
                front.companion.written(written);
                written = 0;
            }
        }
        frames
    }

    /// Keeps no large buffers for nothing.
    pub(crate) fn tidy(&mut self) {
        if self.spans.is_empty() {
            if self.tail.capacity() > KEPT {
                self.tail = BytesMut::new();
            }
            if self.spans.capacity() > PIECES {
                self.spans = VecDeque::new();
            }
        }
    }

    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.make_room(bytes.len());
        }
        self.tail.extend_from_slice(bytes);
    }

    /// Makes room for so many bytes more. A new buffer has as much as the last one came to, so that it need not
    /// grow step by step.
    #[cold]
    fn make_room(&mut self, bytes: usize) {
        let held = self.tail.len();
        if held + bytes > CHUNK {
            self.seal();
        }
        let room = if held == 0 { usize::from(self.last).max(FIRST) } else { held };
        self.tail.reserve(room.max(bytes));
    }

    /// Appends bytes; up to `copied` of them are copied, lest they keep all that they were cut from.
    pub(crate) fn append(&mut self, piece: Slice<'_>, copied: usize) {
        if piece.bytes.len() <= copied {
            self.copy(piece.bytes);
        } else {
            self.seal();
            self.pieces.push_back(piece.to_bytes());
        }
    }

    pub(crate) fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.last = u16::try_from(self.tail.len()).unwrap_or(u16::MAX);
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

/// Takes the first `length` bytes off the pieces.
pub(crate) fn cut(pieces: &mut VecDeque<Bytes>, mut length: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let first = pieces.front_mut().filter(|_| length > 0)?;
        let part = if first.len() <= length { pieces.pop_front()? } else { first.split_to(length) };
        length -= part.len();
        Some(part)
    })
}
