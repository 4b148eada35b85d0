//! `ya-sb-proto` and `gsb-proto` decode what the other one encodes, byte for byte: version 0.1 with the classic
//! framing, and version 0.6 with the packet framing.

use std::fmt::Debug;

use bytes::BytesMut;
use gsb_interop::witness::{locked_version, took_part};
use gsb_proto::extension::FIRST;
use gsb_proto::framing::DEFAULT_MAX_FRAME;
use gsb_proto::messages::{self as ours, Message};
use gsb_proto::{Frame, FrameDecoder, Framing, MessageKind};

const TEXT: &str = "/golem/żółw 1\u{0}\u{10ffff}";

/// All byte values. Its length takes several bytes in every encoding.
fn payload() -> Vec<u8> {
    (0..70_000u32).map(|i| (i % 256) as u8).collect()
}

/// One message in both codecs. Their decoded message is compared by its `Debug` form, because version 0.1 has no other
/// way.
struct Pair {
    ours: Frame,
    ours_decoded: String,
    decode: fn(&Frame) -> String,
    theirs: Vec<u8>,
    theirs_decoded: String,
}

impl Pair {
    fn new<M: Message + Debug>(ours: &M, theirs: Vec<u8>, theirs_decoded: String) -> Pair {
        Pair {
            ours: ours.to_frame(),
            ours_decoded: format!("{ours:?}"),
            decode: |frame| format!("{:?}", frame.decode::<M>().unwrap()),
            theirs,
            theirs_decoded,
        }
    }
}

/// Calls `$both!` with every message that both codecs know: with all codes, with all fields, and without fields.
macro_rules! every_message {
    ($both:ident) => {
        $both!(RegisterRequest { service_id: TEXT });
        $both!(RegisterRequest {});
        $both!(RegisterReply { code: 400, message: TEXT });
        $both!(RegisterReply { code: 409, message: TEXT });
        $both!(RegisterReply {});
        $both!(UnregisterRequest { service_id: TEXT });
        $both!(UnregisterRequest {});
        $both!(UnregisterReply { code: 404 });
        $both!(UnregisterReply {});
        $both!(CallRequest { caller: "c", address: TEXT, request_id: "r-1", data: payload() });
        $both!(CallRequest {});
        $both!(CallReply { request_id: TEXT, code: 500, reply_type: 1, data: payload() });
        $both!(CallReply { request_id: "r-1", code: 400, reply_type: 0, data: b"why".to_vec() });
        $both!(CallReply { request_id: "r-1", code: 123_456 });
        $both!(CallReply {});
        $both!(SubscribeRequest { topic: TEXT });
        $both!(SubscribeRequest {});
        $both!(SubscribeReply { code: 400, message: TEXT });
        $both!(SubscribeReply {});
        $both!(UnsubscribeRequest { topic: TEXT });
        $both!(UnsubscribeRequest {});
        $both!(UnsubscribeReply { code: 404 });
        $both!(UnsubscribeReply {});
        $both!(BroadcastRequest { caller: "c", data: payload(), topic: TEXT });
        $both!(BroadcastRequest {});
        $both!(BroadcastReply { code: 400, message: TEXT });
        $both!(BroadcastReply {});
        $both!(Ping {});
        $both!(Pong {});
    };
}

/// The same message in our type and in theirs.
macro_rules! pair {
    ($module:ident :: $message:ident { $($field:ident: $value:expr),* }) => {{
        #[allow(unused_mut)]
        let (mut ours, mut theirs) = (ours::$message::default(), $module::$message::default());
        $(
            ours.$field = $value.to_owned().into();
            theirs.$field = $value.to_owned().into();
        )*
        let theirs: GsbMessage = theirs.into();
        let decoded = format!("{theirs:?}");
        Pair::new(&ours, encode(theirs), decoded)
    }};
}

/// `encode` and `decode` with their codec, which has the same names in both versions.
macro_rules! their_codec {
    ($proto:ident, $bytes:ident, $tokio_util:ident) => {
        use $proto::codec::{GsbMessage, GsbMessageDecoder, GsbMessageEncoder};
        use $tokio_util::codec::{Decoder as _, Encoder as _};

        fn encode(message: GsbMessage) -> Vec<u8> {
            let mut bytes = $bytes::BytesMut::new();
            GsbMessageEncoder.encode(message, &mut bytes).unwrap();
            bytes.to_vec()
        }

        fn decode(chunks: &[&[u8]]) -> Vec<String> {
            let (mut buffer, mut found) = ($bytes::BytesMut::new(), Vec::new());
            let mut decoder = GsbMessageDecoder::new();
            for chunk in chunks {
                buffer.extend_from_slice(chunk);
                while let Some(message) = decoder.decode(&mut buffer).unwrap() {
                    found.push(format!("{message:?}"));
                }
            }
            assert!(buffer.is_empty());
            found
        }
    };
}

mod classic {
    use super::*;

    their_codec!(ya_sb_proto_classic, bytes_classic, tokio_util_classic);

    fn pairs() -> Vec<Pair> {
        let mut pairs = Vec::new();
        macro_rules! both {
            ($message:ident $fields:tt) => {
                pairs.push(pair!(ya_sb_proto_classic::$message $fields))
            };
        }
        every_message!(both);
        pairs
    }

    #[test]
    fn classic_codecs_agree() {
        let pairs = pairs();
        all_kinds_but(|kind| kind == MessageKind::Hello || is_extension(kind), &pairs);
        codecs_agree(Framing::Classic, &pairs, decode);
        let version = locked_version("ya-sb-proto", "0.1.");
        took_part("ya-sb-proto", version, "codec", "gsb-proto");
    }
}

mod packet {
    use ya_sb_proto::Hello;

    use super::*;

    their_codec!(ya_sb_proto, bytes, tokio_util);

    fn pairs() -> Vec<Pair> {
        let mut pairs = Vec::new();
        macro_rules! both {
            ($message:ident $fields:tt) => {
                pairs.push(pair!(ya_sb_proto::$message $fields))
            };
        }
        every_message!(both);
        both!(CallRequest { address: TEXT, request_id: "r-1", data: payload(), no_reply: true });

        // Only Hello has no conversion.
        let name = || "name".to_owned();
        let version = || "1.2.3".to_owned();
        let instance_id = || (1..=16).collect::<Vec<u8>>();
        let ours = ours::Hello {
            name: name(),
            version: version(),
            instance_id: instance_id().into(),
            ..ours::Hello::default()
        };
        let theirs = GsbMessage::Hello(Hello {
            name: name(),
            version: version(),
            instance_id: instance_id(),
        });
        let decoded = format!("{theirs:?}");
        pairs.push(Pair::new(&ours, encode(theirs), decoded));
        pairs
    }

    #[test]
    fn packet_codecs_agree() {
        let pairs = pairs();
        all_kinds_but(is_extension, &pairs);
        codecs_agree(Framing::Packet, &pairs, decode);
        let version = locked_version("ya-sb-proto", "0.6.");
        took_part("ya-sb-proto", version, "codec", "gsb-proto");
    }
}

/// Whether their codecs do not know a kind of message.
fn is_extension(kind: MessageKind) -> bool {
    kind.field() >= FIRST
}

fn all_kinds_but(is_absent: impl Fn(MessageKind) -> bool, pairs: &[Pair]) {
    for &kind in MessageKind::ALL {
        let is_tried = pairs.iter().any(|pair| pair.ours.kind == kind);
        assert_ne!(is_tried, is_absent(kind), "{kind:?}");
    }
}

fn codecs_agree(framing: Framing, pairs: &[Pair], their_decoder: fn(&[&[u8]]) -> Vec<String>) {
    for Pair { ours, ours_decoded, decode, theirs, theirs_decoded } in pairs {
        let mut encoded = BytesMut::new();
        assert!(ours.encode(framing, &mut encoded), "{ours_decoded}");
        // Not assert_eq, which would print the payloads.
        assert!(encoded == theirs, "{:?} is encoded differently", ours.kind);

        assert_eq!(their_decoder(&[&encoded]), [theirs_decoded.as_str()]);

        let known = FrameDecoder::new(framing, DEFAULT_MAX_FRAME);
        let detecting = FrameDecoder::detecting(DEFAULT_MAX_FRAME);
        for decoder in [known, detecting] {
            let frames = decode_chunks(decoder, framing, &[theirs]);
            let [frame] = &frames[..] else {
                panic!("{} frames instead of one {:?}", frames.len(), ours.kind);
            };
            assert_eq!(frame.kind, ours.kind);
            assert_eq!(decode(frame), *ours_decoded);
        }
    }

    // All messages in sequence, cut at arbitrary places.
    let stream: Vec<u8> = pairs.iter().flat_map(|pair| pair.theirs.clone()).collect();
    for size in [1, 7, 4096, stream.len()] {
        let chunks: Vec<&[u8]> = stream.chunks(size).collect();
        let decoder = FrameDecoder::detecting(DEFAULT_MAX_FRAME);
        let frames = decode_chunks(decoder, framing, &chunks);
        assert_eq!(frames.len(), pairs.len());
        for (frame, pair) in frames.iter().zip(pairs) {
            assert_eq!(frame.kind, pair.ours.kind);
            assert_eq!((pair.decode)(frame), pair.ours_decoded);
        }
        let found = their_decoder(&chunks);
        let expected: Vec<_> = pairs.iter().map(|pair| pair.theirs_decoded.clone()).collect();
        assert!(found == expected, "their decoder, in pieces of {size} bytes");
    }
}

fn decode_chunks(mut decoder: FrameDecoder, framing: Framing, chunks: &[&[u8]]) -> Vec<Frame> {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
            frames.push(frame);
        }
    }
    assert!(buffer.is_empty());
    assert_eq!(decoder.framing(), Some(framing));
    frames
}
