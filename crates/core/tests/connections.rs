//! Section 2 of docs/protocol.md: Hello, replacement, going away, liveness, violations.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::*;
use gsb_core::{BrokerConfig, CloseReason, Identity, Limits, Usage};
use gsb_proto::messages::*;
use gsb_proto::{Framing, MessageKind, Violation};

fn world() -> World {
    World::new(BrokerConfig::default())
}

fn hello(instance_id: &'static [u8]) -> Hello {
    let instance_id = Bytes::from_static(instance_id);
    Hello { name: "test".into(), version: "1".into(), instance_id, ..Hello::default() }
}

const INSTANCE: &[u8] = b"0123456789abcdef";

// Rule CO-1: the router's Hello is its first message in the packet framing, and does not exist in the other.
#[test]
fn the_router_introduces_itself_on_packet_connections() {
    let own = Hello {
        name: "router".into(),
        version: "1.2".into(),
        instance_id: Bytes::from_static(INSTANCE),
        no_echo: true,
        level: 1,
        max_frame: 1 << 20,
    };
    let mut world = World::new(BrokerConfig { hello: own.clone(), ..Default::default() });
    let packet = world.peer_of(Framing::Packet, UID);
    world.send(packet, Ping {});
    assert_eq!(world.take(packet), [Seen::Hello(own), Seen::Pong]);
    let classic = world.peer_of(Framing::Classic, UID);
    world.send(classic, Ping {});
    assert_eq!(world.take(classic), [Seen::Pong]);
}

// Rule CO-1: a client may send no Hello, or send it late.
#[test]
fn hello_is_optional() {
    let mut world = world();
    let peer = world.peer();
    assert_eq!(world.register(peer, "/a"), [Seen::Registered(0)]);
    world.send(peer, hello(INSTANCE));
    assert_eq!(world.register(peer, "/b"), [Seen::Registered(0)]);
}

// Rule CO-18: the first frame fixes the level; a message of a higher one is a violation.
#[test]
fn the_first_frame_fixes_the_level() {
    let hello = |level| Hello { level, ..Hello::default() };
    // The frames before the CancelCall, and whether it is allowed after them.
    let cases = [
        (vec![hello(1).to_frame()], true),
        (vec![hello(7).to_frame()], true),
        (vec![hello(1).to_frame(), Ping {}.to_frame()], true),
        (vec![], false),
        (vec![hello(0).to_frame()], false),
        (vec![Ping {}.to_frame()], false),
        (vec![Ping {}.to_frame(), hello(1).to_frame()], false),
        (vec![call("/nobody", "1").to_frame(), hello(1).to_frame()], false),
    ];
    for (before, is_allowed) in cases {
        let mut world = world();
        let peer = world.peer();
        for frame in before.clone() {
            world.send_frame(peer, frame);
        }
        world.take(peer);
        world.send(peer, cancel("1"));
        let expected = if is_allowed { vec![] } else { vec![Seen::Closed("level too low")] };
        assert_eq!(world.take(peer), expected, "{before:?}");
    }
}

// Rule CO-2.
#[test]
fn a_second_hello_closes() {
    let mut world = world();
    let peer = world.peer();
    world.send(peer, hello(b""));
    assert_eq!(world.take(peer), []);
    world.send(peer, hello(b""));
    assert_eq!(world.take(peer), [Seen::Closed("second hello")]);
}

// Rule CO-3: the older connection is closed, and its names are free before the next frame of the new one.
#[test]
fn the_same_instance_id_replaces() {
    for identity in [Identity::Uid(7), Identity::Ip([127, 0, 0, 1].into())] {
        let mut world = world();
        let old = world.peer_of(Framing::Packet, identity.clone());
        let caller = world.peer();
        world.send(old, hello(INSTANCE));
        world.register(old, "/a");
        world.subscribe(old, "t");
        world.send(caller, call("/a", "1"));
        world.take(old);

        let new = world.peer_of(Framing::Packet, identity);
        world.take(new);
        world.send(new, hello(INSTANCE));
        assert_eq!(world.take(old), [Seen::Closed("replaced")]);
        assert_eq!(world.take_reply(caller).code, 500);
        assert_eq!(world.register(new, "/a"), [Seen::Registered(0)]);
        assert_eq!(world.subscribe(new, "t"), [Seen::Subscribed(0)]);
        // The end of the old socket is reported later, and changes nothing.
        world.close(old);
        assert_eq!(world.broker.usage().instances, 1);
        world.send(caller, call("/a", "1"));
        assert_eq!(world.take_call(new).request_id, "1");
    }
}

// Rule CO-4: another peer cannot replace a connection, which stays open.
#[test]
fn a_foreign_instance_id_closes_the_newcomer() {
    let ip = |last| Identity::Ip([127, 0, 0, last].into());
    let strangers = [
        (Identity::Uid(1), Identity::Uid(2)),
        (ip(1), ip(2)),
        (Identity::Uid(1), ip(1)),
        (Identity::Unknown, Identity::Unknown),
    ];
    for (victim, stranger) in strangers {
        let mut world = world();
        let old = world.peer_of(Framing::Packet, victim);
        world.take(old);
        world.send(old, hello(INSTANCE));
        world.register(old, "/a");
        let new = world.peer_of(Framing::Packet, stranger);
        world.take(new);
        world.send(new, hello(INSTANCE));
        assert_eq!(world.take(new), [Seen::Closed("foreign instance id")]);
        assert_eq!(world.take(old), []);
        assert_eq!(world.unregister(old, "/a"), [Seen::Unregistered(0)]);
        assert_eq!(world.broker.usage().instances, 1);
    }
}

// Rule CO-5.
#[test]
fn an_empty_instance_id_replaces_no_connection() {
    let mut world = world();
    let (a, b) = (world.peer(), world.peer());
    world.send(a, hello(b""));
    world.send(b, hello(b""));
    assert_eq!(world.take(a), []);
    assert_eq!(world.take(b), []);
}

// Rule CO-15: an instance id that is too long closes the connection.
#[test]
fn an_endless_instance_id_closes() {
    let mut world = world();
    let peer = world.peer();
    world.send(peer, hello(&[1; 65]));
    assert_eq!(world.take(peer), [Seen::Closed("instance id too long")]);
}

// Rules CO-6, CO-7, CO-8: they hold with and without a Hello, for each reason of a close.
#[test]
fn going_away_leaves_nothing_behind() {
    for with_hello in [false, true] {
        for violate in [false, true] {
            let mut world = world();
            let (service, caller, other) = (world.peer(), world.peer(), world.peer());
            if with_hello {
                world.send(service, hello(INSTANCE));
            }
            world.register(service, "/a");
            world.subscribe(service, "t");
            for id in ["1", "2", "3"] {
                world.send(caller, call("/a", id));
            }
            world.send(service, partial("2", "first"));
            world.send(service, full("3", "done"));
            world.take(service);
            world.take(caller);
            if violate {
                world.send(service, RegisterReply::default());
                assert_eq!(world.take(service), [Seen::Closed("wrong direction")]);
            } else {
                world.close(service);
            }
            let replies = world.take(caller);
            assert_eq!(replies.len(), 2, "{replies:?}");
            for (reply, id) in replies.iter().zip(["1", "2"]) {
                let Seen::Reply(reply) = reply else { panic!("{reply:?}") };
                assert_eq!((reply.request_id.as_str(), reply.code, reply.reply_type), (id, 500, 0));
                assert_eq!(reply.reason(), CallReplyReason::ReasonServiceGone);
                let sentence = String::from_utf8_lossy(&reply.data);
                assert!(sentence.contains("service went away"), "{sentence}");
            }
            assert_eq!(world.register(other, "/a"), [Seen::Registered(0)]);
            world.broadcast(other, "t");
            assert_eq!(world.take(other), [Seen::Broadcasted(0, 0)]);
            world.close(caller);
            world.close(other);
            assert_eq!(world.broker.usage(), Usage::default());
        }
    }
}

// Rule CO-8: late replies to the calls of a connection that has ended are dropped, also if a new connection uses the
// same request id.
#[test]
fn late_replies_to_a_gone_caller_are_dropped() {
    let mut world = world();
    let (service, leaver, newcomer) = (world.peer(), world.peer(), world.peer());
    world.register(service, "/a");
    world.send(leaver, call("/a", "1"));
    assert_eq!(world.take_call(service).request_id, "1");
    world.close(leaver);
    assert_eq!(world.broker.usage().open_calls, 0);
    assert_eq!(world.broker.usage().orphaned_calls, 1);
    world.send(newcomer, call("/a", "1"));
    let given = world.take_call(service).request_id;
    assert_ne!(given, "1");
    world.send(service, partial("1", "late"));
    world.send(service, full("1", "late"));
    assert_eq!(world.take(newcomer), []);
    assert_eq!(world.broker.counters().drops["stray reply"], 2);
    world.send(service, full(&given, "mine"));
    assert_eq!(world.take_reply(newcomer), full("1", "mine"));
    assert_eq!(world.broker.usage().orphaned_calls, 0);
}

// The number of remembered orphaned calls is limited: the oldest are evicted first.
#[test]
fn orphaned_calls_do_not_pile_up() {
    let limits = Limits { open_calls: 3, ..Default::default() };
    let mut world = World::new(BrokerConfig { limits, ..Default::default() });
    let service = world.peer();
    world.register(service, "/a");
    for round in 0..10 {
        let caller = world.peer();
        for call_number in 0..3 {
            world.send(caller, call("/a", &format!("{round}-{call_number}")));
        }
        world.close(caller);
        assert!(world.broker.usage().orphaned_calls <= 3);
    }
    world.close(service);
    assert_eq!(world.broker.usage(), Usage::default());
}

// Rule CO-9: a silent connection gets a Ping after T and is closed after 2 T. Any received byte counts.
#[test]
fn silence_is_pinged_then_closed() {
    let mut world = World::new(BrokerConfig {
        ping_timeout: Some(Duration::from_secs(10)),
        ..Default::default()
    });
    let (silent, busy) = (world.peer(), world.peer());
    assert_eq!(world.broker.next_deadline(), Some(world.now + Duration::from_secs(10)));
    world.wait(Duration::from_millis(9_999));
    assert_eq!(world.take(silent), []);
    world.heard(busy);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.take(silent), [Seen::Ping]);
    assert_eq!(world.take(busy), []);
    world.wait(Duration::from_millis(9_999));
    assert_eq!(world.take(silent), [], "one Ping is enough");
    assert_eq!(world.take(busy), [Seen::Ping]);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.take(silent), [Seen::Closed("silent")]);
    // It answers, and is pinged again after T of new silence.
    world.heard(busy);
    world.wait(Duration::from_millis(9_999));
    assert_eq!(world.take(busy), []);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.take(busy), [Seen::Ping]);
    world.wait(Duration::from_secs(10));
    assert_eq!(world.take(busy), [Seen::Closed("silent")]);
    assert_eq!(world.broker.usage(), Usage::default());
}

// Rule CO-10.
#[test]
fn an_unknown_framing_is_not_pinged() {
    let mut world = World::new(BrokerConfig {
        ping_timeout: Some(Duration::from_secs(10)),
        ..Default::default()
    });
    let peer = world.connect(UID);
    world.wait(Duration::from_millis(19_999));
    assert_eq!(world.take(peer), []);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.take(peer), [Seen::Closed("silent")]);
}

#[test]
fn an_endless_timeout_is_no_trouble() {
    let mut world =
        World::new(BrokerConfig { ping_timeout: Some(Duration::MAX), ..Default::default() });
    let peer = world.peer();
    world.wait(Duration::from_secs(1_000_000));
    assert_eq!(world.take(peer), []);
}

#[test]
fn without_a_timeout_silence_is_fine() {
    let mut world = World::new(BrokerConfig { ping_timeout: None, ..Default::default() });
    let peer = world.peer();
    world.wait(Duration::from_secs(1_000_000));
    assert_eq!(world.take(peer), []);
}

// Rule CO-11.
#[test]
fn ping_is_answered_and_a_stray_pong_is_fine() {
    let mut world = world();
    let peer = world.peer();
    world.send(peer, Pong {});
    world.send(peer, Ping {});
    assert_eq!(world.take(peer), [Seen::Pong]);
}

// Rules CO-12, CO-13, CO-20, CO-21, SV-7: each violation closes its sender, is counted, and disturbs no other peer.
#[test]
fn violations_close_only_their_sender() {
    let not_utf8 = |field: u8| vec![field << 3 | 2, 1, 0xff];
    let cases: Vec<(MessageKind, Vec<u8>, &str)> = vec![
        (MessageKind::RegisterReply, vec![], "wrong direction"),
        (MessageKind::UnregisterReply, vec![], "wrong direction"),
        (MessageKind::SubscribeReply, vec![], "wrong direction"),
        (MessageKind::UnsubscribeReply, vec![], "wrong direction"),
        (MessageKind::BroadcastReply, vec![], "wrong direction"),
        (MessageKind::GoAway, vec![], "wrong direction"),
        (MessageKind::NameLost, vec![], "wrong direction"),
        (MessageKind::RegisterRequest, not_utf8(1), "malformed message"),
        (MessageKind::UnregisterRequest, not_utf8(1), "malformed message"),
        (MessageKind::SubscribeRequest, not_utf8(1), "malformed message"),
        (MessageKind::UnsubscribeRequest, not_utf8(1), "malformed message"),
        (MessageKind::CallRequest, not_utf8(1), "malformed message"),
        (MessageKind::CallRequest, not_utf8(2), "malformed message"),
        (MessageKind::CallRequest, not_utf8(3), "malformed message"),
        (MessageKind::CallReply, not_utf8(1), "malformed message"),
        (MessageKind::BroadcastRequest, not_utf8(1), "malformed message"),
        (MessageKind::BroadcastRequest, not_utf8(3), "malformed message"),
        (MessageKind::Hello, not_utf8(1), "malformed message"),
        (MessageKind::Ping, vec![0xff], "malformed message"),
        (MessageKind::Pong, vec![0xff], "malformed message"),
        (MessageKind::CallRequest, vec![0x22, 9, 0], "malformed message"),
    ];
    let mut world = world();
    let (service, caller) = (world.peer(), world.peer());
    world.register(service, "/a");
    world.subscribe(service, "**");
    world.send(caller, call("/a", "1"));
    world.take(service);
    let at_levels = |case| [0, 1].map(|level| (level, case));
    for (level, (kind, body, reason)) in cases.iter().flat_map(at_levels) {
        let (kind, reason) = (*kind, *reason);
        let peer = if level == 0 { world.peer() } else { world.peer_of_level(level) };
        let before = world.broker.counters().closes.get(reason).copied().unwrap_or_default();
        world.send_raw(peer, kind, body.clone());
        assert_eq!(world.take(peer), [Seen::Closed(reason)], "{kind:?} {body:?}");
        assert_eq!(world.broker.counters().closes[reason], before + 1);
        // Its later frames are ignored.
        world.send(peer, Ping {});
        assert_eq!(world.take(peer), []);
        assert_eq!(world.take(service), []);
        assert_eq!(world.take(caller), []);
    }
    world.send(service, full("1", "still here"));
    assert_eq!(world.take_reply(caller), full("1", "still here"));
}

// The reason of a close names the option with the limit.
#[test]
fn closes_that_come_of_an_option_name_it() {
    let time = Duration::from_secs(1);
    let too_large = Violation::FrameTooLarge { length: 2000, limit: 1000 };
    let cases = [
        (too_large.into(), "over the limit of 1000 bytes (--max-frame)"),
        (CloseReason::Silent(time), "1 s, twice the time of --ping-timeout"),
        (CloseReason::NotReading(time), "1 s (--write-timeout)"),
        (CloseReason::UnfinishedFrame(time), "1 s (--frame-timeout)"),
        (Violation::EmptyPacket.into(), "a Packet contains no known message"),
    ];
    for (reason, end) in cases {
        let sentence = reason.to_string();
        assert!(sentence.ends_with(end), "{sentence}");
    }
}
