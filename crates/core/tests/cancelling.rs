//! CancelCall: a caller ends its own call (rule CA-11), and a service hears that no caller waits any more (rule CA-13).

mod common;

use std::time::Duration;

use common::*;
use gsb_core::{BrokerConfig, ConnId, Limits, Usage};
use gsb_proto::messages::*;
use gsb_proto::{Frame, Framing};

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
    assert_eq!(world.take(service), [], "a service of level 0 is told nothing");
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
    world.begin_to_stop();
    assert!(matches!(world.take(caller)[..], [Seen::GoAway(_)]));
    world.send(caller, cancel("1"));
    check_cancelled(&world.take_reply(caller), "1");
    world.end_calls();
    assert_eq!(world.take(caller), []);
}

/// As [`world`], with a service of level 1.
fn steering_world(limits: Limits) -> (World, ConnId, ConnId) {
    let (mut world, service, caller) = world(limits);
    world.close(service);
    let service = world.peer_of_level(1);
    world.register(service, "/a");
    (world, service, caller)
}

fn cancelled(request_id: &str) -> Vec<Seen> {
    vec![Seen::Cancel(request_id.into())]
}

/// A call with a deadline.
fn timed(request_id: &str) -> CallRequest {
    CallRequest { timeout_ms: 100, ..call("/a", request_id) }
}

// Rule CA-13: a service gets one CancelCall, whatever the reason is, and still ends the call.
#[test]
fn a_service_hears_that_no_caller_waits() {
    let stall = BrokerConfig::default().stall_timeout;
    type Reason = (&'static str, fn(&mut World, ConnId, ConnId, Duration));
    let reasons: [Reason; 5] = [
        ("the caller cancels", |world, caller, _, _| world.send(caller, cancel("1"))),
        ("the caller goes", |world, caller, _, _| world.close(caller)),
        ("the deadline passes", |world, _, _, _| world.wait(Duration::from_millis(100))),
        ("the router stops", |world, _, _, _| world.end_calls()),
        ("the caller stalls", |world, caller, service, stall| {
            world.deaf.insert(caller);
            world.send(service, partial("1", "unread"));
            world.pass(stall);
            assert_eq!(world.take(service), [], "its replies are not given up yet");
            world.send(service, partial("1", "given up"));
        }),
    ];
    for (name, happen) in reasons {
        let (mut world, service, caller) = steering_world(Limits::default());
        world.send(caller, timed("1"));
        world.take_call(service);
        happen(&mut world, caller, service, stall);
        assert_eq!(world.take(service), cancelled("1"), "{name}");
        assert_eq!(usage(&world), (0, 1), "{name}");
        // Nothing else that ends calls does it again.
        if name != "the caller goes" {
            world.send(caller, cancel("1"));
        }
        world.wait(Duration::from_secs(1));
        world.end_calls();
        world.close(caller);
        assert_eq!(world.take(service), [], "{name}, and again");
        world.send(service, full("1", "the end"));
        assert_eq!(usage(&world), (0, 0), "{name}");
        world.close(service);
        assert_eq!(world.broker.usage(), Usage::default(), "{name}");
    }
}

// Rule CA-13: a service that stalled with a call in its outbox gets the CancelCall behind the call.
#[test]
fn a_service_that_has_stalled_hears_it_behind_the_call() {
    let (mut world, service, caller) = steering_world(Limits::default());
    world.deaf.insert(service);
    world.send(caller, call("/a", "1"));
    world.pass(Duration::from_secs(5));
    let reply = world.take_reply(caller);
    assert_eq!(reply.reason(), CallReplyReason::ReasonServiceStalled);
    world.send(caller, cancel("1"));
    world.read_all(service);
    let seen = world.take(service);
    assert!(matches!(&seen[..], [Seen::Call(_), Seen::Cancel(id)] if id == "1"), "{seen:?}");
}

// Rule CA-13: a call that its service has ended is not cancelled.
#[test]
fn a_call_that_has_ended_is_not_cancelled() {
    let (mut world, service, caller) = steering_world(Limits::default());
    for id in ["1", "2"] {
        world.send(caller, timed(id));
        world.take_call(service);
    }
    world.send(service, full("1", "reply"));
    // The last reply to a caller that has stalled ends the call, too.
    world.deaf.insert(caller);
    world.send(service, partial("2", "unread"));
    world.pass(Duration::from_secs(5));
    world.send(service, full("2", "given up"));
    world.read_all(caller);
    let reply = world.take_reply_to(caller, "2");
    assert_eq!(reply.reason(), CallReplyReason::ReasonCallerStalled);
    for id in ["1", "2"] {
        world.send(caller, cancel(id));
    }
    world.wait(Duration::from_secs(1));
    world.end_calls();
    world.close(caller);
    assert_eq!(world.take(service), []);
}

// Rules CA-13, CO-18: a service gets no CancelCall if its first frame was not a Hello of level 1.
#[test]
fn a_service_of_level_0_hears_nothing() {
    let (mut world, _, caller) = world(Limits::default());
    let classic = world.peer_of(Framing::Classic, UID);
    let late = world.peer();
    world.register(classic, "/classic");
    world.register(late, "/late");
    world.send(late, Hello { level: 1, ..Hello::default() });
    for (service, address) in [(classic, "/classic"), (late, "/late")] {
        world.send(caller, call(address, "1"));
        world.take_call(service);
        world.send(caller, cancel("1"));
        check_cancelled(&world.take_reply(caller), "1");
        assert_eq!(world.take(service), []);
    }
}

// Rules CA-13, CA-2: the CancelCall has the id that the service knows.
#[test]
fn a_service_knows_the_id_of_a_cancelled_call() {
    let (mut world, service, caller) = steering_world(Limits::default());
    let other = world.peer_of_level(1);
    world.send(other, call("/a", "1"));
    world.take_call(service);
    world.send(caller, call("/a", "1"));
    let new_id = world.take_call(service).request_id;
    assert_ne!(new_id, "1");
    world.send(caller, cancel("1"));
    check_cancelled(&world.take_reply(caller), "1");
    assert_eq!(world.take(service), cancelled(&new_id));
    world.close(other);
    assert_eq!(world.take(service), cancelled("1"));
}

// Rule CA-13: a caller that goes with very many calls: each is cancelled once, in the order of the calls. Those that end
// before the router comes to them are not.
#[test]
fn many_calls_of_a_caller_that_goes_are_cancelled() {
    const COUNT: usize = 1000;
    let (mut world, service, caller) = steering_world(Limits::default());
    for number in 0..COUNT {
        world.send(caller, timed(&number.to_string()));
    }
    world.take(service);
    world.close(caller);
    let mut seen = world.take(service);
    let ended: Vec<_> = (0..COUNT)
        .map(|number| number.to_string())
        .filter(|id| !seen.contains(&Seen::Cancel(id.clone())))
        .take(100)
        .collect();
    for id in &ended {
        world.send(service, full(id, "in between"));
    }
    // Deadlines pass before it comes to some of them.
    world.now += Duration::from_millis(100);
    world.broker.tick(world.now, &mut world.effects);
    while world.sweep(7) {}
    seen.extend(world.take(service));
    let mut ids: Vec<_> = seen
        .iter()
        .map(|seen| match seen {
            Seen::Cancel(id) => id.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids.len(), COUNT - ended.len());
    ids.extend(ended);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), COUNT, "one was cancelled twice, or after its end");
    assert_eq!(usage(&world), (0, COUNT - 100));
}

// Rules CA-13, LI-2: the caller pays as for a call; one that has gone does not, and the service does.
#[test]
fn the_caller_pays_for_a_cancellation() {
    let frame = |message: Frame| message.body.len() + 64;
    let (request, end) = (call("/a", "1").to_frame(), cancel("1").to_frame());
    // Two calls, and one cancellation.
    let queued_bytes = 2 * frame(request.clone()) + frame(end);
    for goes in [false, true] {
        let limits = Limits { queued_bytes: queued_bytes - 1, ..Limits::default() };
        let (mut world, service, caller) = steering_world(limits);
        world.deaf.insert(service);
        world.send_frame(caller, request.clone());
        if goes {
            world.close(caller);
            let pings =
                (0..10).map(|_| world.try_send(service, Ping {}.to_frame())).collect::<Vec<_>>();
            let answers = pings.iter().filter(|sent| sent.is_ok()).count();
            let room = (queued_bytes - 1 - frame(cancel("1").to_frame())) / 64;
            assert_eq!(answers, room);
        } else {
            world.send(caller, cancel("1"));
            assert!(world.try_send(caller, request.clone()).is_err(), "it does not pay");
        }
    }
}

// Rules CA-13, LI-2: a cancellation does not wait for room.
#[test]
fn a_cancellation_is_queued_above_the_limit() {
    let limits = Limits { queued_bytes: 110, ..Limits::default() };
    let (mut world, service, caller) = steering_world(limits);
    world.deaf.insert(service);
    world.send(caller, call("/a", "1"));
    world.send(caller, cancel("1"));
    check_cancelled(&world.take_reply(caller), "1");
    let seen = world.take(service);
    assert!(matches!(&seen[..], [Seen::Call(_), Seen::Cancel(id)] if id == "1"), "{seen:?}");
}
