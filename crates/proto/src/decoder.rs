//! Finds the frames in the bytes that a peer sent.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;

use crate::frame::Frame;
use crate::framing::{CLASSIC_HEADER, Framing, PACKET_HEADER};
use crate::kind::MessageKind;
use crate::messages::Packet;
use crate::violation::Violation;
use crate::wire::{MAX_PLAIN, Records, Value, WireError, read_varint};

/// Where a frame is in a buffer. All positions are in bytes from the start of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameBounds {
    /// The kind of the message, and where its encoded form is. `None` if only [`FrameDecoder::decode`] can extract the
    /// message, because its `Packet` has several fields or an unknown one.
    pub message: Option<(MessageKind, Range<usize>)>,
    /// Where the frame ends.
    pub end: usize,
}

/// Splits the bytes that a peer sent into frames.
///
/// It detects the framing from the first five bytes, unless it was made for one. It has no buffer of its own, and the
/// frames share the memory of the caller's buffer: memory follows what was received, never what a header announces.
#[derive(Debug, Clone)]
pub struct FrameDecoder {
    framing: Option<Framing>,
    limit: usize,
}

impl FrameDecoder {
    /// A decoder that detects the framing. `limit` is the largest accepted body in bytes, such as
    /// [`DEFAULT_MAX_FRAME`](crate::framing::DEFAULT_MAX_FRAME).
    pub fn detecting(limit: usize) -> Self {
        FrameDecoder { framing: None, limit }
    }

    /// A decoder for one framing; `limit` as for [`detecting`](FrameDecoder::detecting).
    pub fn new(framing: Framing, limit: usize) -> Self {
        FrameDecoder { framing: Some(framing), limit }
    }

    /// The framing; `None` until it is detected.
    pub fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// Removes the first frame from `buffer` and returns it; `None` if it is not complete.
    ///
    /// # Errors
    /// The peer broke the protocol. A wrong header is reported before the body is there. The connection cannot be read
    /// any further.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Violation> {
        let Some(FrameBounds { message, end }) = self.find(buffer)? else {
            return Ok(None);
        };
        match message {
            Some((kind, range)) => {
                buffer.advance(range.start);
                let body = buffer.split_to(range.len());
                Ok(Some(Frame::new(kind, body)))
            }
            None => {
                buffer.advance(PACKET_HEADER);
                decode_any(&buffer.split_to(end - PACKET_HEADER).freeze()).map(Some)
            }
        }
    }

    /// Finds the first frame in `buffer` and leaves it there; `None` if it is not complete.
    ///
    /// # Errors
    /// As for [`decode`](FrameDecoder::decode), except that a frame without a `message` is not checked yet.
    #[inline]
    pub fn find(&mut self, buffer: &[u8]) -> Result<Option<FrameBounds>, Violation> {
        if self.framing.is_none() {
            self.framing = Framing::detect(buffer)?;
        }
        match self.framing {
            None => Ok(None),
            Some(Framing::Classic) => self.find_classic(buffer),
            Some(Framing::Packet) => self.find_packet(buffer),
        }
    }

    /// The length that the first frame in `buffer` announces, header included; `None` if the header is not complete.
    /// It is not checked against the limit: call [`find`](FrameDecoder::find) or [`decode`](FrameDecoder::decode)
    /// first.
    pub fn announced_len(&self, buffer: &[u8]) -> Option<usize> {
        let header = match self.framing? {
            Framing::Classic => CLASSIC_HEADER,
            Framing::Packet => PACKET_HEADER,
        };
        let length = buffer.get(..header)?.last_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        header.checked_add(length)
    }

    fn find_classic(&self, buffer: &[u8]) -> Result<Option<FrameBounds>, Violation> {
        let Some(&[t0, t1, t2, t3, l0, l1, l2, l3]) = buffer.first_chunk::<CLASSIC_HEADER>() else {
            return Ok(None);
        };
        let number = i32::from_be_bytes([t0, t1, t2, t3]);
        let kind = MessageKind::from_classic_type(number).ok_or(Violation::UnknownType(number))?;
        let end = CLASSIC_HEADER + self.checked_length([l0, l1, l2, l3])?;
        let bounds = FrameBounds { message: Some((kind, CLASSIC_HEADER..end)), end };
        Ok((buffer.len() >= end).then_some(bounds))
    }

    #[inline]
    fn find_packet(&self, buffer: &[u8]) -> Result<Option<FrameBounds>, Violation> {
        let Some(&header) = buffer.first_chunk::<PACKET_HEADER>() else {
            return Ok(None);
        };
        let end = PACKET_HEADER + self.checked_length(header)?;
        let Some(packet) = buffer.get(PACKET_HEADER..end) else {
            return Ok(None);
        };
        let message = decode_single(packet).map(|(kind, begin)| (kind, PACKET_HEADER + begin..end));
        Ok(Some(FrameBounds { message, end }))
    }

    fn checked_length(&self, bytes: [u8; 4]) -> Result<usize, Violation> {
        let length = u32::from_be_bytes(bytes);
        match usize::try_from(length) {
            Ok(length) if length <= self.limit => Ok(length),
            _ => Err(Violation::FrameTooLarge { length: u64::from(length), limit: self.limit }),
        }
    }
}

/// Decodes a `Packet` with a single field, which is all that encoders write: the kind of the message, and where the
/// message begins. It ends where the packet ends.
fn decode_single(packet: &[u8]) -> Option<(MessageKind, usize)> {
    let (&key, rest) = packet.split_first()?;
    if key & 7 != 2 {
        return None;
    }
    if key >= 0x80 {
        return decode_single_extension(key, rest);
    }
    let kind = MessageKind::published(u32::from(key >> 3))?;
    Some((kind, 1 + length_prefix(rest)?))
}

/// [`decode_single`] for an extension, whose key takes two bytes.
#[cold]
fn decode_single_extension(low: u8, rest: &[u8]) -> Option<(MessageKind, usize)> {
    let (&high, rest) = rest.split_first().filter(|(high, _)| (1..0x80).contains(*high))?;
    let kind = MessageKind::from_field((u32::from(low & 0x7f) | u32::from(high) << 7) >> 3)?;
    Some((kind, 2 + length_prefix(rest)?))
}

/// The size of the length prefix that `rest` begins with, if it is the length of all bytes after it.
#[inline]
fn length_prefix(rest: &[u8]) -> Option<usize> {
    let (length, size) = read_varint(rest).ok()?;
    (length == (rest.len() - size) as u64).then_some(size)
}

/// Decodes any valid `Packet`, also one with several fields or unknown ones.
fn decode_any(packet: &Bytes) -> Result<Frame, Violation> {
    let mut found: Option<(MessageKind, &[u8])> = None;
    let mut is_only = true;
    let mut records = Records::new(packet);
    while let Some(record) = records.next().map_err(malformed_packet)? {
        if let Some(kind) = MessageKind::from_field(record.field) {
            let message = record.value.bytes(record.field).map_err(malformed_packet)?;
            is_only = found.is_none();
            found = Some((kind, message));
        }
    }
    let (kind, message) = found.ok_or(Violation::EmptyPacket)?;
    if !is_only {
        return decode_several(packet);
    }
    // A queued frame is charged for its own bytes only (LI-2), so it must not keep a much larger packet in memory.
    if message.len() < packet.len() / 2 {
        return Ok(Frame::new(kind, Bytes::copy_from_slice(message)));
    }
    Ok(Frame::new(kind, packet.slice_ref(message)))
}

/// Decodes a valid `Packet` with several messages as protobuf decoders do: the last kind of message counts, and the
/// parts of one message are merged by appending them.
fn decode_several(packet: &Bytes) -> Result<Frame, Violation> {
    // No encoder writes such a packet, and all of it is decoded and copied here.
    if packet.len() > MAX_PLAIN {
        return Err(malformed_packet(WireError::TooLong));
    }
    Records::check_nested_count(packet).map_err(malformed_packet)?;
    // prost also reads, and refuses, messages that a later one replaces.
    Packet::decode(packet.clone()).map_err(|error| Violation::Malformed {
        kind: "Packet",
        error: Cow::Owned(error.to_string()),
    })?;
    let mut found: Option<(MessageKind, BytesMut)> = None;
    let mut records = Records::new(packet);
    while let Some(record) = records.next().map_err(malformed_packet)? {
        let (Some(kind), Value::Bytes(part)) =
            (MessageKind::from_field(record.field), record.value)
        else {
            continue;
        };
        match &mut found {
            Some((current, message)) if *current == kind => message.extend_from_slice(part),
            _ => found = Some((kind, BytesMut::from(part))),
        }
    }
    let (kind, message) = found.ok_or(Violation::EmptyPacket)?;
    Ok(Frame::new(kind, message))
}

fn malformed_packet(error: WireError) -> Violation {
    Violation::Malformed { kind: "Packet", error: Cow::Owned(error.to_string()) }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
