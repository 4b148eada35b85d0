//! Requests and replies that are streams: credit and more data (rules CA-14 and CA-15), and headers (rule CA-16).

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::*;
use gsb_core::{BrokerConfig, ConnId, Limits, Usage};
use gsb_proto::messages::*;
use gsb_proto::{Frame, Framing, MessageKind};
use prost::Message as _;

const STALL: Duration = Duration::from_secs(5);

/// A service `/a` of level 1, and a caller of level 1.
fn world(limits: Limits) -> (World, ConnId, ConnId) {
    let config = BrokerConfig { limits, ping_timeout: None, ..BrokerConfig::default() };
    let mut world = World::new(config);
    let (service, caller) = (world.peer_of_level(1), world.peer_of_level(1));
    assert_eq!(world.register(service, "/a"), [Seen::Registered(0)]);
    (world, service, caller)
}

/// A call whose request is a stream.
fn upload(request_id: &str) -> CallRequest {
    CallRequest { more: true, ..call("/a", request_id) }
}

/// A call whose replies need credit.
fn download(request_id: &str) -> CallRequest {
    CallRequest { reply_credit: 1000, ..call("/a", request_id) }
}

fn drops(world: &World, reason: &str) -> u64 {
    world.broker.counters().drops.get(reason).copied().unwrap_or_default()
}

// Rule CA-15: the data reaches the service in order until its end, and the service answers when it likes.
#[test]
fn data_of_a_request_goes_to_the_service() {
    let (mut world, service, caller) = world(Limits::default());
    world.send(caller, upload("1"));
    assert_eq!(world.take_call(service), upload("1"));
    let parts = [data("1", "one", false), data("1", "", false), data("1", "two", true)];
    for part in &parts {
        world.send(caller, part.clone());
    }
    assert_eq!(world.take(service), parts.map(Seen::Data));
    world.send(caller, data("1", "behind the end", false));
    assert_eq!(world.take(service), []);
    assert_eq!(drops(&world, "stray data"), 1);
    world.send(service, partial("1", "x"));
    world.send(service, full("1", "y"));
    assert_eq!(world.take(caller), [Seen::Reply(partial("1", "x")), Seen::Reply(full("1", "y"))]);
    assert_eq!(world.broker.usage().open_calls, 0);
}

// Rule CA-15: data that belongs to no request is dropped and counted, and the connection lives.
#[test]
fn stray_data_is_dropped() {
    let (mut world, service, caller) = world(Limits::default());
    let other = world.peer_of_level(1);
    world.send(caller, upload("1"));
    world.send(caller, call("/a", "2"));
    world.send(caller, upload("3"));
    world.send(caller, upload("4"));
    assert_eq!(world.take(service).len(), 4);
    world.send(caller, data("unknown", "", false));
    world.send(caller, data("2", "not a stream", true));
    // Neither another connection nor the service sends the data of a request.
    world.send(other, data("1", "", false));
    world.send(service, data("1", "", false));
    assert_eq!(drops(&world, "stray data"), 4);
    world.send(service, full("1", "early end"));
    world.send(caller, data("1", "crossed it", true));
    world.send(caller, cancel("3"));
    world.send(caller, data("3", "cancelled", true));
    assert_eq!(drops(&world, "stray data"), 6);
    assert_eq!(world.take(service), [Seen::Cancel("3".into())]);
    // The id is free, and the next call with it is no stream.
    world.send(caller, call("/a", "1"));
    world.take_call(service);
    world.send(caller, data("1", "of the one before", true));
    assert_eq!(drops(&world, "stray data"), 7);
    world.send(caller, data("4", "the others go on", true));
    assert_eq!(world.take(service), [Seen::Data(data("4", "the others go on", true))]);
}

// Rule CA-15: the data behind a refused call is not taken for data of the open call with its id.
#[test]
fn data_behind_a_refused_call_is_dropped() {
    type Refuse = fn(&mut World, ConnId);
    let refusals: [(&str, Refuse); 3] = [
        ("the id is in use", |world, caller| {
            world.send(caller, upload("1"));
            let reply = world.take_reply(caller);
            assert_eq!((reply.code, reply.reason()), (400, CallReplyReason::ReasonRequestIdInUse));
        }),
        ("the router stops", |world, caller| {
            world.begin_to_stop();
            world.seen.clear();
            world.send(caller, upload("1"));
            assert_eq!(world.take_reply(caller).reason(), CallReplyReason::ReasonRouterStops);
        }),
        ("no reply", |world, caller| {
            world.send(caller, CallRequest { no_reply: true, ..upload("1") });
            assert_eq!(drops(world, "stream without reply"), 1);
        }),
    ];
    for (name, refuse) in refusals {
        let (mut world, service, caller) = world(Limits::default());
        for id in ["1", "2"] {
            world.send(caller, upload(id));
            world.send(caller, data(id, "its own", false));
        }
        world.take(service);
        refuse(&mut world, caller);
        world.send(caller, data("1", "of the refused call", false));
        world.send(caller, data("1", "of the refused call", true));
        assert_eq!(world.take(service), [], "{name}");
        assert_eq!(drops(&world, "stray data"), 2, "{name}");
        // The call goes on otherwise, and so do the others.
        world.send(service, full("1", "reply"));
        assert_eq!(world.take_reply(caller), full("1", "reply"), "{name}");
        world.send(caller, data("2", "its own", true));
        assert_eq!(world.take(service), [Seen::Data(data("2", "its own", true))], "{name}");
        world.close_all(&[service, caller]);
    }
    // A refused call without data takes nothing away.
    let (mut world, service, caller) = world(Limits::default());
    world.send(caller, upload("1"));
    world.send(caller, call("/a", "1"));
    world.take(service);
    world.send(caller, data("1", "its own", true));
    assert_eq!(world.take(service), [Seen::Data(data("1", "its own", true))]);
}

// Rules CA-15, SV-5: the bytes pass as they came, whatever fields there are.
#[test]
fn data_passes_as_it_came() {
    let (mut world, service, caller) = world(Limits::default());
    world.send(caller, upload("1"));
    world.take(service);
    let mut bytes = data("1", "data", false).encode_to_vec();
    bytes.extend([0xba, 0x0c, 2, 9, 9]); // field 199, bytes
    let bytes = Bytes::from(bytes);
    world.frames.clear();
    world.send_raw(caller, MessageKind::CallData, bytes.clone());
    let [(to, Frame { kind, body })] = &world.frames[..] else { panic!("not one frame") };
    assert_eq!((*to, *kind), (service, MessageKind::CallData));
    let body = body.clone().into_bytes();
    assert_eq!((&body, body.as_ptr()), (&bytes, bytes.as_ptr()), "not even copied");
}

// Rule CA-14: credit passes in both directions, each time under the id that the receiver knows.
#[test]
fn credit_goes_to_the_other_end() {
    let (mut world, service, caller) = world(Limits::default());
    let other = world.peer_of_level(1);
    world.send(other, call("/a", "1"));
    world.take_call(service);
    let request = CallRequest { more: true, ..download("1") };
    world.send(caller, request.clone());
    let seen = world.take_call(service);
    let id = seen.request_id.clone();
    assert_ne!(id, "1");
    assert_eq!(seen, CallRequest { request_id: id.clone(), ..request });
    world.send(caller, credit("1", 70, false));
    world.send(caller, credit("1", u64::MAX, false));
    world.send(caller, data("1", "data", false));
    let expected = [
        Seen::Credit(credit(&id, 70, false)),
        Seen::Credit(credit(&id, u64::MAX, false)),
        Seen::Data(data(&id, "data", false)),
    ];
    assert_eq!(world.take(service), expected);
    world.send(service, partial(&id, "reply"));
    world.send(service, credit(&id, 80, true));
    let expected = [Seen::Reply(partial("1", "reply")), Seen::Credit(credit("1", 80, true))];
    assert_eq!(world.take(caller), expected);
    assert_eq!(world.take(other), []);
}

// Rule CA-14: credit for a call that is not open, or from the wrong end, has no effect.
#[test]
fn other_credit_is_ignored() {
    let (mut world, service, caller) = world(Limits::default());
    world.send(caller, CallRequest { more: true, ..download("1") });
    world.take_call(service);
    let send_all = |world: &mut World| {
        for for_request in [false, true] {
            world.send(caller, credit("unknown", 9, for_request));
            world.send(service, credit("unknown", 9, for_request));
        }
        world.send(caller, credit("1", 9, true));
        world.send(service, credit("1", 9, false));
    };
    send_all(&mut world);
    world.send(service, full("1", "end"));
    assert_eq!(world.take_reply(caller), full("1", "end"));
    for sender in [caller, service] {
        world.send(sender, credit("1", 9, sender == service));
    }
    world.send(caller, upload("2"));
    world.take_call(service);
    world.send(caller, cancel("2"));
    world.take_reply(caller);
    assert_eq!(world.take(service), [Seen::Cancel("2".into())]);
    world.send(service, credit("2", 9, true));
    world.send(caller, credit("2", 9, false));
    assert_eq!((world.take(caller), world.take(service)), (vec![], vec![]));
}

// Rules CA-14, CA-15, CO-18: a caller of level 0 cannot ask for either.
#[test]
fn a_caller_of_level_0_gets_no_stream() {
    let (mut world, service, _) = world(Limits::default());
    let late = world.peer();
    world.send(late, Ping {});
    world.send(late, Hello { level: 1, ..Hello::default() });
    let callers =
        [world.peer(), world.peer_of_level(0), world.peer_of(Framing::Classic, UID), late];
    for caller in callers {
        world.take(caller);
        for request in [upload("1"), download("1")] {
            world.send(caller, request);
            let reply = world.take_reply(caller);
            assert_eq!((reply.request_id.as_str(), reply.code, reply.reply_type), ("1", 400, 0));
            assert_eq!(reply.reason(), CallReplyReason::ReasonUnsupported);
        }
        assert_eq!((world.take(service), world.broker.usage().open_calls), (vec![], 0));
    }
}

// Rules CA-14, CA-15, CO-18: a service of level 0 is sent no data and no credit.
#[test]
fn a_service_of_level_0_gets_no_stream() {
    let (mut world, _, caller) = world(Limits::default());
    let service = world.peer();
    world.register(service, "/old");
    world.send(caller, CallRequest { more: true, ..call("/old", "1") });
    let reply = world.take_reply(caller);
    assert_eq!((reply.code, reply.reason()), (400, CallReplyReason::ReasonUnsupported));
    world.send(caller, data("1", "on its way", false));
    assert_eq!(drops(&world, "stray data"), 1);
    // It streams as ever.
    let request = CallRequest { address: "/old".into(), ..download("2") };
    world.send(caller, request.clone());
    assert_eq!(world.take_call(service), request);
    world.send(caller, credit("2", 9, false));
    assert_eq!(world.take(service), []);
    world.send(service, partial("2", "without credit"));
    assert_eq!(world.take_reply(caller), partial("2", "without credit"));
    // A caller of level 0 gets no credit, whatever the service sends.
    let service = world.peer_of_level(1);
    let caller = world.peer();
    world.register(service, "/new");
    world.send(caller, call("/new", "1"));
    world.take_call(service);
    world.send(service, credit("1", 9, true));
    assert_eq!(world.take(caller), []);
}

// Rules CA-14, CA-15, CO-18: StreamCredit and CallData close a connection of level 0.
#[test]
fn new_messages_need_level_1() {
    let (mut world, ..) = world(Limits::default());
    let messages = [credit("1", 9, false).to_frame(), data("1", "", false).to_frame()];
    for message in messages {
        for peer in [world.peer(), world.peer_of_level(0)] {
            world.send_frame(peer, message.clone());
            assert_eq!(world.take(peer), [Seen::Closed("level too low")]);
        }
    }
}

// Rule CA-15: a call with more and no_reply is dropped and counted.
#[test]
fn a_stream_without_a_reply_is_dropped() {
    let (mut world, service, caller) = world(Limits::default());
    let old = world.peer();
    for caller in [caller, old] {
        world.send(caller, CallRequest { more: true, ..push("/a", "1") });
        assert_eq!((world.take(service), world.take(caller)), (vec![], vec![]));
    }
    assert_eq!(drops(&world, "stream without reply"), 2);
    world.send(caller, data("1", "", true));
    assert_eq!(drops(&world, "stray data"), 1);
}

// Rules CA-15, LI-2: data that does not fit waits, as a call does, and passes when there is room.
#[test]
fn data_is_charged_as_a_call() {
    let limits = Limits { queued_bytes: 600, ..Limits::default() };
    let (mut world, service, caller) = world(limits);
    world.deaf.insert(service);
    world.send(caller, upload("1"));
    let part = data("1", &"x".repeat(300), false);
    world.send(caller, part.clone());
    let waits = world.try_send(caller, part.to_frame()).unwrap_err();
    let waits = world.try_send(caller, waits).unwrap_err();
    assert!(!world.is_woken(caller));
    world.read_all(service);
    assert!(world.is_woken(caller), "the caller was not told to try again");
    world.send_frame(caller, waits);
    assert_eq!(
        world.take(service),
        [Seen::Call(upload("1")), Seen::Data(part.clone()), Seen::Data(part)]
    );
    // So does credit, both ways.
    for (from, to, for_request) in [(caller, service, false), (service, caller, true)] {
        world.deaf.insert(to);
        let credit = credit("1", 9, for_request).to_frame();
        let mut sent = 0;
        let waits = loop {
            match world.try_send(from, credit.clone()) {
                Ok(()) => sent += 1,
                Err(waits) => break waits,
            }
        };
        assert!(sent > 2);
        world.read_all(to);
        assert!(world.is_woken(from));
        world.send_frame(from, waits);
        assert_eq!(world.take(to).len(), sent + 1);
    }
}

// Rules CA-14, CA-15, LI-3: no connection waits for a service that has stalled, and nothing of a stream is lost.
#[test]
fn more_for_a_service_that_has_stalled_ends_the_call() {
    let (mut world, service, caller) = world(Limits::default());
    for id in ["1", "2", "3"] {
        world.send(caller, CallRequest { more: true, ..download(id) });
    }
    assert_eq!(world.take(service).len(), 3);
    world.deaf.insert(service);
    world.send(caller, data("1", "in the outbox", false));
    world.pass(STALL);
    assert_eq!(world.take(caller), [], "calls that it has taken go on");
    world.send(caller, data("1", "too late", false));
    let reply = world.take_reply(caller);
    assert_eq!((reply.request_id.as_str(), reply.code), ("1", 500));
    assert_eq!(reply.reason(), CallReplyReason::ReasonServiceStalled);
    world.send(caller, credit("2", 9, false));
    let reply = world.take_reply(caller);
    assert_eq!(reply.reason(), CallReplyReason::ReasonServiceStalled);
    world.read_all(service);
    let cancelled = |id: &str| Seen::Cancel(id.into());
    let expected = [Seen::Data(data("1", "in the outbox", false)), cancelled("1"), cancelled("2")];
    assert_eq!(world.take(service), expected);
    world.send(caller, data("3", "it goes on", true));
    assert_eq!(world.take(service), [Seen::Data(data("3", "it goes on", true))]);
}

// Rules CA-14, LI-3: credit for a caller that has stalled ends its call, as a reply does.
#[test]
fn credit_for_a_caller_that_has_stalled_ends_the_call() {
    let (mut world, service, caller) = world(Limits::default());
    world.send(caller, upload("1"));
    world.take_call(service);
    world.deaf.insert(caller);
    world.send(service, credit("1", 9, true));
    world.pass(STALL);
    world.send(service, credit("1", 9, true));
    assert_eq!(world.take(service), [Seen::Cancel("1".into())]);
    world.read_all(caller);
    let reply = world.take_reply_to(caller, "1");
    assert_eq!(reply.reason(), CallReplyReason::ReasonCallerStalled);
}

// Rule CA-14: a caller that stops reading a stream stops that stream and nothing else, if the service keeps to the credit.
#[test]
fn a_stream_that_is_not_read_stops_nothing_else() {
    let (mut world, service, caller) = world(Limits::default());
    world.send(caller, CallRequest { reply_credit: 200, ..call("/a", "1") });
    world.send(caller, download("2"));
    world.take(service);
    let mut left = 200_i64;
    let part = partial("1", &"x".repeat(50));
    let send = |world: &mut World, left: &mut i64| {
        let mut sent = 0;
        while *left > 0 {
            world.send(service, part.clone());
            *left -= 50 + 64;
            sent += 1;
        }
        sent
    };
    assert_eq!(send(&mut world, &mut left), 2);
    assert_eq!(world.take(caller).len(), 2);
    // It is not read. The connection is, and other calls go on.
    world.send(service, partial("2", "other"));
    assert_eq!(world.take_reply(caller), partial("2", "other"));
    world.wait(Duration::from_secs(3600));
    world.send(caller, credit("1", 200, false));
    assert_eq!(world.take(service), [Seen::Credit(credit("1", 200, false))]);
    left += 200;
    assert_eq!(send(&mut world, &mut left), 2);
    assert_eq!(world.take(caller).len(), 2);
}

// Rules CA-15, CO-7, CO-8: an upload leaves nothing behind, whichever end goes first.
#[test]
fn an_upload_ends_with_its_ends() {
    for service_goes in [false, true] {
        let (mut world, service, caller) = world(Limits::default());
        for number in 0..100 {
            world.send(caller, upload(&number.to_string()));
        }
        let (goes, stays) = if service_goes { (service, caller) } else { (caller, service) };
        world.close(goes);
        while world.sweep(7) {}
        assert_eq!(world.broker.usage().open_calls, 0);
        if service_goes {
            world.send(caller, data("1", "", false));
            assert_eq!(drops(&world, "stray data"), 1);
        }
        world.close(stays);
        while world.sweep(7) {}
        assert_eq!(world.broker.usage(), Usage::default());
    }
}

// Rule CA-16: headers pass as they came, in calls, replies and broadcasts, on connections of every level.
#[test]
fn headers_pass_as_they_came() {
    let (mut world, service, steering) = world(Limits::default());
    world.subscribe(service, "t");
    let header =
        |name: &str, value: &[u8]| Header { name: name.into(), value: value.to_vec().into() };
    let headers = vec![
        header("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        header("Not Lower Case", b"\xff\x00"),
        header("traceparent", b"again"),
        header("", b""),
    ];
    for caller in [steering, world.peer(), world.peer_of(Framing::Classic, UID)] {
        world.take(caller);
        let headers = headers.clone();
        let request = CallRequest { headers: headers.clone(), ..call("/a", "1") };
        world.send(caller, request.clone());
        assert_eq!(world.take_call(service), request);
        let reply = CallReply { headers: headers.clone(), ..full("1", "reply") };
        world.send(service, reply.clone());
        assert_eq!(world.take_reply(caller), reply);
        let event = BroadcastRequest { headers, ..broadcast("t") };
        world.send(caller, event.clone());
        assert_eq!(world.take(service), [Seen::Broadcast(event)]);
        world.seen.clear();
    }
    // Rule FR-12: they count as text.
    let long = vec![header("x", &[b'x'; 70_000])];
    world.send(steering, CallRequest { headers: long, ..call("/a", "1") });
    assert_eq!(world.take(steering), [Seen::Closed("malformed message")]);
}
