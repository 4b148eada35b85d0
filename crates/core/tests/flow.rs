//! Flow control: the charges for queued bytes, and the limits (rules LI-2, LI-5, LI-6 and LI-8).

#![allow(clippy::panic, clippy::unwrap_used)]

mod common;
#[path = "flow/stalled_peers.rs"]
mod stalled_peers;

use std::time::Duration;

use bytes::Bytes;
use common::{Seen, World, broadcast, call, full, partial, push};
use gsb_core::{BrokerConfig, ConnId, Limits};
use gsb_proto::Frame;
use gsb_proto::messages::*;

const LIMIT: usize = 1 << 20;
const STALL: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(10);

/// The bytes that a peer has to read in each stall timeout: always, and while it blocks another connection.
const LEAST: usize = 64 << 10;
const SHARE: usize = LIMIT / 8;

/// The size of the data of one frame, and how many such frames fit into the limit.
const SIZE: usize = 10_000;
const FITS: std::ops::RangeInclusive<usize> = 103..=104;

fn world() -> World {
    world_with(BrokerConfig::default())
}

fn world_with(config: BrokerConfig) -> World {
    let limits = Limits { queued_bytes: LIMIT, ..Default::default() };
    World::new(BrokerConfig { limits, ping_timeout: None, ..config })
}

/// A service at `/s`, and a caller.
fn pair(world: &mut World) -> (ConnId, ConnId) {
    let (service, caller) = (world.peer(), world.peer());
    world.register(service, "/s");
    (service, caller)
}

fn data(length: usize) -> Bytes {
    vec![7; length].into()
}

fn large_call(id: usize) -> Frame {
    CallRequest { data: data(SIZE), ..call("/s", &id.to_string()) }.to_frame()
}

fn large_push(_: usize) -> Frame {
    CallRequest { data: data(SIZE), ..push("/s", "") }.to_frame()
}

fn reply(id: &str, length: usize) -> Frame {
    CallReply { data: data(length), ..partial(id, "") }.to_frame()
}

/// Sends until a frame has to wait. Returns the number of sent frames and the waiting frame.
fn fill(world: &mut World, from: ConnId, message: impl Fn(usize) -> Frame) -> (usize, Frame) {
    for sent in 0..100_000 {
        if let Err(frame) = world.try_send(from, message(sent)) {
            return (sent, frame);
        }
    }
    panic!("there is no limit");
}

/// A caller that does not read, with an open call to `service` at `/s`. Returns the caller and the call's id at the
/// service.
fn deaf_caller(world: &mut World, service: ConnId) -> (ConnId, String) {
    let caller = world.peer();
    world.deaf.insert(caller);
    world.send(caller, call("/s", &format!("of {caller}")));
    (caller, world.take_call(service).request_id)
}

/// Three services, each with an open call of the caller. The calls are made 100 ms apart. Returns each service with the id
/// of its call.
fn called_services(
    world: &mut World,
    caller: ConnId,
    timeout_ms: u32,
) -> [(ConnId, &'static str); 3] {
    ["/a", "/b", "/c"].map(|name| {
        let service = world.peer();
        world.register(service, name);
        world.send(caller, CallRequest { timeout_ms, ..call(name, name) });
        world.take_call(service);
        world.now += Duration::from_millis(100);
        (service, name)
    })
}

/// Makes the service reply to a caller that does not read, until the service is paused. Returns the caller and the
/// waiting frame.
fn stream(world: &mut World, service: ConnId) -> (ConnId, Frame) {
    let (caller, id) = deaf_caller(world, service);
    let (sent, waits) = fill(world, service, |_| reply(&id, SIZE));
    assert!(FITS.contains(&sent), "{sent}");
    (caller, waits)
}

/// Advances the time until a paused connection goes on. Returns its frame if it still waits after this time.
fn go_on(world: &mut World, from: ConnId, mut frame: Frame, time: Duration) -> Option<Frame> {
    let end = world.now + time;
    while world.now < end {
        world.pass(STALL / 16);
        if world.is_woken(from) {
            frame = match world.try_send(from, frame) {
                Ok(()) => return None,
                Err(frame) => frame,
            };
        }
    }
    Some(frame)
}

fn stalled(world: &World, reason: &str) -> u64 {
    world.broker.counters().refusals.get(reason).copied().unwrap_or_default()
}

// Rule LI-2: calls are charged to their caller until they are written. At the limit the caller is not read, until they
// have fallen to half of it.
#[test]
fn calls_are_charged_to_their_caller() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    let other = world.peer();
    world.deaf.insert(service);
    let (sent, waits) = fill(&mut world, caller, large_call);
    assert_eq!(world.broker.counters().pauses["calls"], 1);
    // A connection below its limit is read.
    world.send_frame(other, large_call(0));
    let frame = world.queued[0].left;
    world.read(service, frame * (sent - 1) - LIMIT / 2);
    assert!(!world.is_woken(caller));
    world.read(service, 2 * frame);
    assert!(world.is_woken(caller));
    world.send_frame(caller, waits);
    assert_eq!(world.broker.usage().open_calls, sent + 2);
    assert_eq!(world.broker.counters().pauses["calls"], 1, "it was one pause");
}

// Rules LI-2, LI-6: replies are charged to the caller, and at the limit the connection that replies is not read. It is
// not closed for its silence meanwhile.
#[test]
fn replies_are_charged_to_the_caller() {
    let mut world = World::new(BrokerConfig {
        limits: Limits { queued_bytes: LIMIT, ..Default::default() },
        stall_timeout: 100 * STALL,
        write_timeout: 100 * STALL,
        ..BrokerConfig::default()
    });
    let service = world.peer();
    world.register(service, "/s");
    let (caller, waits) = stream(&mut world, service);
    for _ in 0..6 {
        world.wait(Duration::from_secs(59));
        world.heard(caller);
    }
    assert_eq!(world.broker.usage().connections, 2, "it was closed for its silence");
    world.read(caller, LIMIT / 2);
    assert!(world.is_woken(service));
    world.send_frame(service, waits);
}

// Rules LI-2, LI-6: the router does not read from a peer that floods it with requests and reads no answers, and does
// not close it for its silence meanwhile.
#[test]
fn answers_are_charged_to_the_asker() {
    let mut world = World::new(BrokerConfig {
        limits: Limits { queued_bytes: LIMIT, ..Default::default() },
        ..BrokerConfig::default()
    });
    let (service, asker) = pair(&mut world);
    world.deaf.insert(asker);
    let (sent, waits) = fill(&mut world, asker, |_| Ping {}.to_frame());
    assert_eq!(sent, LIMIT / 64);
    for _ in 0..10 {
        world.wait(Duration::from_secs(59));
        world.heard(service);
    }
    assert_eq!(world.broker.usage().connections, 2);
    world.read(asker, LIMIT / 2);
    assert!(world.is_woken(asker));
    world.take(asker);
    world.send_frame(asker, waits);
    assert_eq!(world.take(asker), [Seen::Pong]);
    assert_eq!(world.broker.counters().pauses["answers"], 1);
}

// Rule LI-2: a subscriber that does not read misses the events over its limit. No connection waits, and no other
// subscriber misses an event.
#[test]
fn broadcasts_are_charged_to_the_subscriber() {
    let mut world = world();
    let (slow, healthy, sender) = (world.peer(), world.peer(), world.peer());
    for subscriber in [slow, healthy] {
        world.subscribe(subscriber, "news");
    }
    world.deaf.insert(slow);
    let event = BroadcastRequest { data: data(SIZE), ..broadcast("news") };
    for _ in 0..200 {
        world.send(sender, event.clone());
    }
    assert_eq!(world.take(healthy).len(), 200);
    let got = world.take(slow).len();
    assert!(FITS.contains(&got), "{got}");
    assert_eq!(world.broker.counters().drops["slow subscriber"], 200 - got as u64);
    assert!(world.reports.contains(&(slow, "slow subscriber")));
    world.read_all(slow);
    // Rule TO-11: only this subscriber is told once how many events it has missed.
    for missed in [200 - got as u64, 0] {
        world.send(sender, event.clone());
        assert_eq!(
            world.take(slow),
            [Seen::Broadcast(BroadcastRequest { missed, ..event.clone() })]
        );
        assert_eq!(world.take(healthy), [Seen::Broadcast(event.clone())]);
    }
}

// Rule LI-2: the size of a field that the router adds counts.
#[test]
fn the_count_of_missed_broadcasts_is_charged_too() {
    let event = |length| BroadcastRequest { data: data(length), ..broadcast("news") };
    let cost = |length| event(length).to_frame().body.len() + 64;
    let rest = LIMIT - cost(1000);
    let fits = (0..rest).rev().find(|&length| cost(length) <= rest).unwrap();
    for (large, delivered) in [(0, 2), (LIMIT, 1)] {
        let mut world = world();
        let (slow, sender) = (world.peer(), world.peer());
        world.subscribe(slow, "news");
        world.deaf.insert(slow);
        world.send(sender, event(1000));
        if large > 0 {
            world.send(sender, event(large));
        }
        // The event fits, but not together with the number of missed events.
        world.send(sender, event(fits));
        assert_eq!(world.take(slow).len(), delivered);
    }
}

// Rule TO-11: only the router sets the number of missed events.
#[test]
fn a_sender_cannot_say_that_anything_was_missed() {
    let mut world = world();
    let (subscriber, sender) = (world.peer(), world.peer());
    world.subscribe(subscriber, "news");
    world.send(sender, BroadcastRequest { missed: 7, ..broadcast("news") });
    assert_eq!(world.take(subscriber), [Seen::Broadcast(broadcast("news"))]);
}

// Rule LI-2: a frame larger than the limit is admitted when nothing else of its purpose is queued.
#[test]
fn a_frame_larger_than_the_limit_goes_alone() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    let huge = CallRequest { data: data(3 * LIMIT), ..call("/s", "huge") };
    world.send(caller, call("/s", "small"));
    let waits = world.try_send(caller, huge.to_frame()).unwrap_err();
    world.read(service, 50);
    assert!(!world.is_woken(caller));
    world.read(service, usize::MAX);
    assert!(world.is_woken(caller));
    world.send_frame(caller, waits);
    let waits = world.try_send(caller, call("/s", "next").to_frame()).unwrap_err();
    world.read(service, 3 * LIMIT);
    assert!(world.is_woken(caller));
    world.send_frame(caller, waits);
}

// Rule LI-2: a large frame waits until it fits, not only until half of the limit is free.
#[test]
fn a_large_frame_goes_on_when_it_fits() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    let call = |id, length| CallRequest { data: data(length), ..call("/s", id) }.to_frame();
    world.send_frame(caller, call("1", LIMIT * 9 / 10));
    let waits = world.try_send(caller, call("2", LIMIT * 8 / 10)).unwrap_err();
    world.read(service, LIMIT * 6 / 10);
    assert!(!world.is_woken(caller));
    let waits = world.try_send(caller, waits).unwrap_err();
    world.read(service, LIMIT * 2 / 10);
    assert!(world.is_woken(caller));
    world.send_frame(caller, waits);
}

// Rules LI-2, LI-6: connections that wait for the same caller take turns, whatever they send, and even if one of them
// sends again at once.
#[test]
fn connections_that_wait_take_turns() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    let (caller, _) = deaf_caller(&mut world, service);
    let others = called_services(&mut world, caller, 0);
    let (a, b, c) = (others[0], others[1], others[2]);
    world.send_frame(a.0, reply(a.1, LIMIT * 9 / 10));
    let wait =
        |world: &mut World, (who, id), length| world.try_send(who, reply(id, length)).unwrap_err();
    let large = wait(&mut world, b, LIMIT * 9 / 10);
    let small = wait(&mut world, c, 10);
    let again = wait(&mut world, a, 10);
    world.read(caller, LIMIT / 2);
    assert!(!world.is_woken(b.0), "it does not fit yet");
    let small = world.try_send(c.0, small).unwrap_err();
    world.read(caller, usize::MAX);
    // The first goes on, and the next one when half of the limit is free again.
    assert!(world.is_woken(b.0) && !world.is_woken(c.0));
    world.send_frame(b.0, large);
    let behind = wait(&mut world, b, 10);
    assert!(!world.is_woken(c.0));
    world.read(caller, LIMIT / 2);
    assert!(world.is_woken(c.0) && !world.is_woken(a.0));
    world.send_frame(c.0, small);
    assert!(world.is_woken(a.0) && !world.is_woken(b.0));
    world.send_frame(a.0, again);
    assert!(world.is_woken(b.0));
    world.send_frame(b.0, behind);
}

// The end of a call wakes the service that may wait to reply to it, and no other: there may be very many.
#[test]
fn the_end_of_a_call_wakes_its_service_alone() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    let (caller, _) = deaf_caller(&mut world, service);
    let others = called_services(&mut world, caller, 1000);
    world.send_frame(others[0].0, reply("/a", LIMIT * 9 / 10));
    let waits =
        others.iter().map(|&(other, id)| world.try_send(other, reply(id, LIMIT)).unwrap_err());
    let waits: Vec<_> = waits.collect();
    // The deadline of the first call passes.
    world.wait(Duration::from_millis(700));
    assert!(world.is_woken(others[0].0));
    assert!(!world.is_woken(others[1].0) && !world.is_woken(others[2].0));
    world.send_frame(others[0].0, waits[0].clone());
}

// Rule LI-6: when the first waiting connection ends, the next one goes on.
#[test]
fn a_connection_that_waits_and_goes_lets_the_next_go_on() {
    let mut world = world();
    let (service, other) = (world.peer(), world.peer());
    world.register(service, "/s");
    world.register(other, "/other");
    let (caller, id) = deaf_caller(&mut world, service);
    world.send(caller, call("/other", "2"));
    world.take_call(other);
    world.send_frame(other, reply("2", LIMIT / 2));
    world.try_send(service, reply(&id, LIMIT)).unwrap_err();
    let small = world.try_send(other, reply("2", 10)).unwrap_err();
    world.read(caller, LIMIT / 4);
    assert!(!world.is_woken(service) && !world.is_woken(other));
    world.close(service);
    assert!(world.is_woken(other));
    world.send_frame(other, small);
}

// Rule LI-5: while all connections together have more than the memory limit, each may queue 64 KiB, until they have
// fallen to three quarters.
#[test]
fn all_connections_together_have_a_limit() {
    let mut world = world_with(BrokerConfig { memory_limit: 4 * LIMIT, ..Default::default() });
    let (service, _) = pair(&mut world);
    world.deaf.insert(service);
    let callers: Vec<_> = (0..10).map(|_| world.peer()).collect();
    let sent: Vec<_> =
        callers.iter().map(|caller| fill(&mut world, *caller, large_push).0).collect();
    let short = LEAST / (SIZE + 100);
    assert!(sent[..4].iter().all(|sent| FITS.contains(sent)), "{sent:?}");
    assert_eq!(sent[5..], [short; 5]);
    let all = world.queued_for(service);
    assert!(all <= 4 * LIMIT + 10 * LEAST, "{all}");
    world.read(service, all - 3 * LIMIT - 2 * LEAST);
    let late = world.peer();
    assert!(world.try_send(late, large_push(0)).is_ok(), "the first is admitted");
    assert_eq!(fill(&mut world, late, large_push).0, short - 1);
    world.read(service, 4 * LEAST);
    let late = world.peer();
    assert!(fill(&mut world, late, large_push).0 > short);
}

// Rule LI-5: if unfinished frames grow beyond that, the connection with the largest one is closed, one at a time.
#[test]
fn the_largest_unfinished_frame_goes_when_memory_is_short() {
    let mut world = world_with(BrokerConfig { memory_limit: LIMIT, ..Default::default() });
    let [a, b, c] = [world.peer(), world.peer(), world.peer()];
    world.unfinished(a, LIMIT / 4);
    world.unfinished(b, LIMIT / 2);
    assert_eq!(world.broker.usage().connections, 3);
    world.unfinished(c, LIMIT / 3);
    assert_eq!(world.take(b), [Seen::Closed("memory limit")]);
    assert_eq!(world.broker.usage().connections, 2);
    // A frame that does not grow closes no connection, and neither does a small one.
    world.unfinished(c, LIMIT);
    assert_eq!(world.take(c), [Seen::Closed("memory limit")]);
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    let huge = CallRequest { data: data(2 * LIMIT), ..call("/s", "huge") };
    world.send(caller, huge);
    world.unfinished(a, LIMIT / 4);
    world.unfinished(caller, LEAST);
    assert_eq!(world.broker.usage().connections, 3);
    world.unfinished(a, LIMIT / 4 + 1);
    assert_eq!(world.take(a), [Seen::Closed("memory limit")]);
}

// Rule LI-8: a connection is closed if its unfinished frame gets no byte within the frame timeout, unless it is paused.
#[test]
fn a_frame_that_does_not_go_on_closes_its_connection() {
    let frame = Duration::from_secs(30);
    let mut world = world();
    let [stuck, slow, idle] = [world.peer(), world.peer(), world.peer()];
    let service = world.peer();
    world.register(service, "/s");
    let (_, waits) = stream(&mut world, service);
    for peer in [stuck, slow, service] {
        world.heard(peer);
        world.unfinished(peer, 1);
    }
    world.wait(frame - Duration::from_secs(1));
    world.heard(slow);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.take(stuck), [Seen::Closed("unfinished frame")]);
    world.wait(frame - Duration::from_secs(2));
    world.heard(slow);
    world.unfinished(slow, 0);
    world.wait(10 * frame);
    assert_eq!(world.broker.counters().closes.len(), 1);
    assert!(world.try_send(service, waits).is_err());
    let _ = idle;
}

// Rule LI-8: late bytes of a closed connection do not count for the connection that has its slot now.
#[test]
fn bytes_of_a_closed_connection_do_not_count_for_the_next_one() {
    let mut world = world();
    let closed = world.peer();
    world.close(closed);
    let next = world.peer();
    assert_eq!(next.slot(), closed.slot());
    world.unfinished(closed, 1);
    world.wait(Duration::from_secs(300));
    assert_eq!(world.take(next), []);
}

// Rules CA-1, LI-2: a waiting reply belongs to the call that it was sent to. That call may end meanwhile, and a call of
// another caller may get its id.
#[test]
fn a_reply_that_waits_goes_to_no_other_call() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    let (other, innocent) = (world.peer(), world.peer());
    world.register(other, "/other");
    world.deaf.extend([caller, innocent]);
    world.send(caller, call("/other", "fills"));
    let id = world.take_call(other).request_id;
    world.send_frame(other, reply(&id, LIMIT));
    world.send(caller, call("/s", "1"));
    let waits = world.try_send(service, full("1", "").to_frame()).unwrap_err();
    world.close(caller);
    assert!(world.is_woken(service));
    world.send(innocent, call("/s", "1"));
    world.take(service);
    world.send_frame(service, waits);
    assert_eq!(world.broker.counters().drops["stray reply"], 1);
    assert!(world.take(innocent).is_empty());
}

// Rule CO-17: a router that stops refuses new calls, and open calls may end.
#[test]
fn a_router_that_stops_refuses_what_is_new() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    for id in ["1", "2", "3"] {
        world.send(caller, call("/s", id));
    }
    world.subscribe(service, "news");
    world.take(service);
    world.begin_to_stop();
    world.send(caller, call("/s", "4"));
    let refused = world.take_reply(caller);
    assert_eq!((refused.request_id.as_str(), refused.code), ("4", 400));
    assert_eq!(refused.reason(), CallReplyReason::ReasonRouterStops);
    world.send(caller, push("/s", ""));
    assert_eq!(world.broker.counters().drops["stopping"], 1);
    assert_eq!(world.take(service), []);
    // The remaining connections still receive events.
    world.broadcast(caller, "news");
    assert_eq!(world.take(caller), [Seen::Broadcasted(0, 1)]);
    assert!(matches!(world.take(service).as_slice(), [Seen::Broadcast(_)]));
    world.send(service, full("2", "done"));
    assert_eq!(world.take_reply(caller).code, 0);
    world.end_calls();
    let ends: Vec<_> = world
        .take(caller)
        .into_iter()
        .map(|seen| match seen {
            Seen::Reply(reply) => (reply.request_id, reply.code, reply.reply_type),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends, [("1".to_owned(), 500, 0), ("3".to_owned(), 500, 0)]);
    assert!(world.sentences.last().unwrap().contains("--drain-timeout"));
    assert_eq!(world.broker.usage().open_calls, 0);
}
