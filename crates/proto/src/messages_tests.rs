use prost::Message as _;

use super::*;

/// An encoded bytes or string field.
fn text(field: u8, value: &str) -> Vec<u8> {
    [&[field << 3 | 2, value.len() as u8], value.as_bytes()].concat()
}

/// An encoded number field.
fn number(field: u8, value: u16) -> Vec<u8> {
    match value {
        0..=0x7f => vec![field << 3, value as u8],
        _ => vec![field << 3, value as u8 | 0x80, (value >> 7) as u8],
    }
}

// Rule FR-6: the numbers and types of all fields, compared with bytes written by hand.
#[test]
fn fields_have_their_numbers() {
    let name = || "n".to_owned();
    let check = |encoded: Vec<u8>, fields: &[Vec<u8>]| assert_eq!(encoded, fields.concat());
    check(
        Hello { name: name(), version: "v".into(), instance_id: "i".into(), ..Default::default() }
            .encode_to_vec(),
        &[text(1, "n"), text(2, "v"), text(3, "i")],
    );
    check(
        RegisterRequest { service_id: name(), ..Default::default() }.encode_to_vec(),
        &[text(1, "n")],
    );
    check(
        RegisterReply { code: 409, message: "m".into() }.encode_to_vec(),
        &[number(1, 409), text(2, "m")],
    );
    check(UnregisterRequest { service_id: name() }.encode_to_vec(), &[text(1, "n")]);
    check(UnregisterReply { code: 404 }.encode_to_vec(), &[number(1, 404)]);
    check(
        CallRequest {
            caller: "c".into(),
            address: "a".into(),
            request_id: "r".into(),
            data: "d".into(),
            no_reply: true,
            ..Default::default()
        }
        .encode_to_vec(),
        &[text(1, "c"), text(2, "a"), text(3, "r"), text(4, "d"), number(5, 1)],
    );
    check(
        CallReply {
            request_id: "r".into(),
            code: 500,
            reply_type: 1,
            data: "d".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        &[text(1, "r"), number(2, 500), number(3, 1), text(4, "d")],
    );
    // Rule FR-8: extensions begin at 100.
    check(Hello { no_echo: true, ..Default::default() }.encode_to_vec(), &[vec![0xa0, 0x06, 1]]);
    check(Hello { level: 1, ..Default::default() }.encode_to_vec(), &[vec![0xa8, 0x06, 1]]);
    check(Hello { max_frame: 7, ..Default::default() }.encode_to_vec(), &[vec![0xb0, 0x06, 7]]);
    check(CancelCall { request_id: "r".into() }.encode_to_vec(), &[text(1, "r")]);
    check(CallReply { reason: 4, ..Default::default() }.encode_to_vec(), &[vec![0xa0, 0x06, 4]]);
    let header = || Header { name: "h".into(), value: "v".into() };
    let headers = [vec![0xb2, 0x06, 6], text(1, "h"), text(2, "v")].concat();
    check(
        CallRequest {
            timeout_ms: 1,
            headers: vec![header()],
            reply_credit: 2,
            more: true,
            affinity: "a".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        &[
            vec![0xa8, 0x06, 1],
            headers.clone(),
            vec![0xb8, 0x06, 2, 0xc0, 0x06, 1, 0xca, 0x06, 1, b'a'],
        ],
    );
    check(
        CallReply { headers: vec![header()], ..Default::default() }.encode_to_vec(),
        std::slice::from_ref(&headers),
    );
    check(
        BroadcastRequest { headers: vec![header()], ..Default::default() }.encode_to_vec(),
        &[headers],
    );
    // Unlike 0, no number is absent.
    check(
        BroadcastReply { receivers: Some(0), ..Default::default() }.encode_to_vec(),
        &[vec![0xa0, 0x06, 0]],
    );
    check(
        RegisterRequest { mode: 2, capacity: 3, ..Default::default() }.encode_to_vec(),
        &[vec![0xa0, 0x06, 2, 0xa8, 0x06, 3]],
    );
    check(
        StreamCredit { request_id: "r".into(), bytes: 7, for_request: true }.encode_to_vec(),
        &[text(1, "r"), number(2, 7), number(3, 1)],
    );
    check(
        CallData { request_id: "r".into(), data: "d".into(), end: true }.encode_to_vec(),
        &[text(1, "r"), text(2, "d"), number(3, 1)],
    );
    check(
        GoAway { reason: "r".into(), retry_after_ms: 5, last: true }.encode_to_vec(),
        &[text(1, "r"), number(2, 5), number(3, 1)],
    );
    check(
        NameLost { service_id: "s".into(), topic: "t".into(), message: "m".into(), reason: 1 }
            .encode_to_vec(),
        &[text(1, "s"), text(2, "t"), text(3, "m"), number(4, 1)],
    );
    check(SubscribeRequest { topic: "t".into() }.encode_to_vec(), &[text(1, "t")]);
    check(
        SubscribeReply { code: 400, message: "m".into() }.encode_to_vec(),
        &[number(1, 400), text(2, "m")],
    );
    check(UnsubscribeRequest { topic: "t".into() }.encode_to_vec(), &[text(1, "t")]);
    check(UnsubscribeReply { code: 404 }.encode_to_vec(), &[number(1, 404)]);
    check(
        BroadcastRequest {
            caller: "c".into(),
            data: "d".into(),
            topic: "t".into(),
            missed: 0,
            ..Default::default()
        }
        .encode_to_vec(),
        &[text(1, "c"), text(2, "d"), text(3, "t")],
    );
    check(
        BroadcastReply { code: 400, message: "m".into(), ..Default::default() }.encode_to_vec(),
        &[number(1, 400), text(2, "m")],
    );
    check(Ping {}.encode_to_vec(), &[]);
    check(Pong {}.encode_to_vec(), &[]);
}

// Rule FR-6: the values and names of all codes.
#[test]
fn codes_have_their_values() {
    macro_rules! check {
        ($(($code:path, $value:literal, $name:literal),)*) => {
            $(assert_eq!(($code as i32, $code.as_str_name()), ($value, $name));)*
        };
    }
    check! {
        (RegisterReplyCode::RegisteredOk, 0, "REGISTERED_OK"),
        (RegisterReplyCode::RegisterBadRequest, 400, "REGISTER_BAD_REQUEST"),
        (RegisterReplyCode::RegisterConflict, 409, "REGISTER_CONFLICT"),
        (UnregisterReplyCode::UnregisteredOk, 0, "UNREGISTERED_OK"),
        (UnregisterReplyCode::NotRegistered, 404, "NOT_REGISTERED"),
        (CallReplyCode::CallReplyOk, 0, "CALL_REPLY_OK"),
        (CallReplyCode::CallReplyBadRequest, 400, "CALL_REPLY_BAD_REQUEST"),
        (CallReplyCode::ServiceFailure, 500, "SERVICE_FAILURE"),
        (CallReplyType::Full, 0, "FULL"),
        (CallReplyType::Partial, 1, "PARTIAL"),
        (CallReplyReason::ReasonDeadlineExceeded, 9, "REASON_DEADLINE_EXCEEDED"),
        (CallReplyReason::ReasonCancelled, 10, "REASON_CANCELLED"),
        (CallReplyReason::ReasonUnsupported, 11, "REASON_UNSUPPORTED"),
        (RegisterMode::Exclusive, 0, "EXCLUSIVE"),
        (RegisterMode::Shared, 1, "SHARED"),
        (RegisterMode::Standby, 2, "STANDBY"),
        (SubscribeReplyCode::SubscribedOk, 0, "SUBSCRIBED_OK"),
        (SubscribeReplyCode::SubscribeBadRequest, 400, "SUBSCRIBE_BAD_REQUEST"),
        (UnsubscribeReplyCode::UnsubscribedOk, 0, "UNSUBSCRIBED_OK"),
        (UnsubscribeReplyCode::NotSubscribed, 404, "NOT_SUBSCRIBED"),
        (BroadcastReplyCode::BroadcastOk, 0, "BROADCAST_OK"),
        (BroadcastReplyCode::BroadcastBadRequest, 400, "BROADCAST_BAD_REQUEST"),
    }
}
