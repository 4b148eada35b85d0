//! Frames, out of what a socket has received.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use gsb_proto::frame::FrameBounds;
use gsb_proto::{Frame, FrameDecoder, FrameRef, Framing, MessageKind, Slice, Violation};

use crate::stream::Stream;

/// Least and most room offered to one read, in bytes. What one read brings is routed in one go, so
/// the most is also how long others wait.
const CHUNK: std::ops::RangeInclusive<usize> = 4 << 10..=64 << 10;

/// A longer frame has memory of its own, which nothing else is read into: it may be kept for long. In bytes.
const LARGE: usize = *CHUNK.end();

/// So little of a frame is moved into memory of its own size when the rest does not come at once. In bytes.
const SMALL: usize = *CHUNK.end() / 8;

/// Of a frame that is longer than this the memory may be shared, and is not only looked at. In bytes; what is
/// shorter is copied into outboxes anyway.
const SHARED: usize = 16 << 10;

/// After reading so much without a pause, a task lets others run. In bytes.
const CREDIT: usize = 64 << 10;

/// What a read costs of [`CREDIT`] at least, in bytes.
const LEAST_COST: usize = 2 << 10;

/// Reads from a stream and cuts what came into frames.
///
/// The buffer grows with what was received, at most twofold, and never with what a header announces, but for
/// the end of a frame of which half is there. A large frame that is kept keeps no more than its own bytes. While
/// nothing is waiting to become a frame there is no buffer, and while little is waiting a small one.
#[derive(Debug)]
pub struct Inbox {
    decoder: FrameDecoder,
    buffer: BytesMut,
    /// So much of the buffer was passed over, in bytes.
    passed: usize,
    /// Where the first frame ends in the buffer, if it was looked at where it stands; otherwise as `passed`.
    end: usize,
    /// The first frame, if it is not to be looked at where it stands.
    first: Option<First>,
    /// Whether the buffer was made for what is in it, since nothing more came.
    is_compact: bool,
    /// Whether the last read has left nothing to read.
    is_emptied: bool,
    /// Room to offer to the next read: follows how much the last ones brought.
    chunk: usize,
    /// What is left of [`CREDIT`].
    credit: usize,
}

/// A frame that comes first, and is not looked at where it stands.
#[derive(Debug)]
enum First {
    /// To be taken out of the buffer.
    ToTakeOut,
    /// Taken out of it.
    Apart { kind: MessageKind, body: Bytes },
}

/// What [`Inbox::peek`] finds.
#[derive(Debug)]
pub enum Peek<'a> {
    /// The first frame.
    Frame(FrameRef<'a>),
    /// There is one, but it has to be taken out by [`Inbox::first`], which may take its time.
    Undecoded,
    /// There is no whole frame.
    Incomplete,
}

impl Inbox {
    /// An empty inbox.
    pub fn new(decoder: FrameDecoder) -> Self {
        Inbox {
            decoder,
            buffer: BytesMut::new(),
            passed: 0,
            end: 0,
            first: None,
            is_compact: false,
            is_emptied: false,
            chunk: *CHUNK.start(),
            credit: CREDIT,
        }
    }

    /// An inbox that has received these bytes.
    pub fn with_bytes(decoder: FrameDecoder, bytes: BytesMut) -> Self {
        Inbox { buffer: bytes, ..Inbox::new(decoder) }
    }

    /// Reads once: how many bytes came, 0 at the end of the stream, `None` if there are none now, as
    /// far as the runtime knows or, if `is_ending`, the socket itself.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn fill(&mut self, stream: &Stream, is_ending: bool) -> io::Result<Option<usize>> {
        // Put back below if nothing comes this time.
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
        self.is_emptied = read.is_none_or(|read| read < room);
        self.credit = match read {
            Some(read) if read == room => self.credit.saturating_sub(read.max(LEAST_COST)),
            // There is a pause anyway.
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
            self.tidy();
        }
        Ok(read)
    }

    /// Makes room for a read; returns how many bytes it may bring.
    fn make_room(&mut self) -> usize {
        let held = self.buffer.len();
        match self.large() {
            Some(length) => {
                if self.buffer.capacity() == held {
                    // Not by what the buffer itself does to grow, which ends in up to twice the length.
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

    /// How long the frame is to be that has begun to come, if it is a large one.
    fn large(&self) -> Option<usize> {
        let announced = self.decoder.announced_len(&self.buffer);
        announced.filter(|&length| length > LARGE && length > self.buffer.len())
    }

    /// Moves what is held into a buffer with room for more; returns the one it was in, as it was.
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

    /// Whether others should run before more is read. Says so once.
    pub(crate) fn should_yield(&mut self) -> bool {
        let should_yield = self.credit == 0;
        if should_yield {
            self.credit = CREDIT;
        }
        should_yield
    }

    /// The next whole frame of what has been read, taken out; `None` if there is none.
    ///
    /// # Errors
    /// The peer broke the protocol; nothing more can be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Violation> {
        if let Some(First::Apart { kind, body }) = self.first.take() {
            return Ok(Some(Frame::new(kind, body)));
        }
        self.settle();
        let frame = self.decoder.decode(&mut self.buffer)?;
        if frame.is_none() {
            self.tidy();
        }
        Ok(frame)
    }

    /// The first whole frame of what has been read, until it is [passed over](Inbox::consume); `None` if there is
    /// none. A small one stays where it is; only the memory of a large one may be shared.
    ///
    /// # Errors
    /// The peer broke the protocol; nothing more can be read.
    pub fn first(&mut self) -> Result<Option<FrameRef<'_>>, Violation> {
        if matches!(self.peek()?, Peek::Undecoded) {
            self.settle();
            let frame = self.decoder.decode(&mut self.buffer)?;
            self.first = frame.map(|frame| {
                let (kind, body) = (frame.kind, frame.body.into_bytes());
                First::Apart { kind, body }
            });
        }
        match self.peek()? {
            Peek::Frame(frame) => Ok(Some(frame)),
            Peek::Undecoded | Peek::Incomplete => Ok(None),
        }
    }

    /// [`first`](Inbox::first) where that takes no time.
    ///
    /// # Errors
    /// The peer broke the protocol; nothing more can be read.
    pub fn peek(&mut self) -> Result<Peek<'_>, Violation> {
        if self.first.is_none() {
            match self.decoder.find(&self.buffer[self.passed..])? {
                Some(FrameBounds { message: Some((kind, message)), end }) if end <= SHARED => {
                    self.end = self.passed + end;
                    let bytes = &self.buffer[self.passed..][message];
                    return Ok(Peek::Frame(FrameRef { kind, body: Slice { bytes, memory: None } }));
                }
                Some(_) => self.first = Some(First::ToTakeOut),
                None => {
                    self.settle();
                    self.tidy();
                }
            }
        }
        Ok(match &self.first {
            Some(First::Apart { kind, body }) => {
                Peek::Frame(FrameRef { kind: *kind, body: body.into() })
            }
            Some(First::ToTakeOut) => Peek::Undecoded,
            None => Peek::Incomplete,
        })
    }

    /// Passes over the first frame, which was looked at.
    pub fn consume(&mut self) {
        self.first = None;
        self.passed = self.end;
    }

    /// Lets go of what was passed over.
    fn settle(&mut self) {
        self.buffer.advance(std::mem::take(&mut self.passed));
        self.end = 0;
    }

    /// Keeps no buffer for nothing, and no large one for little that is all there is for now.
    fn tidy(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        } else if self.is_emptied && !self.is_compact && self.buffer.len() <= SMALL {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.is_compact = true;
        }
    }

    /// Whether some of a frame has come and not the rest, once [`next_frame`](Inbox::next_frame) has said that
    /// there is no whole one.
    pub fn has_partial_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The framing, once it is known.
    pub fn framing(&self) -> Option<Framing> {
        self.decoder.framing()
    }
}

/// Whether an I/O error only means "not now".
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
