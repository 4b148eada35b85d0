//! Section 3 of docs/protocol.md: services, calls, request ids, replies.

mod common;

use bytes::Bytes;
use common::*;
use gsb_core::{BrokerConfig, Limits, MAX_REQUEST_ID, Usage};
use gsb_proto::messages::*;
use gsb_proto::{Frame, MessageKind};
use prost::Message as _;

fn world() -> World {
    World::new(BrokerConfig::default())
}

// Rule SV-1: a malformed service id is refused with a message that says why.
#[test]
fn bad_service_ids_are_refused_with_the_reason() {
    let mut world = world();
    let peer = world.peer();
    let cases = [("", "empty"), ("a//b", "byte 2"), ("a b", "white space"), ("a/", "segment")];
    for (name, why) in cases {
        assert_eq!(world.register(peer, name), [Seen::Registered(400)], "{name:?}");
        let sentence = world.sentences.pop().unwrap();
        assert!(sentence.contains(why), "{sentence}");
    }
    assert_eq!(world.register(peer, &"x".repeat(1025)), [Seen::Registered(400)]);
    assert_eq!(world.register(peer, &"x".repeat(1024)), [Seen::Registered(0)]);
}

// Rule SV-2: a name is taken if any connection has it, that of the request included.
#[test]
fn a_taken_name_is_a_conflict() {
    let mut world = world();
    let (a, b) = (world.peer(), world.peer());
    assert_eq!(world.register(a, "/x"), [Seen::Registered(0)]);
    assert_eq!(world.register(b, "/x"), [Seen::Registered(409)]);
    assert!(world.sentences.pop().unwrap().contains("/x"));
    assert_eq!(world.register(a, "/x"), [Seen::Registered(409)]);
    // The first is still the owner.
    world.send(b, call("/x", "1"));
    assert_eq!(world.take_call(a).address, "/x");
}

// Rule SV-3: the longest prefix wins, and each name may have another owner.
#[test]
fn the_longest_prefix_is_called() {
    let mut world = world();
    let (outer, inner, caller) = (world.peer(), world.peer(), world.peer());
    world.register(outer, "foo");
    world.register(inner, "foo/bar");
    for (address, to_inner) in [
        ("foo", false),
        ("foo/", false),
        ("foo/barn", false),
        ("foo/bar", true),
        ("foo/bar/baz", true),
    ] {
        world.send(caller, push(address, "1"));
        let (served, idle) = if to_inner { (inner, outer) } else { (outer, inner) };
        assert_eq!(world.take_call(served).address, address);
        assert_eq!(world.take(idle), []);
    }
    world.send(caller, call("foobar", "1"));
    assert_eq!(world.take_reply(caller).code, 400);
}

// Rule SV-4: only the owner can unregister a name, and calls that were forwarded go on.
#[test]
fn unregistering_is_for_the_owner() {
    let mut world = world();
    let (owner, other) = (world.peer(), world.peer());
    world.register(owner, "/x");
    for (name, peer) in [("/x", other), ("/y", owner), ("", owner), ("/x/", owner)] {
        assert_eq!(world.unregister(peer, name), [Seen::Unregistered(404)]);
    }
    world.send(other, call("/x", "1"));
    world.take(owner);
    assert_eq!(world.unregister(owner, "/x"), [Seen::Unregistered(0)]);
    assert_eq!(world.unregister(owner, "/x"), [Seen::Unregistered(404)]);
    world.send(owner, full("1", "late but fine"));
    assert_eq!(world.take_reply(other), full("1", "late but fine"));
    world.send(other, call("/x", "2"));
    assert_eq!(world.take_reply(other).code, 400);
}

// Rules SV-5, FR-7, FR-8: bytes are forwarded unchanged, unknown fields and codes included.
#[test]
fn bytes_pass_as_they_came() {
    let mut world = world();
    let (service, caller) = (world.peer(), world.peer());
    world.register(service, "/a");
    world.subscribe(service, "t");
    world.take(service);
    let unknown = [0xba, 0x0c, 2, 9, 9]; // field 199, bytes
    let sent = |mut bytes: Vec<u8>| {
        bytes.extend(unknown);
        Bytes::from(bytes)
    };
    let check = |world: &mut World, kind, from, to, bytes: Bytes| {
        world.frames.clear();
        world.send_raw(from, kind, bytes.clone());
        let forwarded = world.frames.iter().find(|(peer, frame)| *peer == to && frame.kind == kind);
        let body = forwarded.unwrap().1.body.clone().into_bytes();
        assert_eq!(body, bytes);
        assert_eq!(body.as_ptr(), bytes.as_ptr(), "not even copied");
    };
    let request = sent(call("/a/b", "1").encode_to_vec());
    check(&mut world, MessageKind::CallRequest, caller, service, request);
    let reply = CallReply { code: 777, reply_type: 1, ..full("1", "x") };
    let mut reply = reply.encode_to_vec();
    reply.extend([0xb8, 0x0c, 1]); // field 199, a number
    check(&mut world, MessageKind::CallReply, service, caller, reply.into());
    let event = sent(broadcast("t").encode_to_vec());
    check(&mut world, MessageKind::BroadcastRequest, caller, service, event);
}

// Rule SV-8: the message contains the address; a very long address is cut.
#[test]
fn an_unknown_address_is_refused_with_the_address() {
    let mut world = world();
    let caller = world.peer();
    world.send(caller, call("/no/such", "1"));
    let reply = world.take_reply(caller);
    assert_eq!((reply.request_id.as_str(), reply.code, reply.reply_type), ("1", 400, 0));
    assert_eq!(reply.reason(), CallReplyReason::ReasonNoSuchService);
    assert!(String::from_utf8_lossy(&reply.data).contains("/no/such"));
    world.send(caller, call(&"ä/".repeat(20_000), "1"));
    let reply = world.take_reply(caller);
    assert_eq!(reply.code, 400);
    assert!(reply.data.len() < 4000);
}

// Rule SV-9.
#[test]
fn a_connection_may_call_itself() {
    let mut world = world();
    let peer = world.peer();
    world.register(peer, "/me");
    world.send(peer, call("/me", "1"));
    assert_eq!(world.take_call(peer).request_id, "1");
    world.send(peer, full("1", "hi"));
    assert_eq!(world.take_reply(peer), full("1", "hi"));
    // It leaves while the call is open.
    world.send(peer, call("/me", "2"));
    world.close(peer);
    assert_eq!(world.broker.usage(), Usage::default());
}

// Rule CA-1: two callers use the same id at the same service; each gets its own replies under its own id.
#[test]
fn equal_ids_of_two_callers_do_not_mix() {
    let mut world = world();
    let (service, a, b, c) = (world.peer(), world.peer(), world.peer(), world.peer());
    world.register(service, "/s");
    world.send(a, call("/s", "7"));
    world.send(b, call("/s", "7"));
    world.send(c, CallRequest { request_id: String::new(), ..call("/s", "") });
    let ids: Vec<String> = world
        .take(service)
        .into_iter()
        .map(|seen| match seen {
            Seen::Call(call) => {
                assert_eq!(call.data, "to /s");
                call.request_id
            }
            other => panic!("{other:?}"),
        })
        .collect();
    // Rule CA-2: the service gets the caller's own id, unless that is in use.
    assert_eq!(ids[0], "7");
    assert_ne!(ids[1], "7");
    assert_eq!(ids[2], "");
    world.send(service, partial(&ids[1], "for b"));
    world.send(service, full(&ids[0], "for a"));
    world.send(service, full(&ids[1], "for b too"));
    assert_eq!(world.take(a), [Seen::Reply(full("7", "for a"))]);
    assert_eq!(
        world.take(b),
        [Seen::Reply(partial("7", "for b")), Seen::Reply(full("7", "for b too"))]
    );
}

// Rule CA-2: a caller may choose an id that the router has generated for another call.
#[test]
fn made_up_ids_stay_unique() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    let mut ids = std::collections::HashSet::new();
    for id in ["~1", "~2", "x", "x", "x", "~3", "~4", "~1", "~2"] {
        let caller = world.peer();
        world.send(caller, call("/s", id));
        assert!(ids.insert(world.take_call(service).request_id));
    }
}

// Rule CA-2: a peer cannot predict the next generated id. Otherwise it could use many of the following ids, and the
// router would have to try each of them.
#[test]
fn made_up_ids_cannot_be_guessed() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    let mut parts = std::collections::HashSet::new();
    for number in 0..100 {
        let caller = world.peer();
        world.send(caller, call("/s", "x"));
        let CallRequest { request_id, .. } = world.take_call(service);
        // The random part, without the counter.
        let part = request_id.rsplit('-').next().unwrap().to_owned();
        assert!(part.len() == 16 || number == 0, "{request_id}");
        assert!(parts.insert(part), "{request_id} is like one before");
    }
}

// Rule CA-2: a push is not an open call, but must not have the id of one.
#[test]
fn a_push_does_not_borrow_the_id_of_an_open_call() {
    let mut world = world();
    let (service, a, b) = (world.peer(), world.peer(), world.peer());
    world.register(service, "/s");
    world.send(a, call("/s", "1"));
    world.take(service);
    world.send(b, push("/s", "1"));
    assert_ne!(world.take_call(service).request_id, "1");
}

// Rule CA-3: a second call with an open id is refused, and the first goes on.
#[test]
fn an_open_id_cannot_be_used_again() {
    let mut world = world();
    let (service, caller) = (world.peer(), world.peer());
    world.register(service, "/s");
    world.register(service, "/t");
    world.send(caller, call("/s", "1"));
    world.take(service);
    for address in ["/s", "/t", "/nowhere"] {
        world.send(caller, call(address, "1"));
        let reply = world.take_reply(caller);
        assert_eq!((reply.code, reply.reason()), (400, CallReplyReason::ReasonRequestIdInUse));
        assert_eq!(world.take(service), []);
    }
    world.send(service, full("1", "the first"));
    assert_eq!(world.take_reply(caller), full("1", "the first"));
    // Rule CA-4: a finished id is free again.
    world.send(caller, call("/s", "1"));
    assert_eq!(world.take_call(service).request_id, "1");
}

// Rule CA-4: an id is free again after a refusal and after the end of the service, too.
#[test]
fn ids_are_free_after_any_end() {
    let mut world = world();
    let caller = world.peer();
    for _ in 0..2 {
        world.send(caller, call("/s", "1"));
        assert_eq!(world.take_reply(caller).code, 400);
    }
    for _ in 0..2 {
        let service = world.peer();
        world.register(service, "/s");
        world.send(caller, call("/s", "1"));
        world.take_call(service);
        world.close(service);
        assert_eq!(world.take_reply(caller).code, 500);
    }
}

// Rule CA-5: a call gets any number of PARTIAL replies and then one FULL reply, in order, and nothing after it.
#[test]
fn replies_stream_in_order_and_end_once() {
    let mut world = world();
    let (service, caller) = (world.peer(), world.peer());
    world.register(service, "/s");
    world.send(caller, call("/s", "1"));
    world.take(service);
    let mut expected = Vec::new();
    for number in 0..100 {
        let part = partial("1", &number.to_string());
        world.send(service, part.clone());
        expected.push(Seen::Reply(part));
    }
    world.send(service, full("1", "end"));
    expected.push(Seen::Reply(full("1", "end")));
    world.send(service, partial("1", "after the end"));
    world.send(service, full("1", "after the end"));
    assert_eq!(world.take(caller), expected);
    assert_eq!(world.broker.counters().drops["stray reply"], 2);
    assert_eq!(world.broker.usage().open_calls, 0);
}

// Rule CA-6: only the service can answer.
#[test]
fn forged_replies_are_dropped() {
    let mut world = world();
    let (service, caller, forger) = (world.peer(), world.peer(), world.peer());
    world.register(service, "/s");
    world.register(forger, "/f");
    world.send(caller, call("/s", "1"));
    world.take(service);
    for reply in [full("1", "forged"), partial("1", "forged"), full("", ""), full("2", "")] {
        world.send(forger, reply.clone());
        world.send(caller, reply);
    }
    assert_eq!(world.take(caller), []);
    assert_eq!(world.take(forger), []);
    assert_eq!(world.broker.counters().drops["stray reply"], 8);
    world.send(service, full("1", "genuine"));
    assert_eq!(world.take_reply(caller), full("1", "genuine"));
}

// Rule CA-8: a call with no_reply is forwarded and never answered.
#[test]
fn pushes_are_never_answered() {
    let mut world = world();
    let (service, caller) = (world.peer(), world.peer());
    world.register(service, "/s");
    world.send(caller, push("/nowhere", "1"));
    world.send(caller, push("/s", "1"));
    world.send(caller, push("/s", "1"));
    assert_eq!(world.take(service).len(), 2);
    assert_eq!(world.broker.usage().open_calls, 0);
    assert_eq!(world.broker.counters().drops["no such service"], 1);
    // A reply of the service is dropped.
    world.send(service, full("1", "thanks"));
    world.close(service);
    assert_eq!(world.take(caller), []);
}

// Rule CA-9: frames from one connection to another keep their order, whatever their kinds.
#[test]
fn frames_keep_their_order() {
    let mut world = world();
    let (a, b) = (world.peer(), world.peer());
    world.register(b, "/b");
    world.subscribe(b, "t");
    for number in 0..50 {
        match number % 3 {
            0 => world.send(a, call("/b", &number.to_string())),
            1 => world.send(a, push("/b", &number.to_string())),
            _ => world.send(a, BroadcastRequest { caller: number.to_string(), ..broadcast("t") }),
        }
    }
    let numbers: Vec<String> = world
        .take(b)
        .into_iter()
        .map(|seen| match seen {
            Seen::Call(call) => call.request_id,
            Seen::Broadcast(event) => event.caller,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
}

// Rule LI-1: a request over a limit is refused with the name of the limit, and has no other effect.
#[test]
fn limits_are_refusals() {
    let limits = Limits { services: 2, subscriptions: 2, open_calls: 2, ..Default::default() };
    let mut world = World::new(BrokerConfig { limits, ..Default::default() });
    let (service, caller) = (world.peer(), world.peer());
    for (name, code) in [("/a", 0), ("/b", 0), ("/c", 400)] {
        assert_eq!(world.register(service, name), [Seen::Registered(code)]);
        assert_eq!(world.subscribe(service, name), [Seen::Subscribed(code)]);
    }
    let sentences = world.sentences.join("\n");
    assert!(sentences.contains("--max-services") && sentences.contains("--max-subscriptions"));
    world.unregister(service, "/a");
    assert_eq!(world.register(service, "/c"), [Seen::Registered(0)]);
    world.unsubscribe(service, "/a");
    assert_eq!(world.subscribe(service, "/c"), [Seen::Subscribed(0)]);

    world.send(caller, call("/b", "1"));
    world.send(caller, call("/b", "2"));
    world.send(caller, call("/b", "3"));
    let reply = world.take_reply(caller);
    assert_eq!((reply.request_id.as_str(), reply.code), ("3", 400));
    assert!(String::from_utf8_lossy(&reply.data).contains("--max-open-calls"));
    // A push is not an open call.
    world.send(caller, push("/b", "4"));
    world.send(service, full("1", ""));
    world.send(caller, call("/b", "5"));
    assert_eq!(world.take(service).len(), 4);
    // The limit is per connection.
    let other = world.peer();
    world.send(other, call("/b", "1"));
    world.take_call(service);
}

// Rule CA-10: a request id is kept while its call is open, so its length is limited.
#[test]
fn an_endless_request_id_is_refused() {
    let mut world = world();
    let (service, caller) = (world.peer(), world.peer());
    world.register(service, "/s");
    let id = "x".repeat(MAX_REQUEST_ID + 1);
    world.send(caller, call("/s", &id));
    let reply = world.take_reply(caller);
    assert_eq!((reply.request_id, reply.code), (id, 400));
    world.send(caller, call("/s", &"x".repeat(MAX_REQUEST_ID)));
    world.take_call(service);
    // Rule FR-12: too much text closes the connection, and the id is not repeated in a reply.
    world.send(caller, call("/s", &"x".repeat(1 << 20)));
    assert_eq!(world.take(caller), [Seen::Closed("malformed message")]);
}

// Rules CA-6, CO-8: the id of an evicted orphaned call is not used again.
#[test]
fn replies_to_an_evicted_call_are_dropped() {
    let limits = Limits { open_calls: 3, ..Default::default() };
    let mut world = World::new(BrokerConfig { limits, ..Default::default() });
    let (service, victim, thief) = (world.peer(), world.peer(), world.peer());
    world.register(service, "/s");
    world.send(victim, call("/s", "secret"));
    assert_eq!(world.take_call(service).request_id, "secret");
    world.close(victim);
    // Enough calls are orphaned later to evict it.
    let crowd = world.peer();
    for id in ["1", "2", "3"] {
        world.send(crowd, call("/s", id));
    }
    world.close(crowd);
    world.take(service);
    assert_eq!(world.broker.usage().orphaned_calls, 3);
    world.send(thief, call("/s", "secret"));
    let own = world.take_call(service).request_id;
    world.send(service, full("secret", "for the victim"));
    assert_eq!(world.take(thief), []);
    world.send(service, full(&own, "for the thief"));
    assert_eq!(world.take_reply(thief).data, "for the thief");
}

// Rule FR-9: replies without an id come in the order of the requests, also for refused requests.
#[test]
fn replies_come_in_the_order_of_requests() {
    let mut world = world();
    let peer = world.peer();
    for name in ["/a", "/a", "", "/b"] {
        world.send(peer, RegisterRequest { service_id: name.into(), ..Default::default() });
        world.send(peer, UnregisterRequest { service_id: format!("{name}x") });
        world.send(peer, SubscribeRequest { topic: name.into() });
        world.broadcast(peer, if name.is_empty() { "" } else { "z" });
    }
    let seen = world.take(peer);
    let codes = |pick: fn(&Seen) -> Option<i32>| seen.iter().filter_map(pick).collect::<Vec<_>>();
    let registered =
        codes(|seen| if let Seen::Registered(code) = seen { Some(*code) } else { None });
    let subscribed =
        codes(|seen| if let Seen::Subscribed(code) = seen { Some(*code) } else { None });
    let broadcast =
        codes(|seen| if let Seen::Broadcasted(code, _) = seen { Some(*code) } else { None });
    assert_eq!(registered, [0, 409, 400, 0]);
    assert_eq!(subscribed, [0, 400, 400, 0]);
    assert_eq!(broadcast, [0, 0, 400, 0]);
}

// Rule SV-6: a call with two address fields goes to the last address, which is the one that the service reads.
#[test]
fn the_last_address_is_the_one_that_routes() {
    let mut world = world();
    let (first, second, caller) = (world.peer(), world.peer(), world.peer());
    world.register(first, "/first");
    world.register(second, "/second");
    let both = [call("/first", "1").encode_to_vec(), call("/second", "2").encode_to_vec()].concat();
    world.send_frame(caller, Frame::new(MessageKind::CallRequest, both));
    assert_eq!(world.take(first), []);
    let seen = world.take_call(second);
    assert_eq!((seen.address.as_str(), seen.request_id.as_str()), ("/second", "2"));
}
