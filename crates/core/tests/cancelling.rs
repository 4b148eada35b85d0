//! CancelCall: a caller ends its own call (rule CA-11).

mod common;

use std::time::Duration;

use common::*;
use gsb_core::{BrokerConfig, ConnId, Limits, Usage};
use gsb_proto::messages::*;

/// A service, and a caller that may cancel.
fn world(limits: Limits) -> (World, ConnId, ConnId) {
    let mut world = World::new(BrokerConfig { limits, ..BrokerConfig::default() });
    let (service, caller) = (world.peer(), world.peer_of_level(1));
    assert_eq!(world.register(service, "/a"), [Seen::Registered(0)]);
    (world, service, caller)
}

/// Whether a reply is that of the router to a cancelled call.
fn check_cancelled(reply: &CallReply, request_id: &str) {
    assert_eq!(reply.request_id, request_id);
    assert_eq!((reply.code, reply.reply_type), (500, 0));
    assert_eq!(reply.reason(), CallReplyReason::ReasonCancelled);
    assert!(!reply.data.is_empty(), "no sentence");
}

fn usage(world: &World) -> (usize, usize) {
    let Usage { open_calls, orphaned_calls, .. } = world.broker.usage();
    (open_calls, orphaned_calls)
}

// Rule CA-11: a cancelled call gets one last reply, and nothing after it.
#[test]
fn a_cancelled_call_ends_once() {
    let (mut world, service, caller) = world(Limits::default());
    world.send(caller, call("/a", "1"));
    world.take_call(service);
    world.send(service, partial("1", "before"));
    world.send(caller, cancel("1"));
    let seen = world.take(caller);
    let [Seen::Reply(part), Seen::Reply(last)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(*part, partial("1", "before"));
    check_cancelled(last, "1");
    assert_eq!(usage(&world), (0, 1));
    world.send(service, partial("1", "late"));
    world.send(service, full("1", "late"));
    assert_eq!(world.take(caller), []);
    assert_eq!(world.broker.counters().drops["stray reply"], 2);
    assert_eq!(usage(&world), (0, 0));
    assert_eq!(world.take(service), [], "the service is told nothing yet");
}

// Rule CA-11: a cancellation is ignored if the call has ended, or is not a call of this connection.
#[test]
fn an_id_that_is_not_open_is_ignored() {
    let (mut world, service, caller) = world(Limits::default());
    let other = world.peer_of_level(1);
    world.send(caller, cancel("1"));
    world.send(caller, call("/a", "1"));
    world.take_call(service);
    // Another connection cannot cancel it.
    world.send(other, cancel("1"));
    assert_eq!(world.take(other), []);
    world.send(service, full("1", "reply"));
    world.send(caller, cancel("1"));
    world.send(caller, cancel(&"x".repeat(2000)));
    assert_eq!(world.take(caller), [Seen::Reply(full("1", "reply"))]);
    assert_eq!(usage(&world), (0, 0));
}

// Rules CA-11, CO-8: the caller can use the id again, but the service gets another id for the new call.
#[test]
fn an_id_is_free_when_its_call_was_cancelled() {
    let (mut world, service, caller) = world(Limits::default());
    world.send(caller, call("/a", "1"));
    assert_eq!(world.take_call(service).request_id, "1");
    world.send(caller, cancel("1"));
    check_cancelled(&world.take_reply(caller), "1");
    world.send(caller, call("/a", "1"));
    let new_id = world.take_call(service).request_id;
    assert_ne!(new_id, "1");
    world.send(service, full("1", "to the first"));
    assert_eq!(world.take(caller), []);
    world.send(service, full(&new_id, "to the second"));
    assert_eq!(world.take_reply(caller), full("1", "to the second"));
}

// Rules CA-11, LI-1: a service that never answers does not use up its callers' open calls.
#[test]
fn cancelled_calls_do_not_count() {
    let limits = Limits { open_calls: 3, ..Limits::default() };
    let (mut world, service, caller) = world(limits);
    let healthy = world.peer();
    world.register(healthy, "/b");
    for number in 0..100 {
        let id = number.to_string();
        world.send(caller, call("/a", &id));
        world.take_call(service);
        world.send(caller, cancel(&id));
        check_cancelled(&world.take_reply(caller), &id);
    }
    // As many orphaned calls are remembered as a connection may have open calls.
    assert_eq!(usage(&world), (0, 3));
    world.send(caller, call("/b", "last"));
    world.take_call(healthy);
    world.send(healthy, full("last", "reply"));
    assert_eq!(world.take_reply(caller), full("last", "reply"));
}

// Rules CA-11, LI-3: a call that waits for its service reaches it, and the stall of the service does not end it again.
#[test]
fn a_call_that_waits_for_its_service_is_cancelled() {
    let (mut world, service, caller) = world(Limits::default());
    world.deaf.insert(service);
    world.send(caller, call("/a", "1"));
    world.send(caller, cancel("1"));
    check_cancelled(&world.take_reply(caller), "1");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.take(caller), []);
    assert_eq!(usage(&world), (0, 1));
    world.read_all(service);
    world.take_call(service);
    world.send(service, full("1", "late"));
    assert_eq!(world.take(caller), []);
    assert_eq!(usage(&world), (0, 0));
}

// Rule CA-11: a service whose reply does not fit no longer waits when the call is cancelled.
#[test]
fn a_reply_that_waits_is_dropped() {
    let limits = Limits { queued_bytes: 300, ..Limits::default() };
    let (mut world, service, caller) = world(limits);
    for id in ["1", "2"] {
        world.send(caller, call("/a", id));
        world.take_call(service);
    }
    world.deaf.insert(caller);
    world.send(service, partial("2", &"x".repeat(200)));
    let waits = world.try_send(service, full("1", &"x".repeat(200)).to_frame()).unwrap_err();
    assert!(!world.is_woken(service));
    world.send(caller, cancel("1"));
    assert!(world.is_woken(service), "the service was not told to try again");
    world.send_frame(service, waits);
    assert_eq!(world.broker.counters().drops["stray reply"], 1);
    world.read_all(caller);
    world.take(caller);
    // The service can reply to other calls, as if it had not waited.
    world.send(service, full("2", "reply"));
    assert_eq!(world.take_reply(caller), full("2", "reply"));
    assert_eq!(usage(&world), (0, 0));
}

// Rule CA-11: a cancelled call has one last reply even if its service or its caller disconnects.
#[test]
fn a_cancelled_call_ends_once_if_a_side_disconnects() {
    for service_goes_first in [false, true] {
        let (mut world, service, caller) = world(Limits::default());
        world.send(caller, call("/a", "1"));
        world.send(caller, cancel("1"));
        check_cancelled(&world.take_reply(caller), "1");
        let (first, second) =
            if service_goes_first { (service, caller) } else { (caller, service) };
        world.close(first);
        assert!(world.take(second).iter().all(|seen| matches!(seen, Seen::Call(_))));
        world.close(second);
        assert_eq!(world.broker.usage(), Usage::default());
    }
}

// Rules CA-11, CO-17: a call can be cancelled while the router stops, and does not end a second time.
#[test]
fn a_call_is_cancelled_while_the_router_stops() {
    let (mut world, _, caller) = world(Limits::default());
    world.send(caller, call("/a", "1"));
    world.broker.begin_to_stop();
    world.send(caller, cancel("1"));
    check_cancelled(&world.take_reply(caller), "1");
    world.end_calls();
    assert_eq!(world.take(caller), []);
}
