use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::extension;
use crate::framing::{DEFAULT_MAX_FRAME, Header};
use crate::messages::{self, packet};
use crate::wire::MAX_FIELDS;

const LIMIT: usize = DEFAULT_MAX_FRAME;

fn frame(kind: MessageKind, body: &'static [u8]) -> Frame {
    Frame::new(kind, body)
}

fn encoded(frame: &Frame, framing: Framing) -> BytesMut {
    let mut out = BytesMut::new();
    assert!(frame.encode(framing, &mut out));
    out
}

fn decode_all(
    decoder: &mut FrameDecoder,
    bytes: &[u8],
) -> Result<Vec<(MessageKind, Bytes)>, Violation> {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(&mut buffer)? {
        frames.push((frame.kind, frame.body.into_bytes()));
    }
    Ok(frames)
}

// Rules FR-2, FR-5: the type numbers and the header of the classic framing.
#[test]
fn classic_header_is_type_and_length() {
    let numbers = [
        (MessageKind::RegisterRequest, 0),
        (MessageKind::RegisterReply, 1),
        (MessageKind::UnregisterRequest, 2),
        (MessageKind::UnregisterReply, 3),
        (MessageKind::CallRequest, 4),
        (MessageKind::CallReply, 5),
        (MessageKind::SubscribeRequest, 6),
        (MessageKind::SubscribeReply, 7),
        (MessageKind::UnsubscribeRequest, 8),
        (MessageKind::UnsubscribeReply, 9),
        (MessageKind::BroadcastRequest, 10),
        (MessageKind::BroadcastReply, 11),
        (MessageKind::Ping, 12),
        (MessageKind::Pong, 13),
    ];
    for (kind, number) in numbers {
        assert_eq!(kind.classic_type(), Some(number));
        assert_eq!(MessageKind::from_classic_type(number), Some(kind));
        let bytes = encoded(&frame(kind, b"xyz"), Framing::Classic);
        assert_eq!(&bytes[..], [&[0, 0, 0, number as u8, 0, 0, 0, 3], &b"xyz"[..]].concat());
    }
    // Rule FR-13: extensions have no type number, either.
    let extensions = MessageKind::ALL.iter().filter(|kind| kind.field() >= extension::FIRST);
    for &kind in extensions.chain([&MessageKind::Hello]) {
        assert_eq!(kind.classic_type(), None);
        assert!(!frame(kind, b"").encode(Framing::Classic, &mut BytesMut::new()));
    }
    for unknown in [-2, -1, 14, 15, 98, 100, i32::MIN, i32::MAX] {
        assert_eq!(MessageKind::from_classic_type(unknown), None);
    }
}

// Rules FR-3, FR-5: a packet frame is a length and a `Packet`, under the field numbers of the table.
#[test]
fn packet_frame_is_length_and_packet() {
    let call = messages::CallRequest {
        caller: "/me".into(),
        address: "/echo".into(),
        request_id: "1".into(),
        data: Bytes::from(vec![7; 300]),
        no_reply: true,
        ..Default::default()
    };
    let all: Vec<(u32, packet::Packet)> = vec![
        (1, packet::Packet::Hello(messages::Hello { name: "n".into(), ..Default::default() })),
        (
            2,
            packet::Packet::RegisterRequest(messages::RegisterRequest {
                service_id: "/a".into(),
                ..Default::default()
            }),
        ),
        (3, packet::Packet::RegisterReply(messages::RegisterReply::default())),
        (4, packet::Packet::UnregisterRequest(messages::UnregisterRequest::default())),
        (5, packet::Packet::UnregisterReply(messages::UnregisterReply { code: 404 })),
        (6, packet::Packet::CallRequest(call)),
        (7, packet::Packet::CallReply(messages::CallReply::default())),
        (8, packet::Packet::SubscribeRequest(messages::SubscribeRequest::default())),
        (9, packet::Packet::SubscribeReply(messages::SubscribeReply::default())),
        (10, packet::Packet::UnsubscribeRequest(messages::UnsubscribeRequest::default())),
        (11, packet::Packet::UnsubscribeReply(messages::UnsubscribeReply::default())),
        (12, packet::Packet::BroadcastRequest(messages::BroadcastRequest::default())),
        (13, packet::Packet::BroadcastReply(messages::BroadcastReply::default())),
        (14, packet::Packet::Ping(messages::Ping {})),
        (15, packet::Packet::Pong(messages::Pong {})),
        // Rule FR-13: a key of two bytes.
        (100, packet::Packet::CancelCall(messages::CancelCall { request_id: "1".into() })),
        (100, packet::Packet::CancelCall(messages::CancelCall { request_id: "r".repeat(300) })),
        (100, packet::Packet::CancelCall(messages::CancelCall::default())),
        (101, packet::Packet::StreamCredit(messages::StreamCredit::default())),
        (
            102,
            packet::Packet::CallData(messages::CallData { data: "d".into(), ..Default::default() }),
        ),
        (103, packet::Packet::GoAway(messages::GoAway::default())),
        (104, packet::Packet::NameLost(messages::NameLost::default())),
    ];
    for (field, packet) in all {
        let packet = messages::Packet { packet: Some(packet) }.encode_to_vec();
        assert_eq!(first_field(&packet), field);
        let mut wire = BytesMut::new();
        wire.put_u32(packet.len() as u32);
        wire.put_slice(&packet);

        let mut decoder = FrameDecoder::new(Framing::Packet, LIMIT);
        let read = decoder.decode(&mut wire.clone()).unwrap().unwrap();
        assert_eq!(read.kind.field(), field);
        assert_eq!(encoded(&read, Framing::Packet), wire, "field {field}");
    }
}

/// The number of the first field of an encoded message.
fn first_field(mut message: &[u8]) -> u32 {
    prost::encoding::decode_key(&mut message).unwrap().0
}

// Rule FR-13: the framing cannot be detected from an extension.
#[test]
fn a_connection_cannot_begin_with_an_extension() {
    let wire = encoded(&frame(MessageKind::CancelCall, b""), Framing::Packet);
    let refused = decode_all(&mut FrameDecoder::detecting(LIMIT), &wire).unwrap_err();
    assert_eq!(refused, Violation::UnknownFraming(0xa2));
}

// Rule FR-4: only the fifth byte tells the framing.
#[test]
fn fifth_byte_tells_the_framing() {
    for byte in 0..=255u8 {
        let start = [0xff, 0, 0x20, 1, byte];
        let expected = match byte {
            0x00..=0x07 => Ok(Some(Framing::Classic)),
            0x0a | 0x12 | 0x1a | 0x22 | 0x2a | 0x32 | 0x3a | 0x42 | 0x4a | 0x52 | 0x5a | 0x62
            | 0x6a | 0x72 | 0x7a => Ok(Some(Framing::Packet)),
            _ => Err(Violation::UnknownFraming(byte)),
        };
        assert_eq!(Framing::detect(&start), expected, "{byte:#x}");
        assert_eq!(Framing::detect(&start[..4]), Ok(None));
    }
}

// Rule FR-1.
#[test]
fn framing_stays_for_life() {
    let ping = frame(MessageKind::Ping, b"");
    let mut decoder = FrameDecoder::detecting(LIMIT);
    assert_eq!(decode_all(&mut decoder, &encoded(&ping, Framing::Packet)).unwrap().len(), 1);
    assert_eq!(decoder.framing(), Some(Framing::Packet));
    // In the packet framing, a classic Ping is an incomplete packet of 12 bytes.
    assert_eq!(decode_all(&mut decoder, &encoded(&ping, Framing::Classic)).unwrap().len(), 0);
    assert_eq!(decoder.framing(), Some(Framing::Packet));
}

// Rule CO-14: the limit applies before the body arrives.
#[test]
fn the_frame_limit_applies_to_the_header() {
    for framing in [Framing::Classic, Framing::Packet] {
        let mut decoder = FrameDecoder::new(framing, 1000);
        let mut buffer = BytesMut::new();
        if framing == Framing::Classic {
            buffer.put_i32(4);
        }
        buffer.put_u32(1001);
        assert_eq!(
            decoder.decode(&mut buffer).unwrap_err(),
            Violation::FrameTooLarge { length: 1001, limit: 1000 }
        );
        let mut buffer = BytesMut::new();
        if framing == Framing::Classic {
            buffer.put_i32(4);
        }
        buffer.put_u32(1000);
        let before = buffer.capacity();
        assert!(decoder.decode(&mut buffer).unwrap().is_none());
        assert_eq!(
            buffer.capacity(),
            before,
            "nothing may be reserved for a body that was only announced"
        );
    }
}

// Rules CO-12, FR-10: unknown types, empty packets, and packets that do not decode.
#[test]
fn violations_are_told_apart() {
    let classic = |kind: i32| {
        let mut bytes = BytesMut::new();
        bytes.put_i32(kind);
        bytes.put_u32(0);
        decode_all(&mut FrameDecoder::new(Framing::Classic, LIMIT), &bytes).unwrap_err()
    };
    assert_eq!(classic(14), Violation::UnknownType(14));
    assert_eq!(classic(-2), Violation::UnknownType(-2));
    let packet = |body: &[u8]| {
        let mut bytes = BytesMut::new();
        bytes.put_u32(body.len() as u32);
        bytes.put_slice(body);
        decode_all(&mut FrameDecoder::new(Framing::Packet, LIMIT), &bytes)
    };
    assert_eq!(packet(b"").unwrap_err(), Violation::EmptyPacket);
    // Field 16 is not a message.
    assert_eq!(packet(&[0x82, 0x01, 0]).unwrap_err(), Violation::EmptyPacket);
    for malformed in [&[0x72][..], &[0x72, 5, 0], &[0x70, 0], &[0x07, 0], &[0x72, 0, 0x72]] {
        assert_eq!(packet(malformed).unwrap_err().reason(), "malformed message", "{malformed:?}");
    }
    // An unknown field beside the message is skipped.
    assert_eq!(packet(&[0x82, 0x01, 1, 9, 0x72, 0]).unwrap(), [(MessageKind::Ping, Bytes::new())]);
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

fn any_kind() -> impl Strategy<Value = MessageKind> {
    (0..MessageKind::ALL.len()).prop_map(|index| MessageKind::ALL[index])
}

proptest! {
    // However the bytes are divided, the frames are the same, in both framings, detected or given.
    #[test]
    fn any_chunking_yields_the_same_frames(
        frames in prop::collection::vec((any_kind(), any_body()), 1..8),
        classic in any::<bool>(),
        cuts in prop::collection::vec(1usize..40, 1..50),
    ) {
        let framing = if classic { Framing::Classic } else { Framing::Packet };
        let frames: Vec<_> = frames
            .into_iter()
            .filter(|(kind, _)| !classic || kind.classic_type().is_some())
            .collect();
        let mut wire = BytesMut::new();
        for (kind, body) in &frames {
            prop_assert!(Frame::new(*kind, body.clone()).encode(framing, &mut wire));
        }
        let is_first = !classic && frames.first().is_some_and(|(kind, _)| kind.field() >= extension::FIRST);
        let mut decoder = match is_first {
            true => FrameDecoder::new(framing, LIMIT),
            false => FrameDecoder::detecting(LIMIT),
        };
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        let mut cuts = cuts.iter().cycle();
        while !wire.is_empty() {
            let cut = wire.len().min(*cuts.next().unwrap());
            buffer.extend_from_slice(&wire.split_to(cut));
            while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                read.push((frame.kind, frame.body.into_bytes().to_vec()));
            }
        }
        prop_assert_eq!(read, frames);
        prop_assert!(buffer.is_empty());
    }

    // Rules SV-6, FR-10: this decoder and prost find the same message in a packet, or both refuse it.
    #[test]
    fn packets_are_read_as_prost_reads_them(packet in packet_bytes()) {
        let mut wire = BytesMut::new();
        wire.put_u32(packet.len() as u32);
        wire.put_slice(&packet);
        let ours = FrameDecoder::new(Framing::Packet, LIMIT).decode(&mut wire);
        let theirs = messages::Packet::decode(packet.as_slice());
        match (ours, theirs.map(|packet| packet.packet)) {
            (Ok(Some(frame)), Ok(Some(message))) => {
                let alone = messages::Packet { packet: Some(message) }.encode_to_vec();
                prop_assert_eq!(first_field(&alone), frame.kind.field());
                let mut again = BytesMut::new();
                prop_assert!(frame.encode(Framing::Packet, &mut again));
                let again = messages::Packet::decode(&again[4..]).unwrap().encode_to_vec();
                prop_assert_eq!(again, alone);
            }
            (Err(Violation::EmptyPacket), Ok(None)) => {}
            (Err(Violation::Malformed { .. }), Err(_)) => {}
            // The decoder does not check a single message. `Frame::decode` does.
            (Ok(Some(frame)), Err(_)) => {
                let mut again = BytesMut::new();
                prop_assert!(frame.encode(Framing::Packet, &mut again));
                prop_assert!(messages::Packet::decode(&again[4..]).is_err());
            }
            (ours, theirs) => prop_assert!(false, "{ours:?} against {theirs:?}"),
        }
    }
}

/// Bytes that often are a valid packet.
fn packet_bytes() -> impl Strategy<Value = Vec<u8>> {
    let field = (
        prop_oneof![9 => 1u32..18, 2 => 99u32..102],
        prop::sample::select(vec![0u32, 1, 2, 2, 2, 2, 2, 3, 4, 5]),
        inner_bytes(),
    )
        .prop_map(|(number, wire_type, body)| {
            let mut out = Vec::new();
            prost::encoding::encode_varint(u64::from(number << 3 | wire_type), &mut out);
            if wire_type == 2 {
                prost::encoding::encode_varint(body.len() as u64, &mut out);
            }
            out.extend(body);
            out
        });
    prop::collection::vec(field, 0..4).prop_map(|fields| fields.concat())
}

fn inner_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => ("[a-z/]{0,5}", "[a-z0-9]{0,3}").prop_map(|(address, request_id)| messages::CallRequest {
            address, request_id, ..Default::default()
        }.encode_to_vec()),
        2 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

/// A message with this number of unknown fields.
fn many_fields(count: usize) -> Vec<u8> {
    // Field 15 as a number is in no message.
    [15 << 3, 1].repeat(count)
}

// Rule FR-11, for all messages.
#[test]
fn a_message_with_too_many_fields_is_refused() {
    let refused = |result: Result<(), Violation>| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("4096 fields"), "{error}");
    };
    for kind in [MessageKind::Ping, MessageKind::RegisterRequest] {
        let decode = |count| -> Result<(), Violation> {
            let frame = Frame::new(kind, many_fields(count));
            match kind {
                MessageKind::Ping => frame.decode::<messages::Ping>().map(drop),
                _ => frame.decode::<messages::RegisterRequest>().map(drop),
            }
        };
        decode(MAX_FIELDS).unwrap();
        refused(decode(MAX_FIELDS + 1));
    }
    let head = |count| crate::head::CallHead::read(&many_fields(count)).map(drop);
    head(MAX_FIELDS).unwrap();
    refused(head(MAX_FIELDS + 1));
    // The fields of headers count.
    let call = |headers: usize, fields: &[u8]| {
        let header = [&[0xb2, 0x06, fields.len() as u8], fields].concat().repeat(headers);
        crate::head::CallHead::read(&header).map(drop)
    };
    call(MAX_FIELDS / 4, &[0x0a, 0, 0x12, 0, 0x18, 0]).unwrap();
    refused(call(MAX_FIELDS / 4 + 1, &[0x0a, 0, 0x12, 0, 0x18, 0]));
    // The fields of all messages of a packet count.
    let packet = |counts: &[usize]| {
        let mut packet = BytesMut::new();
        for &count in counts {
            let part = many_fields(count);
            packet.put_u8(14 << 3 | 2);
            prost::encoding::encode_varint(part.len() as u64, &mut packet);
            packet.put_slice(&part);
        }
        decode_any(&packet.freeze()).map(drop)
    };
    packet(&[4_000, 94]).unwrap();
    refused(packet(&[3_000, 3_000]));
    refused(packet(&vec![0; MAX_FIELDS + 1]));
}

// Rule FR-12: payloads do not count.
#[test]
fn a_message_with_too_much_text_is_refused() {
    use messages::Message as _;
    let text = |length| "x".repeat(length);
    let call = |address, caller, data| {
        let request = messages::CallRequest {
            address: text(address),
            caller: text(caller),
            data: vec![0; data].into(),
            ..Default::default()
        };
        crate::head::CallHead::read(&request.to_frame().body.into_bytes()).map(drop)
    };
    call(40_000, 25_536, 1 << 20).unwrap();
    let error = call(40_000, 25_537, 0).unwrap_err().to_string();
    assert!(error.contains("65536 bytes of text"), "{error}");
    let register = |length| {
        let request = messages::RegisterRequest { service_id: text(length), ..Default::default() };
        request.to_frame().decode::<messages::RegisterRequest>().map(drop)
    };
    register(262_000).unwrap();
    let error = register(263_000).unwrap_err().to_string();
    assert!(error.contains("262144 bytes"), "{error}");
}

/// A `Packet` with these fields.
fn packet_of(fields: &[(u32, &[u8])]) -> Bytes {
    let mut packet = BytesMut::new();
    for &(field, part) in fields {
        crate::wire::write_varint(u64::from(field << 3 | 2), &mut packet);
        crate::wire::write_varint(part.len() as u64, &mut packet);
        packet.put_slice(part);
    }
    packet.freeze()
}

// Rule FR-12.
#[test]
fn a_packet_of_several_long_messages_is_refused() {
    // An unknown field of this many bytes, including a header of five bytes.
    let part = |length: usize| packet_of(&[(130, &vec![7; length - 5])]);
    // A message has a header of four bytes, an empty message one of two bytes.
    let half = part((MAX_PLAIN - 8) / 2);
    decode_any(&packet_of(&[(14, &half), (14, &half)])).unwrap();
    decode_any(&packet_of(&[(2, b""), (14, &part(MAX_PLAIN - 6))])).unwrap();
    let longer = part(half.len() + 1);
    for fields in [
        &[(14, &*half), (14, &*longer)],
        &[(2, b"".as_slice()), (14, &*part(MAX_PLAIN - 5))],
        &[(14, &*part(MAX_PLAIN - 5)), (2, b"".as_slice())],
    ] {
        let violation = decode_any(&packet_of(fields)).unwrap_err();
        assert!(matches!(violation, Violation::Malformed { kind: "Packet", .. }));
        let error = violation.to_string();
        assert!(error.contains("262144 bytes"), "{error}");
    }
}

// Unknown fields beside a message are skipped, and the message is not copied.
#[test]
fn a_message_beside_unknown_fields_is_not_copied() {
    // The message need not even be valid: the decoder does not read it.
    let call = vec![0xff; 1 << 20];
    let unknown = vec![7; 1000];
    for fields in [&[(130, &*unknown), (6, &*call)], &[(6, &*call), (130, &*unknown)]] {
        let packet = packet_of(fields);
        let frame = decode_any(&packet).unwrap();
        assert_eq!(frame.kind, MessageKind::CallRequest);
        let body = frame.body.into_bytes();
        assert_eq!(body, call);
        assert!(packet.as_ptr_range().contains(&body.as_ptr()), "it was copied");
    }
}

// Rule LI-2: a queued frame takes about as much memory as its connection is charged for.
#[test]
fn a_message_does_not_keep_large_unknown_fields_in_memory() {
    let packet = packet_of(&[(130, &vec![7; 1 << 20]), (6, &[1; 100_000])]);
    let frame = decode_any(&packet).unwrap();
    let body = frame.body.into_bytes();
    assert_eq!(body, vec![1; 100_000]);
    assert!(!packet.as_ptr_range().contains(&body.as_ptr()), "it keeps the whole packet");
}

// Rule FR-11: the receiver accepts a forwarded message to which the router added a field.
#[test]
fn fields_that_a_router_adds_do_not_count() {
    let message = Bytes::from(many_fields(MAX_FIELDS));
    crate::head::BroadcastHead::read(&message).unwrap();
    let body = crate::head::BroadcastHead::with_missed(&message, 1);
    let frame = Frame { kind: MessageKind::BroadcastRequest, body };
    frame.decode::<messages::BroadcastRequest>().unwrap();
    let body = crate::head::CallHead::read(&message).unwrap().request_id.replace_in(&message, "x");
    Frame { kind: MessageKind::CallRequest, body }.decode::<messages::CallRequest>().unwrap();
}

// The longest body has a header, a body of 4 GiB has none.
#[test]
fn the_longest_header_fits() {
    for kind in [MessageKind::Pong, MessageKind::CancelCall] {
        let key = if kind == MessageKind::Pong { 1 } else { 2 };
        let longest = u32::MAX as usize - key - 5;
        let header = Header::new(kind, longest, Framing::Packet).unwrap();
        assert_eq!(header.as_ref().len(), 4 + key + 5);
        for length in [longest + 1, 1 << 32, usize::MAX >> 1] {
            assert!(Header::new(kind, length, Framing::Packet).is_none(), "{kind:?} of {length}");
        }
    }
}
