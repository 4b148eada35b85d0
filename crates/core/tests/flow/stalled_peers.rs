//! Peers that read too little: stalled and dead ones (rules LI-3 and LI-4).

use super::*;

// Rule LI-3: a service that reads nothing stalls. The calls in its outbox end, and no connection pays for them. They may
// still reach the service. New calls are refused, and pushes dropped, until it has read.
#[test]
fn a_service_that_reads_nothing_stalls() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.send(caller, call("/s", "taken"));
    world.take_call(service);
    world.deaf.insert(service);
    let (sent, waits) = fill(&mut world, caller, large_call);
    world.pass(STALL - STALL / 16);
    assert_eq!(world.take(caller), []);
    world.pass(STALL / 16);
    let ends = world.take(caller);
    assert_eq!(ends.len(), sent);
    for seen in ends {
        let Seen::Reply(reply) = seen else { panic!("{seen:?}") };
        assert_eq!((reply.code, reply.reply_type), (500, 0));
        assert_eq!(reply.reason(), CallReplyReason::ReasonServiceStalled);
        assert!(String::from_utf8_lossy(&reply.data).contains("--stall-timeout"));
    }
    assert!(world.reports.contains(&(service, "service stalled")));
    // Its caller goes on.
    assert!(world.is_woken(caller));
    world.send_frame(caller, waits);
    let refused = world.take_reply(caller);
    assert_eq!((refused.code, refused.reason()), (500, CallReplyReason::ReasonServiceStalled));
    world.send_frame(caller, large_push(0));
    assert_eq!(world.broker.counters().drops["service stalled"], 1);
    // The calls that it has read go on, and those in its outbox may reach it.
    assert_eq!((world.broker.usage().open_calls, world.broker.usage().orphaned_calls), (1, sent));
    world.send(service, full("taken", "reply"));
    assert_eq!(world.take_reply(caller).code, 0);
    assert_eq!(world.take(service).len(), sent);
    world.send(service, full("0", "late"));
    assert_eq!(world.take(caller), []);
    // It is stalled until its outbox has drained to half of the limit.
    world.now += STALL / 16;
    world.read(service, world.queued_for(service) - LIMIT / 2 - 1);
    world.look(service);
    world.send_frame(caller, large_call(0));
    assert_eq!(world.take_reply(caller).code, 500);
    world.read(service, 1);
    world.look(service);
    world.send(caller, call("/s", "new"));
    assert_eq!(world.take_call(service).request_id, "new");
}

// Rule LI-3: a service with little in its outbox stalls as well, until it has read it.
#[test]
fn a_service_with_a_short_outbox_is_stalled_until_it_has_read() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    world.send(caller, call("/s", "1"));
    world.send(caller, push("/s", ""));
    world.pass(STALL);
    assert_eq!(world.take_reply(caller).code, 500);
    world.take(service);
    world.pass(STALL / 2);
    world.send(caller, call("/s", "2"));
    assert_eq!(world.take_reply(caller).code, 500);
    // Rule CO-8: the id of a call that may still reach the service is not given to another call.
    world.read_all(service);
    world.send(caller, call("/s", "1"));
    assert_ne!(world.take_call(service).request_id, "1");
}

// Rules LI-3, CA-7: calls of a connection that is gone end with the stall of their service, too.
#[test]
fn calls_of_a_closed_caller_end_with_the_stall() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    let (sent, _) = fill(&mut world, caller, large_call);
    world.close(caller);
    while world.sweep(1000) {}
    assert_eq!(world.broker.usage().orphaned_calls, sent);
    world.pass(STALL);
    assert_eq!(world.broker.usage().orphaned_calls, sent, "they may reach the service");
    world.close(service);
    while world.sweep(1000) {}
    assert_eq!(world.broker.usage(), Default::default());
}

// Rule LI-3: a caller that reads nothing stalls. Services that wait for it go on, and its calls end as replies come.
#[test]
fn a_caller_that_reads_nothing_stalls() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    let other = world.peer();
    world.register(other, "/other");
    let (caller, waits) = stream(&mut world, service);
    world.send(caller, call("/other", "2"));
    world.take_call(other);
    world.subscribe(caller, "news");
    world.take(caller);
    world.pass(STALL - STALL / 16);
    assert!(!world.is_woken(service));
    world.pass(STALL / 16);
    assert!(world.is_woken(service));
    world.send_frame(service, waits);
    let end = world.take_reply(caller);
    assert_eq!((end.code, end.reply_type), (500, 0));
    assert_eq!(end.reason(), CallReplyReason::ReasonCallerStalled);
    assert!(String::from_utf8_lossy(&end.data).contains("--stall-timeout"));
    assert!(world.reports.contains(&(caller, "caller stalled")));
    // Other services are not paused, either.
    world.send(other, full("2", ""));
    assert_eq!(world.take_reply(caller).reason(), CallReplyReason::ReasonCallerStalled);
    world.broadcast(other, "news");
    assert_eq!(world.take(caller), []);
    assert_eq!(world.broker.counters().pauses["replies"], 1);
    // The id is in use at the service until its last reply, which is dropped.
    assert_eq!(world.broker.usage().orphaned_calls, 1);
    world.send(service, full(&format!("of {caller}"), "the end"));
    assert_eq!(world.broker.usage().orphaned_calls, 0);
    assert_eq!(world.take(caller), []);
    // Its calls are answered again when it has read.
    world.read_all(caller);
    world.send(caller, call("/s", "1"));
    world.take_call(service);
    world.send(service, full("1", ""));
    assert_eq!(world.take_reply(caller).code, 0);
}

// Rule LI-3: a peer that blocks no other connection must read 64 KiB in each stall timeout, or all that was queued.
#[test]
fn a_slow_peer_that_blocks_no_other_does_not_stall() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.deaf.insert(service);
    for id in 0..50 {
        world.send_frame(caller, large_call(id));
    }
    for _ in 0..5 {
        world.pass(STALL - STALL / 16);
        world.read(service, LEAST);
    }
    assert_eq!(stalled(&world, "service stalled"), 0);
    world.pass(STALL - STALL / 16);
    world.read(service, LEAST - 1);
    world.pass(STALL / 8);
    assert!(stalled(&world, "service stalled") > 0);
}

// Rule LI-3: a peer that blocks another connection, with calls or with replies, must read an eighth of the limit in
// each stall timeout.
#[test]
fn a_slow_peer_that_blocks_another_reads_its_share() {
    for share in [SHARE, SHARE - 1] {
        let is_enough = share == SHARE;
        let mut world = world();
        let (service, caller) = pair(&mut world);
        world.deaf.insert(service);
        fill(&mut world, caller, large_push);
        let streaming = world.peer();
        world.register(streaming, "/streaming");
        let slow = world.peer();
        world.deaf.insert(slow);
        world.send(slow, call("/streaming", "1"));
        world.take_call(streaming);
        fill(&mut world, streaming, |_| reply("1", SIZE));
        for _ in 0..3 {
            world.pass(STALL - STALL / 8);
            for peer in [service, slow] {
                world.read(peer, share);
            }
        }
        world.pass(STALL / 4);
        for (peer, other) in [(service, caller), (slow, streaming)] {
            assert_eq!(world.is_woken(other), !is_enough, "{peer} has read {share} at a time");
        }
    }
}

// Rule LI-3: the first peer that stalls may keep a connection unread for the stall timeout; each further one within a
// minute stalls as soon as it is seen to read too little.
#[test]
fn stalls_do_not_add_up() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    for _ in 0..2 {
        let begin = world.now;
        for _ in 0..20 {
            let (_, waits) = stream(&mut world, service);
            go_on(&mut world, service, waits, STALL);
            assert!(world.now - begin >= STALL, "the first costs the whole timeout");
        }
        let waited = world.now - begin;
        assert!(waited <= STALL + 20 * STALL / 16, "{waited:?}");
        // A minute later it may happen again.
        world.pass(Duration::from_secs(60));
    }
}

// Rule LI-3: peers that disconnect just before they would stall count, too.
#[test]
fn peers_that_leave_in_time_do_not_add_up() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    let begin = world.now;
    for number in 0..20 {
        let (caller, waits) = stream(&mut world, service);
        let time = if number == 0 { STALL - STALL / 16 } else { STALL };
        let waits = go_on(&mut world, service, waits, time);
        world.close(caller);
        waits.into_iter().for_each(|waits| world.send_frame(service, waits));
    }
    let waited = world.now - begin;
    assert!(waited <= STALL + 2 * 20 * STALL / 16, "{waited:?}");
}

// Rule LI-3: what a connection waits for several peers at the same time counts once, so a minute later it waits again.
#[test]
fn peers_that_leave_together_do_not_add_up() {
    let mut world = world();
    let caller = world.peer();
    let services: Vec<_> = (0..6).map(|_| world.peer()).collect();
    for (number, &service) in services.iter().enumerate() {
        world.register(service, &format!("/{number}"));
        world.deaf.insert(service);
    }
    let to = |number: usize, id: usize| {
        let call = call(&format!("/{number}"), &id.to_string());
        CallRequest { data: data(SIZE), ..call }.to_frame()
    };
    let (_, waits) = fill(&mut world, caller, |id| to(id % services.len(), id));
    world.pass(STALL * 4 / 5);
    assert_eq!(stalled(&world, "service stalled"), 0);
    services.iter().for_each(|&service| world.close(service));
    world.send_frame(caller, waits);
    world.now += Duration::from_secs(61);
    let last = world.peer();
    world.register(last, "/7");
    world.deaf.insert(last);
    fill(&mut world, caller, |id| to(7, 1000 + id));
    world.pass(STALL / 2);
    assert_eq!(stalled(&world, "service stalled"), 0);
}

// Rule LI-3: connections wait for a peer that reads its share, however many peers stalled before.
#[test]
fn a_peer_that_reads_its_share_does_not_pay_for_those_that_stalled() {
    let mut world = world();
    let service = world.peer();
    world.register(service, "/s");
    for _ in 0..3 {
        let (_, waits) = stream(&mut world, service);
        world.pass(STALL);
        world.send_frame(service, waits);
    }
    let before = stalled(&world, "caller stalled");
    let (caller, waits) = stream(&mut world, service);
    // It is enough that it reads the same part of its share in each part of the time.
    world.look(caller);
    world.is_woken(service);
    for _ in 0..2 * 16 {
        world.now += STALL / 16;
        world.read(caller, SHARE / 16 + 1);
        assert!(!world.look(caller));
    }
    assert!(!world.is_woken(service));
    world.read(caller, LIMIT / 2);
    assert!(world.is_woken(service));
    world.send_frame(service, waits);
    assert_eq!(stalled(&world, "caller stalled"), before);
}

// Rule LI-4: a peer that reads less than 64 KiB within the write timeout is closed, stalled or not, and its callers are
// told as of any connection that goes.
#[test]
fn a_peer_that_reads_too_little_for_the_write_timeout_is_closed() {
    let mut world = world();
    let (service, caller) = pair(&mut world);
    world.send(caller, call("/s", "taken"));
    world.take_call(service);
    world.deaf.insert(service);
    for id in 0..50 {
        world.send_frame(caller, large_call(id));
    }
    world.pass(WRITE - STALL / 16);
    world.read(service, LEAST);
    world.pass(WRITE - STALL / 16);
    world.take(caller);
    world.read(service, LEAST - 1);
    world.pass(STALL / 8);
    while world.sweep(1000) {}
    assert_eq!(world.broker.counters().closes["not reading"], 1);
    let end = world.take_reply(caller);
    assert_eq!(end.reason(), CallReplyReason::ReasonServiceGone);
    assert_eq!(world.broker.usage().connections, 1);
}
