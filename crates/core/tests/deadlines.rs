//! The deadlines of calls (rule CA-12).

mod common;

use std::time::Duration;

use common::*;
use gsb_core::{BrokerConfig, ConnId, Usage};
use gsb_proto::Framing;
use gsb_proto::messages::*;

const MS: Duration = Duration::from_millis(1);

/// A service `/a`, and a caller.
fn world() -> (World, ConnId, ConnId) {
    let mut world = World::new(BrokerConfig { ping_timeout: None, ..BrokerConfig::default() });
    let (service, caller) = (world.peer(), world.peer());
    assert_eq!(world.register(service, "/a"), [Seen::Registered(0)]);
    (world, service, caller)
}

/// A call with a timeout.
fn timed(request_id: &str, timeout_ms: u32) -> CallRequest {
    CallRequest { timeout_ms, ..call("/a", request_id) }
}

/// Checks that a reply is the router's, to a call whose deadline has passed.
fn check_expired(reply: &CallReply, request_id: &str) {
    assert_eq!(reply.request_id, request_id);
    assert_eq!((reply.code, reply.reply_type), (500, 0));
    assert_eq!(reply.reason(), CallReplyReason::ReasonDeadlineExceeded);
}

/// Connections have a deadline each.
fn deadlines_of_calls(world: &World) -> usize {
    let Usage { deadlines, connections, .. } = world.broker.usage();
    deadlines - connections
}

// Rule CA-12: a call ends at its deadline, not before and only once, on connections of each level and framing.
#[test]
fn a_call_ends_at_its_deadline() {
    let (mut world, service, packet) = world();
    let classic = world.peer_of(Framing::Classic, UID);
    let steering = world.peer_of_level(1);
    for caller in [packet, classic, steering] {
        let request = timed("1", 250);
        world.send(caller, request.clone());
        assert_eq!(world.take_call(service), request, "the service sees the timeout");
        world.wait(249 * MS);
        world.send(service, partial("1", "does not extend it"));
        assert_eq!(world.take_reply(caller), partial("1", "does not extend it"));
        world.wait(MS - Duration::from_nanos(1));
        assert_eq!(world.take(caller), []);
        world.wait(Duration::from_nanos(1));
        let reply = world.take_reply(caller);
        check_expired(&reply, "1");
        let text = String::from_utf8(reply.data.to_vec()).unwrap();
        assert!(text.contains("0.25 s"), "{text}");
        assert_eq!(world.broker.usage().orphaned_calls, 1);
        world.send(service, partial("1", "late"));
        world.send(service, full("1", "late"));
        world.wait(1000 * MS);
        assert_eq!(world.take(caller), []);
        assert_eq!(world.broker.usage().orphaned_calls, 0);
    }
    assert_eq!(world.broker.counters().refusals["deadline exceeded"], 3);
    assert_eq!(deadlines_of_calls(&world), 0);
}

// Rule CA-12: a timeout of 0 is for ever, and a push and a refused call have no deadline.
#[test]
fn other_calls_have_none() {
    let (mut world, service, caller) = world();
    world.send(caller, timed("1", 0));
    world.send(caller, CallRequest { no_reply: true, ..timed("2", 10) });
    world.send(caller, CallRequest { address: "/nowhere".into(), ..timed("3", 10) });
    assert_eq!(deadlines_of_calls(&world), 0);
    assert!(world.broker.next_call_deadline().is_none());
    assert_eq!(world.take(service).len(), 2);
    world.take_reply(caller);
    world.wait(Duration::from_secs(1000));
    assert_eq!(world.take(caller), []);
}

// Rule CA-12: the longest timeout is 49 days.
#[test]
fn a_long_deadline_passes_too() {
    let (mut world, _, caller) = world();
    world.send(caller, timed("1", u32::MAX));
    world.wait(u32::MAX * MS - MS);
    assert_eq!(world.take(caller), []);
    world.wait(MS);
    check_expired(&world.take_reply(caller), "1");
}

// Rule CA-12: calls end in the order of their deadlines, and with equal deadlines in the order of the calls.
#[test]
fn deadlines_pass_in_their_order() {
    let (mut world, _, caller) = world();
    for (id, timeout) in [("1", 300), ("2", 100), ("3", 200), ("4", 100), ("5", 0), ("6", 400)] {
        world.send(caller, timed(id, timeout));
    }
    world.wait(350 * MS);
    for id in ["2", "4", "3", "1"] {
        let (to, Seen::Reply(reply)) = world.seen.iter().find(|(to, _)| *to == caller).unwrap()
        else {
            panic!("not a reply");
        };
        check_expired(reply, id);
        let at = world.seen.iter().position(|(other, _)| other == to).unwrap();
        world.seen.remove(at);
    }
    assert_eq!(world.take(caller), []);
    assert_eq!(deadlines_of_calls(&world), 1);
}

// Rules CA-12, CA-4, CO-8: the id is free for the caller, and not at the service.
#[test]
fn an_id_is_free_when_the_deadline_has_passed() {
    let (mut world, service, caller) = world();
    world.send(caller, timed("1", 10));
    world.wait(10 * MS);
    check_expired(&world.take_reply(caller), "1");
    world.take(service);
    world.send(caller, timed("1", 10));
    let id = world.take_call(service).request_id;
    assert_ne!(id, "1");
    world.send(service, full("1", "to the first"));
    assert_eq!(world.take(caller), []);
    world.send(service, full(&id, "to the second"));
    assert_eq!(world.take_reply(caller), full("1", "to the second"));
    assert_eq!(deadlines_of_calls(&world), 0);
}

// Rule CA-12: a call that ends before leaves nothing behind, whichever way it ends.
#[test]
fn the_end_of_a_call_removes_its_deadline() {
    let (mut world, service, mut caller) = world();
    world.close(caller);
    caller = world.peer_of_level(1);
    let long = u32::MAX;
    for number in 0..1000_u32 {
        let id = number.to_string();
        world.send(caller, timed(&id, long - number % 7));
        world.send(service, full(&id, "in time"));
        world.send(caller, timed("cancelled", long));
        world.send(caller, cancel("cancelled"));
        assert_eq!(deadlines_of_calls(&world), 0);
    }
    for goes in [caller, service] {
        for number in 0..100 {
            world.send(caller, timed(&number.to_string(), long - number % 7));
        }
        assert_eq!(deadlines_of_calls(&world), 100);
        world.close(goes);
        while world.sweep(7) {}
        assert_eq!(deadlines_of_calls(&world), 0);
        world.close(caller);
        caller = world.peer();
    }
    world.close(caller);
    assert_eq!(world.broker.usage(), Usage::default());
}

// Rule CA-12: when very many deadlines pass at once, the router deals with a few at a time, and with others between.
#[test]
fn many_deadlines_pass_in_turns() {
    const COUNT: usize = 10_000;
    let (mut world, service, caller) = world();
    let other = world.peer();
    for number in 0..COUNT {
        world.send(caller, timed(&number.to_string(), 50));
    }
    world.take(service);
    world.now += 50 * MS;
    let mut ended = 0;
    while world.broker.next_deadline().is_some_and(|deadline| deadline <= world.now) {
        world.broker.tick(world.now, &mut world.effects);
        // This lets the effects of the tick be seen, too.
        world.send(other, call("/a", "1"));
        let id = world.take_call(service).request_id;
        world.send(service, full(&id, "between"));
        assert_eq!(world.take_reply(other), full("1", "between"));
        let count = world.take(caller).len();
        assert!((1..=64).contains(&count), "{count} calls in one tick");
        ended += count;
    }
    assert_eq!((ended, deadlines_of_calls(&world)), (COUNT, 0));
}

// Rule CA-12: a service that waits with a reply goes on when the call has ended.
#[test]
fn a_reply_that_waits_is_dropped() {
    let mut config = BrokerConfig { ping_timeout: None, ..BrokerConfig::default() };
    config.limits.queued_bytes = 300;
    let mut world = World::new(config);
    let (service, caller) = (world.peer(), world.peer());
    world.register(service, "/a");
    world.send(caller, timed("1", 100));
    world.take_call(service);
    world.deaf.insert(caller);
    world.send(service, partial("1", &"x".repeat(200)));
    let waits = world.try_send(service, full("1", &"x".repeat(200)).to_frame()).unwrap_err();
    assert!(!world.is_woken(service));
    world.wait(100 * MS);
    assert!(world.is_woken(service), "the service was not told to try again");
    world.send_frame(service, waits);
    assert_eq!(world.broker.counters().drops["stray reply"], 1);
}

// Rules CA-12, CO-17: deadlines pass while the router stops, too, and each call ends once.
#[test]
fn a_deadline_passes_while_the_router_stops() {
    let (mut world, _, caller) = world();
    world.send(caller, timed("1", 10));
    world.send(caller, timed("2", 1000));
    world.begin_to_stop();
    world.wait(10 * MS);
    check_expired(&world.take_reply(caller), "1");
    world.end_calls();
    let reply = world.take_reply(caller);
    assert_eq!(
        (reply.request_id.as_str(), reply.reason()),
        ("2", CallReplyReason::ReasonRouterStops)
    );
    world.wait(1000 * MS);
    assert_eq!(world.take(caller), []);
}
