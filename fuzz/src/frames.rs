//! Cutting bytes into chunks, and into frames.

use arbitrary::Arbitrary;
use bytes::{Bytes, BytesMut};
use gsb_proto::framing::{DEFAULT_MAX_FRAME, LARGEST_FRAME};
use gsb_proto::messages::Packet;
use gsb_proto::{Frame, FrameDecoder, Framing, MessageKind, Violation};
use prost::Message as _;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use crate::memory::Meter;

/// What a peer sends, and how it arrives.
#[derive(Debug, Arbitrary)]
pub struct Input<'a> {
    limit: Limit,
    cuts: Cuts,
    /// All that is sent.
    pub bytes: &'a [u8],
}

/// The largest body that the reader accepts.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Limit {
    Tiny,
    Small,
    Default,
}

impl Input<'_> {
    /// The largest body that the reader accepts, in bytes.
    pub fn limit(&self) -> usize {
        match self.limit {
            Limit::Tiny => 8,
            Limit::Small => 200,
            Limit::Default => DEFAULT_MAX_FRAME,
        }
    }

    /// The bytes as they arrive.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.cuts.chunks(self.bytes)
    }
}

/// Where a stream of bytes is cut: the lengths of the chunks, over and over again.
#[derive(Debug, Clone, Arbitrary)]
pub struct Cuts([u8; 4]);

impl Cuts {
    /// The bytes, cut. No chunk is empty.
    pub fn chunks<'a>(&self, mut bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut lengths = self.0.iter().cycle();
        std::iter::from_fn(move || {
            let length = usize::from(*lengths.next()?) + 1;
            let (chunk, rest) = bytes.split_at(length.min(bytes.len()));
            bytes = rest;
            (!chunk.is_empty()).then_some(chunk)
        })
    }
}

/// A frame in memory of its own.
pub type Seen = (MessageKind, Bytes);

/// What a decoder made of what it was given.
#[derive(Debug, PartialEq)]
pub struct Read {
    /// The frames, in order.
    pub frames: Vec<Seen>,
    /// What ended the reading, if not the end of the bytes.
    pub violation: Option<Violation>,
}

/// Lets a decoder read chunks. The buffer must never become larger by its doing, and what it takes out
/// of it must be a frame.
pub fn read<'a>(mut decoder: FrameDecoder, chunks: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut read = Read { frames: Vec::new(), violation: None };
    let mut buffer = BytesMut::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            let before = (buffer.capacity(), buffer.len());
            let announced = decoder.announced_len(&buffer);
            let decoded = decoder.decode(&mut buffer);
            assert!(buffer.capacity() <= before.0, "the decoder has reserved memory");
            match decoded {
                Ok(Some(Frame { kind, body })) => {
                    let length = before.1 - buffer.len();
                    assert!(length > 0, "a frame out of nothing");
                    assert!(announced.is_none_or(|announced| announced == length));
                    read.frames.push((kind, Bytes::copy_from_slice(&body.into_bytes())));
                }
                Ok(None) => {
                    assert_eq!((buffer.capacity(), buffer.len()), before, "bytes are gone");
                    assert!(announced.is_none_or(|announced| announced > before.1));
                    break;
                }
                Err(violation) => {
                    assert!(!violation.to_string().is_empty());
                    read.violation = Some(violation);
                    return read;
                }
            }
        }
    }
    read
}

/// What all frames of one framing have to hold; see the targets `frames_packet` and `frames_classic`.
pub fn check(framing: Framing, input: &Input<'_>) {
    let decoder = || FrameDecoder::new(framing, input.limit());
    let whole = read(decoder(), std::iter::once(input.bytes));
    let meter = Meter::start();
    let cut = read(decoder(), input.chunks());
    // What is received, twofold at most, and the list of what was found: a frame has 4 bytes or more.
    let allowed = 40 * input.bytes.len() + 4096;
    assert!(meter.peak() <= allowed, "{} bytes of memory", meter.peak());
    assert_eq!(whole, cut, "(left: in one piece)");
    follow(framing, input.limit(), input.bytes, &cut);
    for (kind, body) in &cut.frames {
        check_encoding(*kind, body);
    }
}

/// Rules FR-2, FR-3, FR-5, FR-10, CO-12 and CO-14, followed naively.
fn follow(framing: Framing, limit: usize, mut bytes: &[u8], read: &Read) {
    let mut frames = read.frames.iter();
    let expected = loop {
        let mut kind = None;
        if framing == Framing::Classic && bytes.len() >= 8 {
            let (number, rest) = number(bytes);
            // The table has 14 types; its fields are two more. Extensions have none.
            kind = MessageKind::ALL.iter().find(|kind| kind.field() == number.wrapping_add(2));
            if kind.is_none_or(|kind| !has_form(*kind, framing)) {
                break Some("unknown type");
            }
            bytes = rest;
        } else if framing == Framing::Classic || bytes.len() < 4 {
            break None;
        }
        let (length, rest) = number(bytes);
        let length = length as usize;
        if length > limit {
            break Some("frame too large");
        }
        let Some((body, rest)) = rest.split_at_checked(length) else {
            break None;
        };
        bytes = rest;
        match (kind, frames.as_slice().first()) {
            (Some(kind), seen) => {
                assert_eq!(seen, Some(&(*kind, Bytes::copy_from_slice(body))));
            }
            (None, seen) => {
                let inside = Packet::decode(body);
                let outcome = seen.map(|(kind, body)| Packet::decode(packed(*kind, body)));
                match (inside.map(|packet| packet.packet), outcome) {
                    (Ok(None), _) => break Some("empty packet"),
                    // Rule FR-12.
                    (Ok(_), seen) if body.len() > 256 << 10 && messages(body) > 1 => {
                        assert!(seen.is_none(), "{} bytes of messages", body.len());
                        break Some("malformed message");
                    }
                    // What does not decode shows now, or to whoever decodes the message.
                    (Err(_), None) => break Some("malformed message"),
                    (Err(_), Some(seen)) => assert!(seen.is_err(), "{body:?} became {seen:?}"),
                    (Ok(message), Some(Ok(seen))) => assert_eq!(message, seen.packet),
                    (Ok(message), seen) => panic!("{message:?} became {seen:?}"),
                }
            }
        }
        frames.next();
    };
    assert_eq!(frames.as_slice(), [], "more frames than there are");
    assert_eq!(read.violation.as_ref().map(Violation::reason), expected);
}

/// How many messages stand in a `Packet` that decodes.
fn messages(mut packet: &[u8]) -> usize {
    let mut count = 0;
    while !packet.is_empty() {
        let (field, wire_type) = decode_key(&mut packet).expect("it decodes");
        count += usize::from(MessageKind::from_field(field).is_some());
        skip_field(wire_type, field, &mut packet, DecodeContext::default()).expect("it decodes");
    }
    count
}

/// The first four bytes, and the others.
fn number(bytes: &[u8]) -> (u32, &[u8]) {
    let (number, rest) = bytes.split_first_chunk().expect("the length was looked at");
    (u32::from_be_bytes(*number), rest)
}

/// The message as the only field of a `Packet`.
pub fn packed(kind: MessageKind, message: &[u8]) -> Bytes {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(kind.field() << 3 | 2), &mut out);
    prost::encoding::encode_varint(message.len() as u64, &mut out);
    out.extend_from_slice(message);
    out.into()
}

/// Rules CO-1 and FR-13: whether a message exists in a framing.
fn has_form(kind: MessageKind, framing: Framing) -> bool {
    framing == Framing::Packet || (kind != MessageKind::Hello && kind.field() < 100)
}

/// A frame that is encoded is decoded to itself, in both framings.
fn check_encoding(kind: MessageKind, body: &Bytes) {
    let frame = Frame::new(kind, body.clone());
    for framing in [Framing::Classic, Framing::Packet] {
        let mut out = BytesMut::new();
        let has_form = has_form(kind, framing);
        assert_eq!(frame.encode(framing, &mut out), has_form);
        let read = read(FrameDecoder::new(framing, LARGEST_FRAME), std::iter::once(&out[..]));
        assert_eq!(read.violation, None);
        let expected = has_form.then(|| (kind, body.clone()));
        assert_eq!(read.frames, Vec::from_iter(expected));
    }
}
