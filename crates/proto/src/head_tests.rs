use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::decoder::FrameDecoder;
use crate::framing::Framing;
use crate::messages::{BroadcastRequest, CallData, CallReply, CallRequest, Header};

fn call() -> CallRequest {
    CallRequest {
        caller: "/me".into(),
        address: "/shop/cart".into(),
        request_id: "r1".into(),
        data: Bytes::from_static(b"payload"),
        no_reply: false,
        ..Default::default()
    }
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.into(), value: value.as_bytes().to_vec().into() }
}

// Rule FR-12: the names and values of headers count, in each message that has headers.
#[test]
fn headers_are_text() {
    let headers = |length: usize| vec![header("n", &"v".repeat(99)); length / 100];
    let call = |length| CallRequest { headers: headers(length), ..Default::default() };
    let reply = |length| CallReply { headers: headers(length), ..Default::default() };
    let event = |length| BroadcastRequest { headers: headers(length), ..Default::default() };
    for (length, is_accepted) in [(65_500, true), (65_600, false)] {
        assert_eq!(CallHead::read(&call(length).encode_to_vec()).is_ok(), is_accepted);
        assert_eq!(ReplyHead::read(&reply(length).encode_to_vec()).is_ok(), is_accepted);
        assert_eq!(BroadcastHead::read(&event(length).encode_to_vec()).is_ok(), is_accepted);
    }
}

#[test]
fn heads_read_what_was_written() {
    let encoded = call().encode_to_vec();
    let head = CallHead::read(&encoded).unwrap();
    assert_eq!((head.caller, head.address), ("/me", "/shop/cart"));
    assert_eq!((head.request_id.text, head.no_reply), ("r1", false));
    assert_eq!(
        (
            head.steering.timeout_ms,
            head.steering.has_reply_credit,
            head.steering.more,
            head.steering.affinity
        ),
        (0, false, false, "")
    );
    let steered = CallRequest {
        timeout_ms: 250,
        headers: vec![header("traceparent", "00-1-2-01")],
        reply_credit: 1 << 20,
        more: true,
        affinity: "customer 7".into(),
        ..call()
    };
    let encoded = steered.encode_to_vec();
    let head = CallHead::read(&encoded).unwrap();
    assert_eq!(
        (
            head.steering.timeout_ms,
            head.steering.has_reply_credit,
            head.steering.more,
            head.steering.affinity
        ),
        (250, true, true, "customer 7")
    );
    let data = CallData { request_id: "r1".into(), data: "d".into(), end: true }.encode_to_vec();
    let head = DataHead::read(&data).unwrap();
    assert_eq!((head.request_id.text, head.end), ("r1", true));
    let head = CallHead::read(b"").unwrap();
    assert_eq!((head.caller, head.address, head.request_id.text), ("", "", ""));
    assert_eq!((head.no_reply, head.steering), (false, Steering::default()));
}

// Rule CA-5, FR-7: only PARTIAL leaves a call open. Decoders read an unknown type as FULL.
#[test]
fn only_partial_is_not_the_last_reply() {
    for (reply_type, last) in [(0, true), (1, false), (2, true), (-1, true)] {
        let reply = CallReply { reply_type, ..Default::default() }.encode_to_vec();
        assert_eq!(ReplyHead::read(&reply).unwrap().is_last, last, "{reply_type}");
    }
    // 2^32 + 1 is 1 in an enum of 32 bits.
    assert!(!ReplyHead::read(&[0x18, 0x81, 0x80, 0x80, 0x80, 0x10]).unwrap().is_last);
}

// Rule SV-6: of a repeated singular field the last one counts.
#[test]
fn the_last_of_repeated_fields_counts() {
    let first =
        CallRequest { address: "/a".into(), request_id: "1".into(), no_reply: true, ..call() };
    let second = CallRequest { address: "/b".into(), request_id: "2".into(), ..Default::default() };
    let both = [first.encode_to_vec(), second.encode_to_vec()].concat();
    let head = CallHead::read(&both).unwrap();
    assert_eq!((head.address, head.request_id.text, head.no_reply), ("/b", "2", true));
    let changed = head.request_id.replace_in(&both.clone().into(), "new").into_bytes();
    assert_eq!(CallRequest::decode(changed).unwrap().request_id, "new");
}

// Rule SV-5: replacing the request id changes no other byte, also of unknown fields.
#[test]
fn only_the_request_id_is_replaced() {
    let mut encoded = call().encode_to_vec();
    encoded.extend([0xa2, 0x06, 3, 1, 2, 3]); // field 100, bytes
    let encoded = Bytes::from(encoded);
    let head = CallHead::read(&encoded).unwrap();
    let body = head.request_id.replace_in(&encoded, "longer-than-before");
    // The segments around the id share the memory of the message.
    let [before, _, after] = body.segments() else { panic!("three pieces") };
    assert_eq!(before.as_ptr(), encoded.as_ptr());
    assert_eq!(after.as_ptr_range().end, encoded.as_ptr_range().end);
    let changed = body.into_bytes();
    assert!(changed.ends_with(&[0xa2, 0x06, 3, 1, 2, 3]));
    let expected = CallRequest { request_id: "longer-than-before".into(), ..call() };
    assert_eq!(CallRequest::decode(changed.clone()).unwrap(), expected);
    let back = CallHead::read(&changed).unwrap().request_id.replace_in(&changed, "r1");
    assert_eq!(back.into_bytes(), encoded);
}

#[test]
fn payloads_are_framed_without_a_copy() {
    for data in [Bytes::new(), Bytes::from_static(b"payload")] {
        let call = CallRequest { data: data.clone(), no_reply: true, ..call() };
        let body = call.clone().into_frame().body;
        if !data.is_empty() {
            assert_eq!(body.segments()[1].as_ptr(), data.as_ptr());
        }
        assert_eq!(CallRequest::decode(body.into_bytes()).unwrap(), call);
        let reply = CallReply { code: 500, reason: 4, data: data.clone(), ..Default::default() };
        let body = reply.clone().into_frame().body.into_bytes();
        assert_eq!(CallReply::decode(body).unwrap(), reply);
        let part = CallData { request_id: "r1".into(), data: data.clone(), end: true };
        let body = part.clone().into_frame().body.into_bytes();
        assert_eq!(CallData::decode(body).unwrap(), part);
        let event = BroadcastRequest { topic: "t".into(), data, ..Default::default() };
        let body = event.clone().into_frame().body.into_bytes();
        assert_eq!(BroadcastRequest::decode(body).unwrap(), event);
    }
}

#[test]
fn an_absent_request_id_is_added() {
    let reply = CallReply { code: 500, ..Default::default() }.encode_to_vec();
    let reply = Bytes::from(reply);
    let changed = ReplyHead::read(&reply).unwrap().request_id.replace_in(&reply, "x");
    let expected = CallReply { code: 500, request_id: "x".into(), ..Default::default() };
    assert_eq!(CallReply::decode(changed.into_bytes()).unwrap(), expected);
}

// Rules SV-7, CO-12: text that is not UTF-8 is refused in each string field, also if a later field replaces it.
#[test]
fn text_must_be_utf8() {
    for field in [1u8, 2, 3] {
        let bad = [field << 3 | 2, 1, 0xff];
        assert!(CallHead::read(&bad).is_err());
        let overwritten = [&bad[..], &[field << 3 | 2, 1, b'x']].concat();
        assert!(CallHead::read(&overwritten).is_err());
    }
    assert!(CallHead::read(&[4 << 3 | 2, 1, 0xff]).is_ok(), "data may be anything");
    assert!(ReplyHead::read(&[1 << 3 | 2, 1, 0xff]).is_err());
    assert!(BroadcastHead::read(&[1 << 3 | 2, 1, 0xff]).is_err());
    assert!(BroadcastHead::read(&[2 << 3 | 2, 1, 0xff]).is_ok());
    assert!(BroadcastHead::read(&[3 << 3 | 2, 1, 0xff]).is_err());
}

/// Fields of all wire types with small numbers, including nested and incomplete groups.
fn message_bytes() -> impl Strategy<Value = Vec<u8>> {
    let number = prop::sample::select(vec![
        0u32,
        1,
        2,
        3,
        3,
        4,
        5,
        6,
        100,
        101,
        102,
        103,
        104,
        105,
        1 << 28,
    ]);
    let field = (number, 0u32..8, prop::collection::vec(any::<u8>(), 0..6), any::<u8>()).prop_map(
        |(number, wire_type, bytes, form)| {
            let mut out = Vec::new();
            prost::encoding::encode_varint(u64::from(number << 3 | wire_type), &mut out);
            match wire_type {
                0 if form > 40 => prost::encoding::encode_varint(u64::from(form & 3), &mut out),
                2 if form > 20 => {
                    let text = String::from_utf8_lossy(&bytes).into_owned().into_bytes();
                    let bytes = if form > 60 { text } else { bytes };
                    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
                    out.extend(bytes);
                }
                1 if form > 40 => out.extend([form; 8]),
                5 if form > 40 => out.extend([form; 4]),
                3 | 4 => {}
                _ => out.extend(bytes),
            }
            out
        },
    );
    let field = prop_oneof![
        5 => field,
        // A header, perhaps one that no decoder accepts.
        1 => prop::collection::vec((0u8..40, 0u8..4, any::<u8>()), 0..4).prop_map(|fields| {
            let fields = fields.into_iter().flat_map(|(key, length, byte)| {
                [vec![key, length], vec![byte; usize::from(length)]].concat()
            });
            let fields: Vec<u8> = fields.collect();
            [vec![0xb2, 0x06, fields.len() as u8], fields].concat()
        }),
        1 => (0usize..130).prop_map(|depth| {
            let group = [vec![0x1b; depth], vec![0x1c; depth]].concat();
            let mut out = vec![0xb2, 0x06];
            prost::encoding::encode_varint(group.len() as u64, &mut out);
            [out, group].concat()
        }),
    ];
    let group = (1u32..8, 0usize..130).prop_map(|(number, depth)| {
        let start = (number << 3 | 3) as u8;
        let end = (number << 3 | 4) as u8;
        [vec![start; depth], vec![0x30, 0x01], vec![end; depth]].concat()
    });
    prop_oneof![
        8 => prop::collection::vec(field, 0..6).prop_map(|fields| fields.concat()),
        1 => group,
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

/// The message as the only field of a `Packet`.
fn packed(kind: MessageKind, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(kind.field() << 3 | 2), &mut out);
    prost::encoding::encode_varint(message.len() as u64, &mut out);
    out.extend(message);
    out
}

fn in_packet(kind: MessageKind, message: &[u8]) -> Option<crate::messages::packet::Packet> {
    crate::messages::Packet::decode(packed(kind, message).as_slice()).ok()?.packet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    // Rule SV-6: router and service never see different messages.
    #[test]
    fn heads_agree_with_prost_on_any_bytes(message in message_bytes()) {
        use crate::messages::packet::Packet::{BroadcastRequest, CallData, CallReply, CallRequest};
        let call = CallHead::read(&message).ok().map(|h| {
            let texts = [h.caller, h.address, h.request_id.text, h.steering.affinity].map(str::to_owned);
            let Steering { timeout_ms, has_reply_credit, more, .. } = h.steering;
            (texts, h.no_reply, timeout_ms, has_reply_credit, more)
        });
        let expected = in_packet(MessageKind::CallRequest, &message).map(|packet| match packet {
            CallRequest(c) => {
                let texts = [c.caller, c.address, c.request_id, c.affinity];
                (texts, c.no_reply, c.timeout_ms, c.reply_credit != 0, c.more)
            }
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(call, expected);
        let data = DataHead::read(&message).ok().map(|h| (h.request_id.text.to_owned(), h.end));
        let expected = in_packet(MessageKind::CallData, &message).map(|packet| match packet {
            CallData(data) => (data.request_id, data.end),
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(data, expected);
        let reply = ReplyHead::read(&message).ok().map(|h| (h.request_id.text.to_owned(), h.is_last));
        let expected = in_packet(MessageKind::CallReply, &message).map(|packet| match packet {
            CallReply(r) => (r.request_id, r.reply_type != 1),
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(reply, expected);
        let broadcast = BroadcastHead::read(&message).ok();
        let has_missed = broadcast.as_ref().is_some_and(|h| h.has_missed);
        let broadcast = broadcast.map(|h| (h.caller.to_owned(), h.topic.to_owned()));
        let expected = in_packet(MessageKind::BroadcastRequest, &message).map(|packet| match packet {
            BroadcastRequest(b) => {
                assert!(b.missed == 0 || has_missed);
                (b.caller, b.topic)
            }
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(broadcast, expected);
    }

    // Replacing the id changes nothing else that a decoder sees.
    #[test]
    fn replaced_ids_are_what_prost_reads(message in message_bytes(), id in "[a-z]{0,200}") {
        let message = Bytes::from(message);
        if let Ok(head) = CallHead::read(&message) {
            let mut expected = CallRequest::decode(message.clone()).unwrap();
            expected.request_id.clone_from(&id);
            let body = head.request_id.replace_in(&message, &id);
            prop_assert_eq!(body.len(), body.clone().into_bytes().len());
            prop_assert_eq!(CallRequest::decode(body.into_bytes()).unwrap(), expected);
        }
    }

    // Setting `missed` changes nothing else that a decoder sees.
    #[test]
    fn the_number_of_missed_events_is_read_as_prost_does(message in message_bytes(), missed: u64) {
        let message = Bytes::from(message);
        if BroadcastHead::read(&message).is_ok() {
            let expected = BroadcastRequest { missed, ..BroadcastRequest::decode(message.clone()).unwrap() };
            let body = BroadcastHead::with_missed(&message, missed);
            prop_assert_eq!(body.len(), body.clone().into_bytes().len());
            prop_assert_eq!(BroadcastRequest::decode(body.into_bytes()).unwrap(), expected);
        }
    }

    // A peer of either framing can decode a forwarded message.
    #[test]
    fn accepted_messages_decode_in_both_framings(message in message_bytes()) {
        if BroadcastHead::read(&message).is_ok() {
            prop_assert!(BroadcastRequest::decode(message.as_slice()).is_ok());
            let mut wire = bytes::BytesMut::new();
            prop_assert!(crate::Frame::new(MessageKind::BroadcastRequest, message).encode(Framing::Packet, &mut wire));
            let frame = FrameDecoder::new(Framing::Packet, 1 << 20).decode(&mut wire).unwrap().unwrap();
            prop_assert!(frame.decode::<BroadcastRequest>().is_ok());
        }
    }
}
