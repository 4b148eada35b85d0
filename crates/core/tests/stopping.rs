//! A router that stops (rules CO-17 and CO-20).

#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::*;
use gsb_core::{BrokerConfig, ConnId, Effect, Usage};
use gsb_proto::Framing;
use gsb_proto::messages::*;

fn world() -> World {
    World::new(BrokerConfig::default())
}

fn check_refused(world: &mut World, caller: ConnId, address: &str) {
    world.send(caller, call(address, "refused"));
    let reply = world.take_reply(caller);
    assert_eq!((reply.code, reply.reason()), (400, CallReplyReason::ReasonRouterStops));
    let drops = world.broker.counters().drops.get("stopping").copied().unwrap_or_default();
    world.send(caller, push(address, ""));
    assert_eq!(world.broker.counters().drops["stopping"], drops + 1);
}

// Rules CO-20, CO-18: a peer whose first frame was a Hello of level 1 is told, once, whenever that frame comes.
#[test]
fn peers_are_told_that_the_router_stops() {
    let mut world = world();
    let told = world.peer_of_level(1);
    let level_0 = world.peer_of_level(0);
    let no_hello = world.peer();
    let classic = world.peer_of(Framing::Classic, UID);
    let begun = world.peer();
    world.send(begun, Ping {});
    world.send(begun, Hello { level: 1, ..Hello::default() });
    assert_eq!(world.take(begun), [Seen::Pong]);
    let unknown = world.connect(UID);
    world.begin_to_stop();
    world.begin_to_stop();
    let go_away = GoAway {
        reason: "the router is shutting down and accepts no more calls; try again when it is back"
            .into(),
        retry_after_ms: 1000,
        last: false,
    };
    assert_eq!(world.take(told), [Seen::GoAway(go_away.clone())]);
    for peer in [level_0, no_hello, classic, begun, unknown] {
        assert_eq!(world.take(peer), []);
    }
    for (level, seen) in [(0, vec![]), (7, vec![Seen::GoAway(go_away)])] {
        let late = world.connect(UID);
        world.framing_known(late, Framing::Packet);
        world.take(late);
        world.send(late, Hello { level, ..Hello::default() });
        assert_eq!(world.take(late), seen);
    }
}

// Rule CO-20: to tell many peers takes long, so it is done in steps. Each peer is told once, also if it comes meanwhile.
#[test]
fn many_peers_are_told_in_small_steps() {
    const COUNT: usize = 1000;
    let mut world = world();
    let mut peers: Vec<ConnId> = (0..COUNT).map(|_| world.peer_of_level(1)).collect();
    let caller = world.peer();
    for step in 0.. {
        let is_left = world.broker.begin_to_stop(10, &mut world.effects);
        assert!(world.effects.len() <= 10, "{} in one step", world.effects.len());
        check_refused(&mut world, caller, "/s");
        if !is_left {
            assert!((COUNT / 10..COUNT).contains(&step), "{step} steps");
            break;
        }
        // Others come into slots whose peers were told, and into slots whose peers were not.
        for at in [step, COUNT - 1 - step] {
            world.close(peers[at]);
            peers[at] = world.peer_of_level(1);
        }
    }
    peers.push(world.peer_of_level(1));
    for peer in peers {
        let seen = world.take(peer);
        assert!(matches!(seen[..], [Seen::GoAway(_)]), "{seen:?}");
    }
}

// Rule CO-17: to end many calls takes long, so it is done in steps. No call is opened behind them.
#[test]
fn many_calls_end_in_small_steps() {
    const COUNT: usize = 1000;
    let mut world = world();
    let (caller, service) = (world.peer(), world.peer());
    world.register(service, "/s");
    for number in 0..COUNT {
        world.send(caller, call("/s", &number.to_string()));
    }
    world.begin_to_stop();
    world.send(service, call("/s", "a handler may call"));
    world.seen.clear();
    let mut steps = 0;
    while world.broker.end_calls(10, &mut world.effects) {
        let sent = world.effects.iter().filter(|effect| matches!(effect, Effect::Send { .. }));
        assert!(sent.count() <= 10, "more than 10 calls");
        world.sweep(0);
        world.take(service);
        check_refused(&mut world, service, "/s");
        steps += 1;
    }
    assert!(steps >= COUNT / 10, "{steps} steps");
    assert_eq!(world.broker.usage().open_calls, 0);
    let replies = world.take(caller).into_iter().map(|seen| match seen {
        Seen::Reply(reply) if reply.code == 500 => reply.request_id,
        other => panic!("{other:?}"),
    });
    assert_eq!(replies.collect::<BTreeSet<_>>().len(), COUNT);
    world.close_all(&[caller, service]);
}

// Rule CO-17: a handler may have to call others before it can answer.
#[test]
fn connections_with_calls_to_answer_may_call() {
    let mut world = world();
    let (caller, front, back, idle) = (world.peer(), world.peer(), world.peer(), world.peer());
    world.register(front, "/front");
    world.register(back, "/back");
    world.register(idle, "/idle");
    world.send(caller, call("/front", "1"));
    world.take_call(front);
    world.begin_to_stop();
    for peer in [caller, back, idle] {
        check_refused(&mut world, peer, "/back");
    }
    world.send(front, push("/back", "push"));
    world.take_call(back);
    check_refused(&mut world, back, "/idle");
    world.send(front, call("/back", "2"));
    world.take_call(back);
    world.send(back, call("/idle", "3"));
    world.take_call(idle);
    for (service, id, caller) in [(idle, "3", back), (back, "2", front), (front, "1", caller)] {
        world.send(service, full(id, ""));
        assert_eq!(world.take_reply(caller), full(id, ""));
        check_refused(&mut world, service, "/back");
    }
    for peer in [caller, front, back, idle] {
        world.close(peer);
    }
    assert_eq!(world.broker.usage(), Usage::default());
}

// Rule CO-20: the last message says that all that was handled is answered, and nothing more is handled.
#[test]
fn peers_are_told_that_nothing_more_is_handled() {
    let mut world = world();
    let (told, level_0) = (world.peer_of_level(1), world.peer_of_level(0));
    world.register(level_0, "/gsb");
    world.begin_to_stop();
    world.take(told);
    world.send(told, call("/gsb", "1"));
    world.take_call(level_0);
    world.finish_stopping();
    world.finish_stopping();
    let [Seen::Reply(ended), Seen::GoAway(last)] = &world.take(told)[..] else {
        panic!("not two messages");
    };
    assert_eq!((ended.code, ended.reason()), (500, CallReplyReason::ReasonRouterStops));
    assert!(last.last && !last.reason.is_empty());
    assert_eq!(world.take(level_0), []);
    check_refused(&mut world, told, "/gsb");
    let late = world.peer_of_level(1);
    let [Seen::GoAway(last)] = &world.take(late)[..] else { panic!("not one message") };
    assert!(last.last);
}

// Rule CO-17: the router does not wait for a call whose caller is gone.
#[test]
fn an_orphaned_call_is_no_call_to_answer() {
    let mut world = world();
    let (caller, service) = (world.peer_of_level(1), world.peer());
    world.register(service, "/s");
    world.send(caller, call("/s", "1"));
    world.take_call(service);
    world.send(caller, cancel("1"));
    world.begin_to_stop();
    check_refused(&mut world, service, "/s");
}

// Rule CO-17: an operator may ask a router that stops how far it is.
#[test]
fn the_routers_own_service_may_be_called() {
    let mut world = world();
    let (caller, service) = (world.peer(), world.peer());
    for name in ["/gsb", "/gsb/admin", "/gsbx", "/", "gsb"] {
        world.register(service, name);
    }
    world.begin_to_stop();
    for address in ["/gsb", "/gsb/admin", "/gsb/admin/x", "/gsb/"] {
        world.send(caller, push(address, ""));
        assert_eq!(world.take_call(service).address, address);
        world.send(caller, call(address, "1"));
        world.take_call(service);
        world.send(service, full("1", ""));
        world.take_reply(caller);
    }
    for address in ["/gsbx", "gsb/x", "gsb"] {
        check_refused(&mut world, caller, address);
    }
}
