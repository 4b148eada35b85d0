//! Frames, out of what a socket has received.

use std::io;

use bytes::BytesMut;
use gsb_proto::{Frame, FrameDecoder, Framing, Violation};

use crate::stream::Stream;

/// Least and most room offered to one read, in bytes. What one read brings is routed in one go, so
/// the most is also how long others wait.
const CHUNK: std::ops::RangeInclusive<usize> = 4 << 10..=64 << 10;

/// A longer frame has memory of its own, which nothing else is read into: it may be kept for long. In bytes.
const LARGE: usize = *CHUNK.end();

/// So little of a frame is moved into memory of its own size when the rest does not come at once. In bytes.
const SMALL: usize = *CHUNK.end() / 8;

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
    /// Whether the buffer was made for what is in it, since nothing more came.
    is_compact: bool,
    /// Room to offer to the next read: follows how much the last ones brought.
    chunk: usize,
    /// What is left of [`CREDIT`].
    credit: usize,
}

impl Inbox {
    /// An empty inbox.
    pub fn new(decoder: FrameDecoder) -> Self {
        Inbox {
            decoder,
            buffer: BytesMut::new(),
            is_compact: false,
            chunk: *CHUNK.start(),
            credit: CREDIT,
        }
    }

    /// Reads once: how many bytes came, 0 at the end of the stream, `None` if there are none now, as
    /// far as the runtime knows or, if `is_ending`, the socket itself.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn fill(&mut self, stream: &Stream, is_ending: bool) -> io::Result<Option<usize>> {
        // Put back below if nothing comes this time either.
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
        self.credit = read.map_or(CREDIT, |read| self.credit.saturating_sub(read.max(LEAST_COST)));
        match read {
            Some(read) if read == room => self.chunk = (self.chunk * 2).min(*CHUNK.end()),
            Some(read) if read < self.chunk / 4 => {
                self.chunk = (self.chunk / 2).max(*CHUNK.start());
            }
            _ => {}
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        } else if read.is_none() && self.buffer.len() <= SMALL {
            self.buffer = compact.unwrap_or_else(|| BytesMut::from(&self.buffer[..]));
            self.is_compact = true;
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
        let announced = self.decoder.announced(&self.buffer);
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
    pub(crate) fn must_pause(&mut self) -> bool {
        let must_pause = self.credit == 0;
        if must_pause {
            self.credit = CREDIT;
        }
        must_pause
    }

    /// The next whole frame of what has been read; `None` if there is none.
    ///
    /// # Errors
    /// The peer broke the protocol; nothing more can be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Violation> {
        let frame = self.decoder.decode(&mut self.buffer)?;
        if self.buffer.is_empty() && frame.is_none() {
            self.buffer = BytesMut::new();
        }
        Ok(frame)
    }

    /// Whether some of a frame has come and not the rest, once [`next_frame`](Inbox::next_frame) has said that
    /// there is no whole one.
    pub fn is_within_frame(&self) -> bool {
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
