//! A codec for tokio-util's `Framed`.

use std::io;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use crate::decoder::FrameDecoder;
use crate::frame::Frame;
use crate::framing::Framing;
use crate::violation::Violation;

/// Reads and writes [`Frame`]s, in a given framing or in the one that the peer uses.
#[derive(Debug, Clone)]
pub struct FrameCodec {
    decoder: FrameDecoder,
}

/// Why a [`FrameCodec`] failed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer broke the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// A frame that cannot be written: the peer's framing is not known yet, or cannot express the message.
    #[error("a {0} cannot be written in this connection's framing")]
    NotEncodable(&'static str),
}

impl FrameCodec {
    /// A codec for a known framing; `limit` is the largest body accepted, in bytes.
    pub fn new(framing: Framing, limit: usize) -> Self {
        FrameCodec { decoder: FrameDecoder::new(framing, limit) }
    }

    /// A codec that takes on the peer's framing; nothing can be written before the peer's first frame.
    pub fn detecting(limit: usize) -> Self {
        FrameCodec { decoder: FrameDecoder::detecting(limit) }
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        Ok(self.decoder.decode(buffer)?)
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), CodecError> {
        match self.decoder.framing() {
            Some(framing) if frame.encode(framing, out) => Ok(()),
            _ => Err(CodecError::NotEncodable(frame.kind.name())),
        }
    }
}
