//! One message as it travels, and the two framings it may travel in.
//!
//! | framing | frame |
//! |---|---|
//! | classic | message type (i32, big-endian), body length (u32, big-endian), the bare message |
//! | packet | body length (u32, big-endian), a `Packet` that holds the message |
//!
//! A [`FrameDecoder`] finds out from the first five bytes which one a peer speaks, or is told. It hands
//! out [`Frame`]s that share the memory of the buffer they were read from; nothing is copied.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;

pub use crate::kind::MessageKind;
use crate::messages::Packet;
pub use crate::violation::Violation;
use crate::wire::{
    ADDED_FIELDS, MAX_FIELDS, MAX_PLAIN, Records, Value, WireError, read_varint, varint_len,
};

/// Default limit of a frame's body, in bytes: 64 MiB.
pub const DEFAULT_MAX_FRAME: usize = 64 << 20;

/// Largest body of any frame, in bytes. From 128 MiB up, the length of a classic frame could be taken
/// for the beginning of a packet frame. Who receives from a router should accept as much.
pub const LARGEST_FRAME: usize = (128 << 20) - 1;

/// Largest limit that a router may set for a frame's body, in bytes: 127 MiB. What it passes on may be
/// larger than what it received, by another framing and another request id.
pub const LARGEST_MAX_FRAME: usize = 127 << 20;

/// Largest header [`Frame::header`] writes, in bytes.
pub const MAX_HEADER: usize = 11;

const CLASSIC_HEADER: usize = 8;
const PACKET_HEADER: usize = 4;

/// How messages are framed on a connection; it stays the same for the connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// The documented GSB framing: type, length, message. Spoken by `ya-sb-proto` 0.1.
    Classic,
    /// Length and a `Packet` message. Spoken by `ya-service-bus` 0.4 and later.
    Packet,
}

impl Framing {
    /// Tells the framing from the first bytes that a peer sent; `None` while they are fewer than five.
    ///
    /// The fifth byte is the top byte of a length below 128 MiB in one framing, and the key of a
    /// field from 1 to 15 that holds a message in the other.
    pub fn detect(start: &[u8]) -> Result<Option<Framing>, Violation> {
        match start.get(4) {
            None => Ok(None),
            Some(0x00..=0x07) => Ok(Some(Framing::Classic)),
            Some(&key) if key < 0x80 && key & 7 == 2 => Ok(Some(Framing::Packet)),
            Some(&key) => Err(Violation::UnknownFraming(key)),
        }
    }

    /// The framing's name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Framing::Classic => "classic",
            Framing::Packet => "packet",
        }
    }
}

/// Bytes that stand in the memory of somebody else.
#[derive(Debug, Clone, Copy)]
pub struct Slice<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// What they are a part of, if that may be shared.
    pub memory: Option<&'a Bytes>,
}

impl Slice<'_> {
    /// No bytes.
    pub const EMPTY: Slice<'static> = Slice { bytes: &[], memory: None };

    /// The bytes for oneself: shared if they may be, or copied.
    pub fn to_bytes(&self) -> Bytes {
        match self.memory {
            Some(memory) => memory.slice_ref(self.bytes),
            None => Bytes::copy_from_slice(self.bytes),
        }
    }
}

impl<'a> From<&'a Bytes> for Slice<'a> {
    fn from(bytes: &'a Bytes) -> Self {
        Slice { bytes, memory: Some(bytes) }
    }
}

/// A frame that was received, where it stands.
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    /// What the message is.
    pub kind: MessageKind,
    /// The encoded message, without any framing.
    pub body: Slice<'a>,
}

impl FrameRef<'_> {
    /// Decodes the body as `M`.
    ///
    /// # Errors
    /// As those of [`Frame::decode`].
    pub fn decode<M: crate::messages::Message>(&self) -> Result<M, Violation> {
        Frame::new(self.kind, self.body.to_bytes()).decode()
    }
}

/// A frame on its way out, its body in one piece or several.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// What the message is.
    pub kind: MessageKind,
    /// The encoded message, without any framing.
    pub slices: &'a [Slice<'a>],
}

impl Outgoing<'_> {
    /// Length of the body, in bytes.
    pub fn body_len(&self) -> usize {
        self.slices.iter().map(|piece| piece.bytes.len()).sum()
    }

    /// The frame for oneself.
    pub fn to_frame(&self) -> Frame {
        let piece = |index| self.slices.get(index).map(Slice::to_bytes).unwrap_or_default();
        let last = self.slices.iter().rposition(|piece| !piece.bytes.is_empty());
        let body = match last.map_or(0, |last| last + 1) {
            0 | 1 => Body::Whole(piece(0)),
            2 | 3 => Body::Spliced(Box::new([piece(0), piece(1), piece(2)])),
            _ => Body::Whole(self.slices.iter().flat_map(|piece| piece.bytes).copied().collect()),
        };
        Frame { kind: self.kind, body }
    }
}

/// The encoded message of a frame: one piece of memory, or three where a field was replaced.
#[derive(Debug, Clone)]
pub enum Body {
    /// As it was received or encoded.
    Whole(Bytes),
    /// What stands before the replaced or added field, the field, and what stands behind it.
    Spliced(Box<[Bytes; 3]>),
}

impl Body {
    /// The pieces, in order.
    pub fn segments(&self) -> &[Bytes] {
        match self {
            Body::Whole(bytes) => std::slice::from_ref(bytes),
            Body::Spliced(pieces) => pieces.as_slice(),
        }
    }

    /// The pieces, in order; none is missing, but some may be empty.
    pub fn slices(&self) -> [Slice<'_>; 3] {
        match self {
            Body::Whole(bytes) => [bytes.into(), Slice::EMPTY, Slice::EMPTY],
            Body::Spliced(pieces) => pieces.each_ref().map(Slice::from),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.segments().iter().map(Bytes::len).sum()
    }

    /// Whether there are no bytes at all, as in a `Ping`.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body as one piece; copies it if there are several.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Body::Whole(bytes) => bytes,
            Body::Spliced(pieces) => pieces.concat().into(),
        }
    }
}

/// One message as it travels: its kind, and its encoded body.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What the message is.
    pub kind: MessageKind,
    /// The encoded message, without any framing.
    pub body: Body,
}

impl Frame {
    /// A frame around an encoded message.
    pub fn new(kind: MessageKind, body: impl Into<Bytes>) -> Self {
        Frame { kind, body: Body::Whole(body.into()) }
    }

    /// A frame around an encoded message without its payload, and the payload, which is field `field`
    /// of the message. Protobuf fields may stand in any order.
    pub(crate) fn with_payload(
        kind: MessageKind,
        mut message: Vec<u8>,
        field: u32,
        payload: Bytes,
    ) -> Self {
        if payload.is_empty() {
            return Frame::new(kind, message);
        }
        crate::wire::write_varint(u64::from(field << 3 | 2), &mut message);
        crate::wire::write_varint(payload.len() as u64, &mut message);
        Frame { kind, body: Body::Spliced(Box::new([message.into(), payload, Bytes::new()])) }
    }

    /// The frame as one that stands where it was received; copies its body together if it has several pieces.
    pub fn whole(&mut self) -> FrameRef<'_> {
        if let Body::Spliced(pieces) = &self.body {
            self.body = Body::Whole(pieces.concat().into());
        }
        let [body, ..] = self.body.slices();
        FrameRef { kind: self.kind, body }
    }

    /// Decodes the body as `M`.
    ///
    /// # Errors
    /// [`Violation::WrongDirection`] if the frame holds another kind of message, [`Violation::Malformed`]
    /// if the body does not decode.
    pub fn decode<M: crate::messages::Message>(&self) -> Result<M, Violation> {
        if self.kind != M::KIND {
            return Err(Violation::WrongDirection(self.kind));
        }
        let body = match &self.body {
            Body::Whole(bytes) => bytes.clone(),
            spliced => spliced.clone().into_bytes(),
        };
        let check = || {
            if !M::KIND.has_payload() && body.len() > MAX_PLAIN {
                return Err(WireError::TooLong);
            }
            // A router may have added some to what it has let pass.
            let added = if M::KIND.has_payload() { ADDED_FIELDS } else { 0 };
            Records::check_count(&body, MAX_FIELDS + added)
        };
        check().map_err(|error| Violation::malformed(M::KIND, error))?;
        M::decode(body).map_err(|error| Violation::Malformed {
            kind: M::KIND.name(),
            error: Cow::Owned(error.to_string()),
        })
    }

    /// The bytes that stand before the body on the wire; `None` for a `Hello` or an extension in the classic
    /// framing, which has no number for them, and for a body of 4 GiB or more.
    pub fn header(&self, framing: Framing) -> Option<Header> {
        Header::new(self.kind, self.body.len(), framing)
    }

    /// Appends the whole frame to `out`; `false`, and nothing appended, where [`Frame::header`] is `None`.
    #[must_use]
    pub fn encode(&self, framing: Framing, out: &mut BytesMut) -> bool {
        let Some(header) = self.header(framing) else {
            return false;
        };
        out.extend_from_slice(header.as_ref());
        for segment in self.body.segments() {
            out.extend_from_slice(segment);
        }
        true
    }
}

/// The bytes before a frame's body: 6 to 11 of them.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    bytes: [u8; 16],
    length: u8,
}

impl Header {
    /// The header of a frame with a body of `length` bytes; see [`Frame::header`].
    // Inlined, it stays in registers. As a function it would go through memory, twice for each call.
    #[inline(always)]
    pub fn new(kind: MessageKind, length: usize, framing: Framing) -> Option<Header> {
        let length = u32::try_from(length).ok()?;
        let (first, rest, size) = match framing {
            Framing::Classic => {
                let kind = kind.classic_type()?.cast_unsigned();
                (kind, u64::from(length.swap_bytes()), CLASSIC_HEADER)
            }
            Framing::Packet => {
                let (key, key_size) = varint(kind.field() << 3 | 2);
                let (value, value_size) = varint(length);
                let size = key_size + value_size;
                let packet = length.checked_add(size as u32)?;
                (packet, key | value << (8 * key_size), PACKET_HEADER + size)
            }
        };
        // Written as two words: single bytes, copied right afterwards, would have to wait for their stores.
        let low = u64::from(first.swap_bytes()) | rest << 32;
        let bytes = u128::from(low) | u128::from(rest >> 32) << 64;
        Some(Header { bytes: bytes.to_le_bytes(), length: size as u8 })
    }
}

impl AsRef<[u8]> for Header {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Where a frame stands in the bytes that a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameBounds {
    /// What the message is, and where; `None` if it does not stand there as it is, but has to be put together by
    /// [`FrameDecoder::decode`].
    pub message: Option<(MessageKind, std::ops::Range<usize>)>,
    /// Where the frame ends, in bytes from its beginning.
    pub end: usize,
}

/// Takes frames out of the bytes that a peer sent.
///
/// It keeps no bytes itself and reserves none: memory follows what was received, never what a header
/// announces.
#[derive(Debug, Clone)]
pub struct FrameDecoder {
    framing: Option<Framing>,
    limit: usize,
}

impl FrameDecoder {
    /// A decoder that finds the framing out; `limit` is the largest body accepted, in bytes (see
    /// [`DEFAULT_MAX_FRAME`]).
    pub fn detecting(limit: usize) -> Self {
        FrameDecoder { framing: None, limit }
    }

    /// A decoder for a known framing.
    pub fn new(framing: Framing, limit: usize) -> Self {
        FrameDecoder { framing: Some(framing), limit }
    }

    /// The framing, once it is known.
    pub fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// Takes the next whole frame from the front of `buffer`; `None` while it is not all there.
    ///
    /// # Errors
    /// A [`Violation`], as soon as the header or, once it is complete, the body shows it. The
    /// connection is of no use afterwards.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Violation> {
        let Some(FrameBounds { message, end }) = self.find(buffer)? else {
            return Ok(None);
        };
        match message {
            Some((kind, place)) => {
                buffer.advance(place.start);
                let body = buffer.split_to(place.len());
                Ok(Some(Frame::new(kind, body)))
            }
            None => {
                buffer.advance(PACKET_HEADER);
                unpack_unusual(&buffer.split_to(end - PACKET_HEADER).freeze()).map(Some)
            }
        }
    }

    /// Finds the first whole frame in `buffer`, without taking it out; `None` while it is not all there.
    ///
    /// # Errors
    /// As those of [`decode`](FrameDecoder::decode), but for what only a frame shows that has to be put together.
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

    /// How long the frame at the front of `buffer` is to be, its header included; `None` while that has not
    /// come. For a buffer that [`decode`](FrameDecoder::decode) has found no whole frame in.
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
        let place = FrameBounds { message: Some((kind, CLASSIC_HEADER..end)), end };
        Ok((buffer.len() >= end).then_some(place))
    }

    fn find_packet(&self, buffer: &[u8]) -> Result<Option<FrameBounds>, Violation> {
        let Some(&header) = buffer.first_chunk::<PACKET_HEADER>() else {
            return Ok(None);
        };
        let end = PACKET_HEADER + self.checked_length(header)?;
        let Some(packet) = buffer.get(PACKET_HEADER..end) else {
            return Ok(None);
        };
        let message = usual(packet).map(|(kind, begin)| (kind, PACKET_HEADER + begin..end));
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

/// The bytes of a varint, the first one lowest, and how many they are: at most 5.
#[inline]
fn varint(value: u32) -> (u64, usize) {
    let value = u64::from(value);
    if value < 0x80 {
        return (value, 1);
    }
    let size = varint_len(value);
    let groups = (0..5).fold(0, |groups, n| groups | (value >> (7 * n) & 0x7f) << (8 * n));
    // All bytes but the last say that another one follows.
    let follows = 0x80_8080_8080 & ((1 << (8 * (size - 1))) - 1);
    (groups | follows, size)
}

/// The message of an encoded `Packet` that is as every encoder writes it, one field that takes all there is:
/// which it is, and where it begins.
fn usual(packet: &[u8]) -> Option<(MessageKind, usize)> {
    let (&key, rest) = packet.split_first()?;
    if key & 7 != 2 {
        return None;
    }
    if key >= 0x80 {
        return usual_extension(key, rest);
    }
    let kind = MessageKind::published(u32::from(key >> 3))?;
    Some((kind, 1 + length_of_all(rest)?))
}

/// An extension, whose key has two bytes.
#[cold]
fn usual_extension(low: u8, rest: &[u8]) -> Option<(MessageKind, usize)> {
    let (&high, rest) = rest.split_first().filter(|(high, _)| (1..0x80).contains(*high))?;
    let kind = MessageKind::from_field((u32::from(low & 0x7f) | u32::from(high) << 7) >> 3)?;
    Some((kind, 2 + length_of_all(rest)?))
}

/// How many bytes the length takes that `rest` begins with, if it is the length of all that follows.
#[inline]
fn length_of_all(rest: &[u8]) -> Option<usize> {
    let (length, size) = read_varint(rest).ok()?;
    (length == (rest.len() - size) as u64).then_some(size)
}

/// Takes the message out of a `Packet` with several fields or unknown ones.
fn unpack_unusual(packet: &Bytes) -> Result<Frame, Violation> {
    let mut found: Option<(MessageKind, &[u8])> = None;
    let mut is_alone = true;
    let mut records = Records::new(packet);
    while let Some(record) = records.next().map_err(malformed_packet)? {
        if let Some(kind) = MessageKind::from_field(record.field) {
            let message = record.value.bytes(record.field).map_err(malformed_packet)?;
            is_alone = found.is_none();
            found = Some((kind, message));
        }
    }
    let (kind, message) = found.ok_or(Violation::EmptyPacket)?;
    if !is_alone {
        return merge(packet);
    }
    // A frame is charged for its own bytes only (LI-2): it must not keep a packet that has many more.
    if message.len() < packet.len() / 2 {
        return Ok(Frame::new(kind, Bytes::copy_from_slice(message)));
    }
    Ok(Frame::new(kind, packet.slice_ref(message)))
}

/// [`unpack_unusual`] for a valid `Packet` with several messages. Of different ones the last one counts; parts of the
/// same message are merged, which is what appending them does.
fn merge(packet: &Bytes) -> Result<Frame, Violation> {
    // No encoder writes that, and all of it is decoded and copied here.
    if packet.len() > MAX_PLAIN {
        return Err(malformed_packet(WireError::TooLong));
    }
    Records::check_nested_count(packet).map_err(malformed_packet)?;
    // prost also reads, and refuses, what is overwritten later.
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
#[path = "frame_tests.rs"]
mod tests;
