//! What a router reads of the messages that it passes on, on any bytes.
//!
//! A head is read from exactly those bytes that a protobuf decoder reads as the message inside of a
//! `Packet`, and holds what that one finds (rules SV-6, SV-7). Another request id changes the id and
//! nothing else that a decoder sees, and copies nothing but the id (rule SV-5). So does how much a subscriber
//! has missed (rule TO-11).

#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use gsb_fuzz::frames::packed;
use gsb_proto::head::{BroadcastHead, CallHead, DataHead, ReplyHead};
use gsb_proto::messages::{BroadcastRequest, CallData, CallReply, CallRequest, Packet, packet};
use gsb_proto::{Body, MessageKind};
use libfuzzer_sys::fuzz_target;
use prost::Message;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    id: Id<'a>,
    /// The groups around the message, as field 6 or 7, both of which are unknown.
    groups: Option<(bool, u8)>,
    /// What a copy of a broadcast says.
    missed: u64,
    message: &'a [u8],
}

impl Input<'_> {
    fn message(&self) -> Bytes {
        // Deeper ones than decoders read do not come up by chance.
        let (is_sixth, depth) = self.groups.unwrap_or_default();
        let (start, end) = if is_sixth { (0x33, 0x34) } else { (0x3b, 0x3c) };
        let depth = usize::from(depth);
        [&vec![start; depth], self.message, &vec![end; depth]].concat().into()
    }
}

#[derive(Debug, Arbitrary)]
enum Id<'a> {
    Text(&'a str),
    /// So long that its length takes two bytes.
    Long(u8),
}

impl Id<'_> {
    fn text(&self) -> String {
        match self {
            Id::Text(text) => (*text).to_owned(),
            Id::Long(more) => "i".repeat(120 + usize::from(*more)),
        }
    }
}

/// What a decoder finds in a `Packet` with the message; nothing if it refuses it.
fn in_packet(kind: MessageKind, message: &[u8]) -> Option<packet::Packet> {
    Packet::decode(packed(kind, message)).ok()?.packet
}

/// The body without the one field that was replaced is the message as it was, in the same memory.
fn check_spliced(message: &Bytes, body: &Body, id: &str) {
    let [before, record, after] = body.segments() else {
        panic!("{} pieces", body.segments().len());
    };
    assert_eq!(body.len(), before.len() + record.len() + after.len());
    assert!(record.ends_with(id.as_bytes()));
    assert!(message.starts_with(before) && message.ends_with(after));
    let is_inside =
        |piece: &Bytes| piece.is_empty() || message.as_ptr_range().contains(&piece.as_ptr());
    assert!(is_inside(before) && is_inside(after), "it was copied");
}

fn check_call(message: &Bytes, id: &str) {
    let expected = in_packet(MessageKind::CallRequest, message).map(|packet| match packet {
        packet::Packet::CallRequest(call) => call,
        other => panic!("{other:?}"),
    });
    let head = CallHead::read(message);
    let found = head.as_ref().ok().map(|h| (h.caller, h.address, h.request_id.text, h.no_reply));
    let wanted = expected.as_ref();
    let wanted = wanted.map(|c| (&*c.caller, &*c.address, &*c.request_id, c.no_reply));
    assert_eq!(found, wanted, "(left: the head)");
    let (Ok(head), Some(expected)) = (head, expected) else {
        return;
    };
    assert_eq!(
        (head.steering.timeout_ms, head.steering.more),
        (expected.timeout_ms, expected.more)
    );
    assert_eq!(head.steering.has_reply_credit, expected.reply_credit != 0);
    assert_eq!(head.steering.affinity, expected.affinity);
    let body = head.request_id.replace_in(message, id);
    check_spliced(message, &body, id);
    let changed = CallRequest::decode(body.into_bytes()).expect("it was readable before");
    assert_eq!(changed, CallRequest { request_id: id.to_owned(), ..expected });
}

fn check_reply(message: &Bytes, id: &str) {
    let expected = in_packet(MessageKind::CallReply, message).map(|packet| match packet {
        packet::Packet::CallReply(reply) => reply,
        other => panic!("{other:?}"),
    });
    let head = ReplyHead::read(message);
    let found = head.as_ref().ok().map(|h| (h.request_id.text, h.is_last));
    // 1 is PARTIAL.
    let wanted = expected.as_ref().map(|reply| (&*reply.request_id, reply.reply_type != 1));
    assert_eq!(found, wanted, "(left: the head)");
    let (Ok(head), Some(expected)) = (head, expected) else {
        return;
    };
    let body = head.request_id.replace_in(message, id);
    check_spliced(message, &body, id);
    let changed = CallReply::decode(body.into_bytes()).expect("it was readable before");
    assert_eq!(changed, CallReply { request_id: id.to_owned(), ..expected });
}

fn check_data(message: &Bytes, id: &str) {
    let expected = in_packet(MessageKind::CallData, message).map(|packet| match packet {
        packet::Packet::CallData(data) => data,
        other => panic!("{other:?}"),
    });
    let head = DataHead::read(message);
    let found = head.as_ref().ok().map(|h| (h.request_id.text, h.end));
    let wanted = expected.as_ref().map(|data| (&*data.request_id, data.end));
    assert_eq!(found, wanted, "(left: the head)");
    let (Ok(head), Some(expected)) = (head, expected) else {
        return;
    };
    let body = head.request_id.replace_in(message, id);
    check_spliced(message, &body, id);
    let changed = CallData::decode(body.into_bytes()).expect("it was readable before");
    assert_eq!(changed, CallData { request_id: id.to_owned(), ..expected });
}

fn check_broadcast(message: &Bytes, missed: u64) {
    let expected = in_packet(MessageKind::BroadcastRequest, message).map(|packet| match packet {
        packet::Packet::BroadcastRequest(event) => event,
        other => panic!("{other:?}"),
    });
    let head = BroadcastHead::read(message);
    let found = head.as_ref().ok().map(|h| (h.caller, h.topic));
    assert_eq!(found, expected.as_ref().map(|event| (&*event.caller, &*event.topic)));
    let (Ok(head), Some(expected)) = (head, expected) else {
        return;
    };
    assert_eq!(BroadcastRequest::decode(message.clone()), Ok(expected.clone()), "without a Packet");
    assert!(head.has_missed || expected.missed == 0);
    let body = BroadcastHead::with_missed(message, missed);
    assert_eq!(body.segments()[0].as_ptr(), message.as_ptr(), "it was copied");
    let changed = BroadcastRequest::decode(body.into_bytes());
    assert_eq!(changed, Ok(BroadcastRequest { missed, ..expected }));
}

fuzz_target!(|input: Input<'_>| {
    let message = input.message();
    let id = input.id.text();
    check_call(&message, &id);
    check_reply(&message, &id);
    check_data(&message, &id);
    check_broadcast(&message, input.missed);
});
