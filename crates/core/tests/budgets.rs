//! Who pays for what waits to be written, and what happens when somebody's budget is used up.

#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use common::{Seen, Wait, World, broadcast, call, full, partial, push};
use gsb_core::{BrokerConfig, ConnId, Limits};
use gsb_proto::Frame;
use gsb_proto::messages::*;

const LIMIT: usize = 10_000;
const STALL: Duration = Duration::from_secs(5);

fn world() -> World {
    let limits = Limits { queued_bytes: LIMIT, ..Default::default() };
    World::new(BrokerConfig { limits, ..Default::default() })
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

fn large_call(id: usize) -> CallRequest {
    CallRequest { data: data(1000), ..call("/s", &id.to_string()) }
}

/// Sends until something has to wait; how many were sent, and what waits.
fn fill(world: &mut World, from: ConnId, message: impl Fn(usize) -> Frame) -> (usize, Wait) {
    for sent in 0..10_000 {
        if let Err(wait) = world.try_send(from, message(sent)) {
            return (sent, wait);
        }
    }
    panic!("there is no limit");
}

// Rules LI-2, LI-4: calls are charged to their caller, who waits; nobody else does, and neither does who has
// sent less.
#[test]
fn calls_are_at_the_cost_of_their_caller() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    let other = world.peer();
    world.deaf.insert(service);
    let (sent, wait) = fill(&mut world, caller, |id| large_call(id).to_frame());
    assert!((8..=9).contains(&sent), "{sent} calls of about 1100 bytes in {LIMIT}");
    assert_eq!(wait.until, None);
    assert_eq!(world.broker.counters().pauses["calls"], 1);
    // All that the caller sends waits, and its turn comes when half of it is taken.
    for _ in 0..sent.div_ceil(2) - 1 {
        world.queued.remove(0);
        let small = push("/s", "small").to_frame();
        assert!(world.try_send(caller, small).is_err());
    }
    world.queued.remove(0);
    world.send_frame(caller, wait.frame);
    // The budget of another is its own.
    world.send(other, large_call(0));
    assert_eq!(world.broker.usage().open_calls, sent + 2);
    assert_eq!(world.broker.counters().pauses["calls"], 1, "it was one pause");
}

// Rule LI-4: a service that takes nothing for the stall timeout costs the calls that wait for it, and no more.
#[test]
fn calls_that_are_not_taken_end() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    let (sent, wait) = fill(&mut world, caller, |id| large_call(id).to_frame());
    world.take(caller);
    world.time_out(service, false);
    for seen in world.take(caller) {
        let Seen::Reply(reply) = seen else { panic!("{seen:?}") };
        assert_eq!((reply.code, reply.reply_type), (500, 0));
        assert_eq!(reply.reason(), CallReplyReason::ReasonServiceStalled);
        assert!(String::from_utf8_lossy(&reply.data).contains("--stall-timeout"));
    }
    assert_eq!(world.broker.usage().open_calls, 0);
    assert_eq!(world.broker.counters().refusals["service stalled"], sent as u64);
    assert!(world.reports.contains(&(service, "service stalled")));
    // Its caller goes on, under the same ids too, and the service when it takes something again.
    world.send_frame(caller, wait.frame);
    world.take_queued(service);
    world.take(service);
    world.send(caller, large_call(0));
    assert_eq!(world.take_call(service).request_id, "0");
    world.send(service, full("0", "late but whole"));
    assert_eq!(world.take_reply(caller).code, 0);
}

// Rules LI-4, CO-8: of a call that is partly written the service may yet see the whole.
#[test]
fn a_call_that_is_begun_keeps_its_id_at_the_service() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    world.send(caller, call("/s", "1"));
    world.take(service);
    world.time_out(service, true);
    assert_eq!(world.take_reply(caller).code, 500);
    // Once: it is not due again.
    world.time_out(service, true);
    assert_eq!(world.take(caller), []);
    assert_eq!((world.broker.usage().open_calls, world.broker.usage().abandoned_calls), (0, 1));
    let other = world.peer();
    world.send(other, call("/s", "1"));
    assert_ne!(world.take_call(service).request_id, "1");
    world.send(service, full("1", "for the first"));
    assert_eq!((world.take(caller), world.take(other)), (vec![], vec![]));
    assert_eq!(world.broker.usage().abandoned_calls, 0);
}

// Rule LI-4: nobody waits for the end of a push, so it is dropped and counted.
#[test]
fn pushes_that_are_not_taken_are_dropped() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    for _ in 0..3 {
        world.send(caller, push("/s", ""));
    }
    world.time_out(service, false);
    assert_eq!(world.take(caller), []);
    assert_eq!(world.broker.counters().drops["not taken"], 3);
    assert!(world.reports.contains(&(service, "not taken")));
}

// Rules LI-2, CA-7: a caller that goes leaves its budget behind with what it has sent.
#[test]
fn calls_of_one_that_is_gone_are_taken_back_too() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    let (sent, _) = fill(&mut world, caller, |id| large_call(id).to_frame());
    world.close(caller);
    assert_eq!(world.broker.usage().abandoned_calls, sent);
    world.time_out(service, false);
    assert_eq!(world.broker.usage().abandoned_calls, 0);
    assert_eq!(world.broker.usage().budgets, 1);
}

fn stream(world: &mut World) -> (ConnId, ConnId, usize, Wait) {
    let (service, caller) = pair(world);
    world.send(caller, call("/s", "1"));
    world.take_call(service);
    world.deaf.insert(caller);
    let reply = || CallReply { data: data(1000), ..partial("1", "") }.to_frame();
    let (sent, wait) = fill(world, service, |_| reply());
    (service, caller, sent, wait)
}

// Rule LI-5: replies are charged to the caller. Whoever sends them waits, but not for ever.
#[test]
fn replies_are_at_the_cost_of_the_caller() {
    let mut world = world();
    let (service, caller, sent, wait) = stream(&mut world);
    assert!((8..=9).contains(&sent));
    assert_eq!(wait.until, Some(world.now + STALL));
    // Another service is not held up unless it has something for that caller.
    let (other, busy) = (world.peer(), world.peer());
    world.register(busy, "/busy");
    world.send(other, call("/busy", "1"));
    world.take_call(busy);
    world.send(busy, full("1", ""));
    assert_eq!(world.take_reply(other).code, 0);
    // A caller that reads on is served on.
    world.now += STALL / 2;
    world.take_queued(caller);
    world.send_frame(service, wait.frame);
    world.send(service, full("1", "the end"));
    let seen = world.take(caller);
    assert_eq!(seen.len(), sent + 2);
    assert!(matches!(&seen[sent + 1], Seen::Reply(reply) if reply.code == 0));
}

// Rule LI-5: a caller that does not read delays a service once, for the stall timeout. Then its calls end as
// their replies come.
#[test]
fn a_caller_that_stalls_costs_its_own_calls() {
    let mut world = world();
    let (service, caller, sent, wait) = stream(&mut world);
    world.take(caller);
    world.now += STALL;
    world.send_frame(service, wait.frame);
    let end = world.take_reply(caller);
    assert_eq!((end.request_id.as_str(), end.code, end.reply_type), ("1", 500, 0));
    assert_eq!(end.reason(), CallReplyReason::ReasonCallerStalled);
    assert!(String::from_utf8_lossy(&end.data).contains("--queue-limit"));
    assert!(world.reports.contains(&(caller, "caller stalled")));
    // What follows is dropped without a pause, of other services too, until there is room.
    world.send(service, partial("1", "more"));
    let other = world.peer();
    world.register(other, "/other");
    world.send(caller, call("/other", "2"));
    world.take_call(other);
    world.send(other, full("2", ""));
    assert_eq!(world.take_reply(caller).reason(), CallReplyReason::ReasonCallerStalled);
    assert_eq!(world.broker.counters().pauses["replies"], 1);
    // The id is taken at the service until the last reply, which goes nowhere.
    assert_eq!(world.broker.usage().abandoned_calls, 1);
    world.send(service, full("1", "the end"));
    assert_eq!(world.broker.usage().abandoned_calls, 0);
    world.take_queued(caller);
    assert_eq!(world.take(caller), []);
    world.send(caller, call("/s", "1"));
    world.take_call(service);
    world.send(service, full("1", ""));
    assert_eq!(world.take_reply(caller).code, 0);
    assert_eq!(sent as u64, world.broker.counters().replies - 1);
}

// Rule LI-5: the time begins anew with each half of the limit that is taken.
#[test]
fn a_slow_caller_does_not_stall() {
    let mut world = world();
    let (service, _, sent, mut wait) = stream(&mut world);
    for _ in 0..20 {
        world.now += STALL - Duration::from_millis(1);
        world.queued.drain(..sent.div_ceil(2));
        world.send_frame(service, wait.frame);
        let reply = || CallReply { data: data(1000), ..partial("1", "") }.to_frame();
        wait = fill(&mut world, service, |_| reply()).1;
    }
    assert_eq!(world.broker.counters().refusals.get("caller stalled"), None);
}

/// Lets a caller that reads nothing hold up a service; how long it did, and what waits then.
fn hold_up(world: &mut World, service: ConnId, id: &str) -> (ConnId, Wait) {
    let caller = world.peer();
    world.deaf.insert(caller);
    world.send(caller, call("/s", id));
    let at_service = world.take_call(service).request_id;
    let reply = || CallReply { data: data(1000), ..partial(&at_service, "") }.to_frame();
    let (_, wait) = fill(world, service, |_| reply());
    (caller, wait)
}

// Rule LI-5: however many callers do not read, all together they delay a service for two stall timeouts, and
// by a small part of one each.
#[test]
fn callers_that_stall_do_not_add_up() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    for round in 0..2 {
        let begin = world.now;
        for number in 0..20 {
            let (_, wait) = hold_up(&mut world, service, &format!("{round} {number}"));
            world.now = wait.until.unwrap();
            world.send_frame(service, wait.frame);
            assert!(world.now - begin >= STALL, "the first costs a whole one");
        }
        let waited = world.now - begin;
        assert!(waited <= 2 * STALL + 20 * STALL / 16, "{waited:?}");
        // It is forgotten in the end.
        world.now += 10 * STALL;
    }
}

// Rule LI-5: a caller that leaves at the last moment has held the service up in vain, too.
#[test]
fn callers_that_leave_do_not_add_up() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    let begin = world.now;
    for number in 0..20 {
        let (caller, wait) = hold_up(&mut world, service, &number.to_string());
        world.now = wait.until.unwrap() - Duration::from_millis(1);
        world.close(caller);
        world.send_frame(service, wait.frame);
    }
    let waited = world.now - begin;
    assert!(waited <= 2 * STALL + 20 * STALL / 16, "{waited:?}");
}

// Rule LI-5: a caller that reads is not made to pay for those who do not, however many there were.
#[test]
fn a_caller_that_reads_is_waited_for_whoever_does_not() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    for number in 0..40 {
        let (_, wait) = hold_up(&mut world, service, &format!("deaf {number}"));
        world.now = wait.until.unwrap();
        world.send_frame(service, wait.frame);
    }
    let (caller, mut wait) = hold_up(&mut world, service, "reads");
    assert_eq!(wait.until, Some(world.now + STALL / 16));
    let queued = |world: &World| world.queued.iter().filter(|(to, _)| *to == caller).count();
    let begin = world.now;
    let (step, all) = (STALL / 20, queued(&world));
    // It reads a tenth of what it may have queued in each step: just enough.
    for number in 1..=10 {
        world.now += step;
        let left = all - all * number / 18;
        while queued(&world) > left {
            let first = world.queued.iter().position(|(to, _)| *to == caller).unwrap();
            world.queued.remove(first);
        }
        match world.try_send(service, wait.frame) {
            Ok(()) => break,
            Err(again) => wait = again,
        }
        assert!(wait.until > Some(world.now), "given up after {:?}", world.now - begin);
    }
    assert!(world.now - begin > STALL / 16 * 4, "it has taken its time");
    assert!(!world.take(caller).iter().any(|seen| matches!(seen, Seen::Reply(r) if r.code != 0)));
}

// Rules LI-3, LI-9: whoever floods the router with questions and reads no answer is not read itself.
#[test]
fn answers_are_at_the_cost_of_who_asks() {
    let mut world = world();
    let (service, asker) = pair(&mut world);
    world.deaf.insert(asker);
    let (sent, wait) = fill(&mut world, asker, |_| Ping {}.to_frame());
    assert!((100..200).contains(&sent), "{sent} Pongs in {LIMIT} bytes");
    assert_eq!(wait.until, None);
    assert!(world.try_send(asker, push("/s", "").to_frame()).is_err());
    assert!(world.try_send(asker, RegisterRequest { service_id: "/x".into() }.to_frame()).is_err());
    // It is not closed for the silence that this is.
    for _ in 0..10 {
        world.now += Duration::from_secs(59);
        world.heard(service);
        world.wait(Duration::ZERO);
    }
    assert_eq!(world.broker.usage().connections, 2);
    world.take_queued(asker);
    world.take(asker);
    world.send_frame(asker, wait.frame);
    assert_eq!(world.take(asker), [Seen::Pong]);
    assert_eq!(world.broker.counters().pauses["answers"], 1);
}

// Rule LI-6: of what a subscriber does not read, it misses the newest; nobody waits, and nobody else misses any.
#[test]
fn broadcasts_are_at_the_cost_of_the_subscriber() {
    let mut world = world();
    let (slow, healthy, sender) = (world.peer(), world.peer(), world.peer());
    for subscriber in [slow, healthy] {
        world.subscribe(subscriber, "news");
    }
    world.deaf.insert(slow);
    let event = BroadcastRequest { data: data(1000), ..broadcast("news") };
    for _ in 0..20 {
        world.send(sender, event.clone());
    }
    assert_eq!(world.take(healthy).len(), 20);
    let got = world.take(slow).len();
    assert!((8..=9).contains(&got));
    assert_eq!(world.broker.counters().drops["slow subscriber"], 20 - got as u64);
    assert!(world.reports.contains(&(slow, "slow subscriber")));
    // It still can be called, and gets the news again when it has read.
    world.register(slow, "/slow");
    world.send(sender, call("/slow", "1"));
    world.take_queued(slow);
    world.take(slow);
    // TO-11: it is told how many it has missed, once, and nobody else is.
    let missed = 20 - got as u64;
    for missed in [missed, 0] {
        world.send(sender, event.clone());
        assert_eq!(
            world.take(slow),
            [Seen::Broadcast(BroadcastRequest { missed, ..event.clone() })]
        );
        assert_eq!(world.take(healthy), [Seen::Broadcast(event.clone())]);
    }
}

// Rules LI-2, LI-6: what the router adds counts.
#[test]
fn that_some_were_missed_counts() {
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
        // It fits, but not with the word that another was missed.
        world.send(sender, event(fits));
        assert_eq!(world.take(slow).len(), delivered);
    }
}

// Rule TO-11: whether anything was missed is for the router to say.
#[test]
fn a_sender_cannot_say_that_anything_was_missed() {
    let mut world = world();
    let (subscriber, sender) = (world.peer(), world.peer());
    world.subscribe(subscriber, "news");
    world.send(sender, BroadcastRequest { missed: 7, ..broadcast("news") });
    assert_eq!(world.take(subscriber), [Seen::Broadcast(broadcast("news"))]);
}

// Rule LI-2: a frame that is larger than the limit goes alone.
#[test]
fn a_frame_larger_than_the_limit_goes_alone() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    let huge = CallRequest { data: data(3 * LIMIT), ..call("/s", "huge") };
    world.send(caller, call("/s", "small"));
    let wait = world.try_send(caller, huge.to_frame()).unwrap_err();
    world.queued.clear();
    world.send_frame(caller, wait.frame);
    assert!(world.try_send(caller, call("/s", "next").to_frame()).is_err());
    world.queued.clear();
    world.send(caller, call("/s", "next"));
}

// Rule CO-17: a router that stops takes nothing new, and lets what is open end.
#[test]
fn a_router_that_stops_refuses_what_is_new() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    for id in ["1", "2", "3"] {
        world.send(caller, call("/s", id));
    }
    world.subscribe(service, "news");
    world.take(service);
    world.broker.begin_to_stop();
    world.send(caller, call("/s", "4"));
    let refused = world.take_reply(caller);
    assert_eq!((refused.request_id.as_str(), refused.code), ("4", 400));
    assert_eq!(refused.reason(), CallReplyReason::ReasonRouterStops);
    world.send(caller, push("/s", ""));
    assert_eq!(world.broker.counters().drops["stopping"], 1);
    assert_eq!(world.take(service), []);
    // Whoever is here still hears of what happens.
    world.broadcast(caller, "news");
    assert_eq!(world.take(caller), [Seen::Broadcasted(0)]);
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

/// Two services with a call each of a caller that takes nothing: the caller, and whose call 1 and 2 is.
fn two_services(world: &mut World) -> (ConnId, ConnId, ConnId) {
    let (service, caller) = pair(world);
    let other = world.peer();
    world.register(other, "/other");
    world.send(caller, call("/s", "1"));
    world.send(caller, call("/other", "2"));
    world.deaf.insert(caller);
    (caller, service, other)
}

fn reply(id: &str, length: usize) -> Frame {
    CallReply { data: data(length), ..partial(id, "") }.to_frame()
}

/// Whether whoever waits for room was told to look again.
fn is_told(room: Pin<&mut impl Future>) -> bool {
    room.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

// Rules LI-2, LI-5: whoever waits first for room has it first, whatever others need. They hear of it when their
// turn comes.
#[test]
fn a_large_reply_is_not_overtaken() {
    let mut world = world();
    let (_, service, other) = two_services(&mut world);
    world.send_frame(other, reply("2", LIMIT / 2));
    let large = world.try_send(service, reply("1", LIMIT * 9 / 10)).unwrap_err();
    let mut room = pin!(large.room.notified());
    room.as_mut().enable();
    let small = world.try_send(other, reply("2", LIMIT / 8)).unwrap_err();
    world.queued.clear();
    assert!(is_told(room.as_mut()), "nobody said so");
    let again = world.try_send(other, small.frame).unwrap_err();
    let mut room_after = pin!(again.room.notified());
    room_after.as_mut().enable();
    world.send_frame(service, large.frame);
    assert!(is_told(room_after.as_mut()), "nobody said so");
    assert!(world.try_send(other, reply("2", LIMIT / 8)).is_err(), "there is no room");
}

// Rules LI-2, LI-5: services that reply to one caller at a time take turns, however fast one of them comes back.
#[test]
fn who_had_room_last_is_not_first_again() {
    let mut world = world();
    let (caller, eager, other) = two_services(&mut world);
    // One fills it up and waits, then the other does; the one has room first, and fills it up again before
    // anybody else comes.
    let be_eager = |world: &mut World| {
        let (_, eager_wait) = fill(world, eager, |_| reply("1", 1000));
        let other_wait = world.try_send(other, reply("2", 1000)).unwrap_err();
        world.queued.clear();
        world.send_frame(eager, eager_wait.frame);
        let (_, eager_wait) = fill(world, eager, |_| reply("1", 1000));
        world.queued.clear();
        (world.try_send(eager, eager_wait.frame).unwrap_err(), other_wait)
    };
    let (eager_wait, other_wait) = be_eager(&mut world);
    let mut room = pin!(eager_wait.room.notified());
    room.as_mut().enable();
    world.send_frame(other, other_wait.frame);
    assert!(is_told(room.as_mut()), "nobody said so");
    world.send_frame(eager, eager_wait.frame);
    // And if the other goes, there is nobody to wait for.
    let (eager_wait, _) = be_eager(&mut world);
    let mut room = pin!(eager_wait.room.notified());
    room.as_mut().enable();
    world.close(other);
    assert!(is_told(room.as_mut()), "nobody said so");
    world.send_frame(eager, eager_wait.frame);
    assert_eq!(world.broker.counters().refusals.get("caller stalled"), None);
    world.take(caller);
}

// Rule LI-2: a large frame hears of the room that it needs, and not only that half is free.
#[test]
fn a_large_frame_goes_on_as_soon_as_it_fits() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    let other = world.peer();
    world.register(other, "/other");
    world.deaf.extend([service, other]);
    let call =
        |address, id, length| CallRequest { data: data(length), ..call(address, id) }.to_frame();
    world.send_frame(caller, call("/other", "1", LIMIT * 3 / 10));
    world.send_frame(caller, call("/s", "2", LIMIT * 6 / 10));
    let mut wait = world.try_send(caller, call("/s", "3", LIMIT * 62 / 100)).unwrap_err();
    for (written, is_enough) in [(LIMIT * 54 / 100, false), (LIMIT, true)] {
        let room = wait.room.clone();
        let mut room = pin!(room.notified());
        room.as_mut().enable();
        wait = world.try_send(caller, wait.frame).unwrap_err();
        world.queued[1].1.written(written);
        assert_eq!(is_told(room.as_mut()), is_enough);
    }
    world.send_frame(caller, wait.frame);
}

// Rules LI-2, LI-5: if whoever waits first goes, or has waited for too long, the next may go on.
#[test]
fn who_waits_first_and_goes_holds_up_nobody() {
    for leaves in [true, false] {
        let mut world = world();
        let (_, service, other) = two_services(&mut world);
        world.send_frame(other, reply("2", LIMIT / 2));
        let large = world.try_send(service, reply("1", LIMIT * 9 / 10)).unwrap_err();
        world.queued.drain(..);
        world.send_frame(service, large.frame);
        let begin = world.now;
        let large = world.try_send(service, reply("1", LIMIT)).unwrap_err();
        world.now += STALL / 2;
        let small = world.try_send(other, reply("2", LIMIT / 8)).unwrap_err();
        let mut room = pin!(small.room.notified());
        room.as_mut().enable();
        if leaves {
            world.close(service);
        } else {
            world.end_calls();
            world.now = begin + STALL;
            world.send_frame(service, large.frame);
        }
        assert!(is_told(room.as_mut()), "nobody said so");
        world.queued.clear();
        world.send_frame(other, small.frame);
    }
}

// Rule LI-5: a reply waits for the stall timeout at most, however the caller reads; for two if more than half of
// the limit has to become free for it.
#[test]
fn a_reply_waits_as_long_as_it_needs() {
    for (length, timeouts) in [(1, 1), (LIMIT / 2 - 200, 1), (LIMIT / 2, 2), (2 * LIMIT, 2)] {
        let mut world = world();
        let (caller, service, other) = two_services(&mut world);
        // The caller has far more to read than it may have queued.
        world.send_frame(other, reply("2", 100 * LIMIT));
        let begin = world.now;
        let mut wait = world.try_send(service, reply("1", length)).unwrap_err();
        loop {
            world.now = wait.until.unwrap().min(world.now + STALL / 2);
            world.queued[0].1.written(LIMIT);
            match world.try_send(service, wait.frame) {
                Ok(()) => break,
                Err(again) => wait = again,
            }
        }
        assert_eq!(world.now - begin, timeouts * STALL, "{length} bytes");
        assert_eq!(world.take_reply_to(caller, "1").code, 500);
        // It reads, and so its other calls go on as soon as there is room.
        world.queued.clear();
        world.send(other, full("2", "the end"));
        assert_eq!(world.take_reply_to(caller, "2").code, 0);
    }
}

// Rules CA-1, LI-5: a reply that waits is to the call that it was sent to. Meanwhile that may end, and another
// get its id, of another caller: for whom it is not, and who is not held up by whoever has sent it.
#[test]
fn a_reply_that_waits_is_to_nobody_elses_call() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    let (other, innocent) = (world.peer(), world.peer());
    world.register(other, "/other");
    world.deaf.extend([service, caller, innocent]);
    for who in [caller, innocent] {
        world.send(who, call("/other", "fills"));
        let id = world.take_call(other).request_id;
        world.send_frame(other, reply(&id, LIMIT));
    }
    // The service replies to what it has not read yet.
    world.send(caller, call("/s", "1"));
    let wait = world.try_send(service, full("1", "").to_frame()).unwrap_err();
    world.time_out(service, false);
    world.send(innocent, call("/s", "1"));
    world.send_frame(service, wait.frame);
    assert_eq!(world.broker.counters().drops["stray reply"], 1);
    world.close(service);
    // Whoever reads gets what there is.
    world.take_queued(innocent);
    world.take(innocent);
    world.send(innocent, call("/other", "2"));
    let id = world.take_call(other).request_id;
    world.send(other, full(&id, "an answer"));
    assert_eq!(world.take_reply(innocent).code, 0);
}

// Rule LI-5: even where others are first each time, a reply does not keep its service waiting for longer than it
// needs.
#[test]
fn a_service_does_not_wait_for_its_turn_for_ever() {
    let mut world = world();
    let (caller, service, other) = two_services(&mut world);
    let third = world.peer();
    world.register(third, "/third");
    world.send(caller, call("/third", "3"));
    let large = |id| reply(id, LIMIT * 9 / 10);
    world.send_frame(other, large("2"));
    let mut next = (third, world.try_send(third, large("3")).unwrap_err());
    let begin = world.now;
    let mut wait = world.try_send(service, reply("1", 1)).unwrap_err();
    for round in 0.. {
        assert!(round < 10, "it waits for ever");
        let others_had_it = wait.until > Some(world.now + STALL / 2);
        world.now = wait.until.unwrap().min(world.now + STALL * 2 / 5);
        if others_had_it {
            world.queued.clear();
            let (first, waited) = next;
            world.send_frame(first, waited.frame);
            let (second, id) = if first == third { (other, "2") } else { (third, "3") };
            next = (second, world.try_send(second, large(id)).unwrap_err());
        }
        match world.try_send(service, wait.frame) {
            Ok(()) => break,
            Err(again) => wait = again,
        }
    }
    assert_eq!(world.now - begin, STALL);
    let ends = world.take(caller);
    assert!(matches!(ends.last(), Some(Seen::Reply(reply)) if reply.code == 500), "{ends:?}");
    assert_eq!(world.broker.usage().open_calls, 2, "the calls of others go on");
}
