//! The inbox of a connection: reads from the socket and splits the bytes into frames.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use gsb_proto::{
    Frame, FrameBounds, FrameDecoder, FrameRef, Framing, MessageKind, Slice, Violation,
};

use crate::stream::Stream;

/// Smallest and largest size of a read, in bytes. All frames of one read are routed before other connections get a
/// turn, so the largest size also limits how long they wait.
const CHUNK: std::ops::RangeInclusive<usize> = 4 << 10..=64 << 10;

/// A frame that is longer than this is read into a buffer of its own, since it may be kept in memory for long. In bytes.
const LARGE: usize = *CHUNK.end();

/// A partial frame up to this length is moved to a small buffer while the connection is idle. In bytes.
const SMALL: usize = *CHUNK.end() / 8;

/// A frame that is longer than this is removed from the buffer, so that outboxes can share its memory. Shorter frames
/// are copied into outboxes anyway. In bytes.
const SHARED: usize = 16 << 10;

/// A task that reads this much without a pause yields to other tasks. In bytes.
const CREDIT: usize = 64 << 10;

/// How much of [`CREDIT`] a read takes at least, in bytes.
const LEAST_COST: usize = 2 << 10;

/// Reads from a stream and splits the bytes into frames.
///
/// The buffer grows with the received bytes, at most twofold. It never grows to what a header announces, except when half
/// of the frame has arrived. A large frame that is kept keeps only its own bytes in memory. An idle connection has no
/// buffer, or a small one if a part of a frame has arrived.
#[derive(Debug)]
pub struct Inbox {
    decoder: FrameDecoder,
    buffer: BytesMut,
    /// How many bytes at the start of the buffer are consumed.
    consumed: usize,
    /// Where the first frame ends in the buffer, if it was peeked at there; otherwise the same as `consumed`.
    end: usize,
    /// The first frame, if it cannot be peeked at in the buffer.
    first: Option<First>,
    /// Whether the buffer has exactly the size of its contents.
    is_compact: bool,
    /// Whether the last read emptied the socket.
    is_drained: bool,
    /// The size of the next read. It follows the sizes of the last ones.
    chunk: usize,
    /// How many more bytes may be read before the task yields.
    credit: usize,
}

/// A first frame that cannot be peeked at in the buffer.
#[derive(Debug)]
enum First {
    /// It is still in the buffer.
    Undecoded,
    /// It was removed from the buffer.
    Decoded { kind: MessageKind, body: Bytes },
}

/// The result of [`Inbox::peek`].
#[derive(Debug)]
pub enum Peek<'a> {
    /// The first frame.
    Frame(FrameRef<'a>),
    /// The first frame is complete, but only [`Inbox::first`] can decode it, which may take long.
    Undecoded,
    /// There is no complete frame.
    Incomplete,
}

impl Inbox {
    /// An empty inbox.
    pub fn new(decoder: FrameDecoder) -> Self {
        Inbox {
            decoder,
            buffer: BytesMut::new(),
            consumed: 0,
            end: 0,
            first: None,
            is_compact: false,
            is_drained: false,
            chunk: *CHUNK.start(),
            credit: CREDIT,
        }
    }

    /// An inbox that has already received these bytes.
    pub fn with_bytes(decoder: FrameDecoder, bytes: BytesMut) -> Self {
        Inbox { buffer: bytes, ..Inbox::new(decoder) }
    }

    /// Reads once. Returns the number of bytes, 0 at the end of the stream, or `None` if there is nothing to read now.
    /// With `is_ending` it asks the socket itself instead of relying on the runtime's readiness.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn fill(&mut self, stream: &Stream, is_ending: bool) -> io::Result<Option<usize>> {
        // Restored below if there is nothing to read.
        let compact = std::mem::take(&mut self.is_compact).then(|| self.enlarge());
        let room = self.make_room();
        let read = if is_ending {
            stream.read_now(&mut self.buffer, room)
        } else {
            stream.try_read(&mut self.buffer, room)
        };
        let read = match read {
            Ok(read) => Some(read),
            Err(error) if is_transient(&error) => None,
            Err(error) => return Err(error),
        };
        self.is_drained = read.is_none_or(|read| read < room);
        self.credit = match read {
            Some(read) if read == room => self.credit.saturating_sub(read.max(LEAST_COST)),
            // The task pauses anyway.
            _ => CREDIT,
        };
        match read {
            Some(read) if read == room => self.chunk = (self.chunk * 2).min(*CHUNK.end()),
            Some(read) if read < self.chunk / 4 => {
                self.chunk = (self.chunk / 2).max(*CHUNK.start());
            }
            _ => {}
        }
        if read.is_none() {
            if let Some(compact) = compact {
                self.buffer = compact;
                self.is_compact = true;
            }
            self.shrink();
        }
        Ok(read)
    }

    /// Makes room for a read. Returns how many bytes may be read.
    fn make_room(&mut self) -> usize {
        let held = self.buffer.len();
        match self.large() {
            Some(length) => {
                if self.buffer.capacity() == held {
                    // `reserve` would grow the buffer to up to twice the length of the frame.
                    self.enlarge();
                }
                (self.buffer.capacity() - held).min(length - held)
            }
            None => {
                self.buffer.reserve(self.chunk);
                self.buffer.capacity() - held
            }
        }
    }

    /// The length of the partial frame in the buffer, if it is a large one.
    fn large(&self) -> Option<usize> {
        let announced = self.decoder.announced_len(&self.buffer);
        announced.filter(|&length| length > LARGE && length > self.buffer.len())
    }

    /// Moves the contents to a larger buffer. Returns the old buffer, unchanged.
    fn enlarge(&mut self) -> BytesMut {
        let held = self.buffer.len();
        let room = match self.large() {
            Some(length) => length.min((held * 2).max(self.chunk)),
            None => held + self.chunk,
        };
        let mut larger = BytesMut::with_capacity(room);
        larger.extend_from_slice(&self.buffer);
        std::mem::replace(&mut self.buffer, larger)
    }

    /// Whether the task should yield before it reads more. Resets the credit.
    pub(crate) fn should_yield(&mut self) -> bool {
        let should_yield = self.credit == 0;
        if should_yield {
            self.credit = CREDIT;
        }
        should_yield
    }

    /// Removes and returns the first frame; `None` if it is not complete.
    ///
    /// # Errors
    /// The peer broke the protocol. The connection cannot be read any further.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Violation> {
        if let Some(First::Decoded { kind, body }) = self.first.take() {
            return Ok(Some(Frame::new(kind, body)));
        }
        self.discard_consumed();
        let frame = self.decoder.decode(&mut self.buffer)?;
        if frame.is_none() {
            self.shrink();
        }
        Ok(frame)
    }

    /// The first frame, which stays the first until it is [consumed](Inbox::consume); `None` if it is not complete.
    /// A large frame has shared memory, a small one is borrowed from the buffer.
    ///
    /// # Errors
    /// As for [`next_frame`](Inbox::next_frame).
    pub fn first(&mut self) -> Result<Option<FrameRef<'_>>, Violation> {
        if matches!(self.peek()?, Peek::Undecoded) {
            self.discard_consumed();
            let frame = self.decoder.decode(&mut self.buffer)?;
            self.first = frame.map(|frame| {
                let (kind, body) = (frame.kind, frame.body.into_bytes());
                First::Decoded { kind, body }
            });
        }
        match self.peek()? {
            Peek::Frame(frame) => Ok(Some(frame)),
            Peek::Undecoded | Peek::Incomplete => Ok(None),
        }
    }

    /// As [`first`](Inbox::first), but never takes long: it does not decode a frame that has to be removed from the
    /// buffer.
    ///
    /// # Errors
    /// As for [`next_frame`](Inbox::next_frame).
    // Its result would be moved through memory, which takes longer than all else here.
    #[inline(always)]
    pub fn peek(&mut self) -> Result<Peek<'_>, Violation> {
        if self.first.is_none() {
            match self.decoder.find(&self.buffer[self.consumed..])? {
                Some(FrameBounds { message: Some((kind, message)), end }) if end <= SHARED => {
                    self.end = self.consumed + end;
                    let bytes = &self.buffer[self.consumed..][message];
                    return Ok(Peek::Frame(FrameRef { kind, body: Slice { bytes, memory: None } }));
                }
                Some(_) => self.first = Some(First::Undecoded),
                None => {
                    self.discard_consumed();
                    self.shrink();
                }
            }
        }
        Ok(match &self.first {
            Some(First::Decoded { kind, body }) => {
                Peek::Frame(FrameRef { kind: *kind, body: body.into() })
            }
            Some(First::Undecoded) => Peek::Undecoded,
            None => Peek::Incomplete,
        })
    }

    /// Discards the first frame. It must have been returned by [`peek`](Inbox::peek) or [`first`](Inbox::first).
    pub fn consume(&mut self) {
        self.first = None;
        self.consumed = self.end;
    }

    /// Removes the consumed bytes from the buffer.
    fn discard_consumed(&mut self) {
        self.buffer.advance(std::mem::take(&mut self.consumed));
        self.end = 0;
    }

    /// Frees an empty buffer, and replaces the buffer by a smaller one if it has little content and the socket is empty.
    fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        } else if self.is_drained && !self.is_compact && self.buffer.len() <= SMALL {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.is_compact = true;
        }
    }

    /// How many bytes of a partial frame have arrived. Only valid after [`peek`](Inbox::peek), [`first`](Inbox::first) or
    /// [`next_frame`](Inbox::next_frame) found no complete frame.
    pub fn unfinished(&self) -> usize {
        self.buffer.len()
    }

    /// The framing; `None` until it is detected.
    pub fn framing(&self) -> Option<Framing> {
        self.decoder.framing()
    }
}

/// Whether an I/O error only means that the operation has to be repeated later.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
