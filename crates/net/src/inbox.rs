//! Frames, out of what a socket has received.

use std::io;

use bytes::BytesMut;
use gsb_proto::{Frame, FrameDecoder, Framing, Violation};

use crate::stream::Stream;

/// Least and most room offered to one read, in bytes.
const CHUNK: std::ops::RangeInclusive<usize> = 4 << 10..=256 << 10;

/// Reads from a stream and cuts what came into frames.
///
/// The buffer grows with what was received, at most twofold, and never with what a header announces.
/// While nothing is waiting to become a frame there is no buffer.
#[derive(Debug)]
pub struct Inbox {
    decoder: FrameDecoder,
    buffer: BytesMut,
    /// Room to offer to the next read: follows how much the last ones brought.
    chunk: usize,
}

impl Inbox {
    /// An empty inbox.
    pub fn new(decoder: FrameDecoder) -> Self {
        Inbox { decoder, buffer: BytesMut::new(), chunk: *CHUNK.start() }
    }

    /// Reads once: how many bytes came, 0 at the end of the stream, `None` if there are none now.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn fill(&mut self, stream: &Stream) -> io::Result<Option<usize>> {
        self.buffer.reserve(self.chunk);
        let room = self.buffer.capacity() - self.buffer.len();
        let read = match stream.try_read(&mut self.buffer) {
            Ok(read) => Some(read),
            Err(error) if is_transient(&error) => None,
            Err(error) => return Err(error),
        };
        match read {
            Some(read) if read == room => self.chunk = (self.chunk * 2).min(*CHUNK.end()),
            Some(read) if read < self.chunk / 4 => {
                self.chunk = (self.chunk / 2).max(*CHUNK.start());
            }
            _ => {}
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(read)
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

    /// The framing, once it is known.
    pub fn framing(&self) -> Option<Framing> {
        self.decoder.framing()
    }
}

/// Whether an I/O error only means "not now".
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
