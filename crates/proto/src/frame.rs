//! A frame: one encoded message and its kind, as it is received, kept and sent.

use bytes::{Bytes, BytesMut};

use crate::framing::{Framing, Header};
use crate::kind::MessageKind;
use crate::wire::write_varint;

/// A borrowed slice of bytes, with the shared memory that holds it, if there is any.
#[derive(Debug, Clone, Copy)]
pub struct Slice<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// The shared memory that the bytes are a part of.
    pub memory: Option<&'a Bytes>,
}

impl Slice<'_> {
    /// A slice without bytes.
    pub const EMPTY: Slice<'static> = Slice { bytes: &[], memory: None };

    /// The bytes as an owned value: shares the memory if there is any, copies them otherwise.
    ///
    /// # Panics
    /// If `bytes` is not a part of `memory`.
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

/// A received frame, borrowed from the buffer it was read into.
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    /// The kind of the message.
    pub kind: MessageKind,
    /// The encoded message, without any framing.
    pub body: Slice<'a>,
}

/// A frame to be sent, borrowed, with its body in any number of slices.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The kind of the message.
    pub kind: MessageKind,
    /// The encoded message, without any framing.
    pub slices: &'a [Slice<'a>],
}

impl Outgoing<'_> {
    /// Length of the body, in bytes.
    pub fn body_len(&self) -> usize {
        self.slices.iter().map(|slice| slice.bytes.len()).sum()
    }

    /// The frame as an owned value.
    pub fn to_frame(&self) -> Frame {
        let slice = |index| self.slices.get(index).map(Slice::to_bytes).unwrap_or_default();
        let last = self.slices.iter().rposition(|slice| !slice.bytes.is_empty());
        let body = match last.map_or(0, |last| last + 1) {
            0 | 1 => Body::Whole(slice(0)),
            2 | 3 => Body::Spliced(Box::new([slice(0), slice(1), slice(2)])),
            _ => Body::Whole(self.slices.iter().flat_map(|slice| slice.bytes).copied().collect()),
        };
        Frame { kind: self.kind, body }
    }
}

/// The encoded message of a frame, in one segment of memory or in three.
#[derive(Debug, Clone)]
pub enum Body {
    /// One segment: the message as it was received or encoded.
    Whole(Bytes),
    /// Three segments: what precedes a replaced or added field, the field, and what follows it.
    Spliced(Box<[Bytes; 3]>),
}

impl Body {
    /// The segments, in order.
    pub fn segments(&self) -> &[Bytes] {
        match self {
            Body::Whole(bytes) => std::slice::from_ref(bytes),
            Body::Spliced(segments) => segments.as_slice(),
        }
    }

    /// The segments, in order, filled up to three with empty ones.
    pub fn slices(&self) -> [Slice<'_>; 3] {
        match self {
            Body::Whole(bytes) => [bytes.into(), Slice::EMPTY, Slice::EMPTY],
            Body::Spliced(segments) => segments.each_ref().map(Slice::from),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.segments().iter().map(Bytes::len).sum()
    }

    /// Whether there are no bytes, as in a `Ping`.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body as one segment; copies it if it has three.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Body::Whole(bytes) => bytes,
            Body::Spliced(segments) => segments.concat().into(),
        }
    }
}

/// One message and its kind.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The kind of the message.
    pub kind: MessageKind,
    /// The encoded message, without any framing.
    pub body: Body,
}

impl Frame {
    /// A frame with an encoded message.
    pub fn new(kind: MessageKind, body: impl Into<Bytes>) -> Self {
        Frame { kind, body: Body::Whole(body.into()) }
    }

    /// A frame with an encoded message that lacks its payload, and the payload, which belongs into the message's field
    /// `field`. The payload comes last, as protobuf fields may have any order.
    pub(crate) fn with_payload(
        kind: MessageKind,
        mut message: Vec<u8>,
        field: u32,
        payload: Bytes,
    ) -> Self {
        if payload.is_empty() {
            return Frame::new(kind, message);
        }
        write_varint(u64::from(field << 3 | 2), &mut message);
        write_varint(payload.len() as u64, &mut message);
        Frame { kind, body: Body::Spliced(Box::new([message.into(), payload, Bytes::new()])) }
    }

    /// Borrows the frame as a received one. A body of three segments is first copied into one.
    pub fn whole(&mut self) -> FrameRef<'_> {
        if let Body::Spliced(segments) = &self.body {
            self.body = Body::Whole(segments.concat().into());
        }
        let [body, ..] = self.body.slices();
        FrameRef { kind: self.kind, body }
    }

    /// The bytes that precede the body on the wire; `None` where [`Header::new`] is.
    pub fn header(&self, framing: Framing) -> Option<Header> {
        Header::new(self.kind, self.body.len(), framing)
    }

    /// Appends the frame, header included, to `out`. Returns `false` and appends nothing if the frame has no
    /// [`header`](Frame::header) in this framing.
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
