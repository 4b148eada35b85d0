//! A queue of encoded frames, in the order in which they are written.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use gsb_proto::framing::Header;
use gsb_proto::{Framing, Outgoing, Slice};

/// Bodies up to this length are copied into one buffer, in bytes. Then many of them are written as one piece, and none
/// keeps alive the buffer that it was read into.
pub(crate) const COPIED: usize = 16 << 10;

/// The largest piece of copied frames, in bytes. So a long queue does not move its bytes when it grows, and frees them
/// piece by piece.
const CHUNK: usize = 64 << 10;

/// How many pieces one system call writes.
pub(crate) const PIECES: usize = 64;

/// The initial capacity for small frames, in bytes.
const FIRST: usize = 256;

/// An empty queue keeps no larger buffer than this, in bytes.
const KEPT: usize = 4 << 10;

/// The companion of a queued frame, such as its charge. It is dropped when the frame was written or dropped, possibly
/// under the lock of the [`Link`](crate::Link), so it must not use the link.
pub trait QueuedFrame {
    /// Called when `bytes` more bytes of the frame were written, but not all.
    fn written(&mut self, bytes: usize);
}

/// For links whose frames need no companion.
impl QueuedFrame for () {
    fn written(&mut self, _bytes: usize) {}
}

/// Encoded frames, and the companion of each.
pub(crate) struct Queue<T> {
    pub(crate) pieces: VecDeque<Bytes>,
    /// The last piece, which still grows.
    tail: BytesMut,
    /// The length of the previous `tail` when it was complete.
    last: u16,
    /// The frames with unwritten bytes.
    pub(crate) spans: VecDeque<Span<T>>,
}

pub(crate) struct Span<T> {
    /// The unwritten bytes of the frame.
    pub(crate) left: usize,
    /// Whether a part of the frame was written.
    pub(crate) begun: bool,
    pub(crate) companion: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { pieces: VecDeque::new(), tail: BytesMut::new(), last: 0, spans: VecDeque::new() }
    }
}

impl<T: QueuedFrame> Queue<T> {
    /// Appends a frame, and returns its length. A body of up to `copied` bytes is copied. `companion` makes the
    /// companion of the frame. It gets the companion of the last frame, if no byte of that was written, and can add the
    /// frame to it; then it returns `None`.
    ///
    /// Returns `None` if the frame does not exist in this framing.
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
            // There is no earlier frame to which this one could be added.
            (None, None) => return None,
        }
        self.copy(header.as_ref());
        for &piece in frame.slices {
            self.append(piece, copied);
        }
        Some(length)
    }

    /// Moves all frames of another queue to the end of this one.
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

    /// Removes the frames that end within the first `written` bytes. Returns their number.
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

    /// Frees large buffers if the queue is empty.
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

    /// Reserves this many bytes. A new buffer gets the final size of the last one, so that it does not grow step by step.
    #[cold]
    fn make_room(&mut self, bytes: usize) {
        let held = self.tail.len();
        if held + bytes > CHUNK {
            self.seal();
        }
        let room = if held == 0 { usize::from(self.last).max(FIRST) } else { held };
        self.tail.reserve(room.max(bytes));
    }

    /// Appends bytes. At most `copied` bytes are copied, so that they do not keep a larger buffer alive.
    #[inline]
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

/// Removes the first `length` bytes from the pieces, and returns them.
pub(crate) fn cut(pieces: &mut VecDeque<Bytes>, mut length: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let first = pieces.front_mut().filter(|_| length > 0)?;
        let part = if first.len() <= length { pieces.pop_front()? } else { first.split_to(length) };
        length -= part.len();
        Some(part)
    })
}
