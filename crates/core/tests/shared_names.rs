//! Names with several owners: modes, capacity and affinity (rules SV-10 and SV-11).

#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::*;
use gsb_core::{BrokerConfig, ConnId, Limits};
use gsb_proto::Framing;
use gsb_proto::messages::*;

const EXCLUSIVE: i32 = RegisterMode::Exclusive as i32;
const SHARED: i32 = RegisterMode::Shared as i32;
const STANDBY: i32 = RegisterMode::Standby as i32;

fn world() -> World {
    // Peers that have stalled stay.
    let write_timeout = Duration::from_secs(1000);
    World::new(BrokerConfig { write_timeout, ..BrokerConfig::default() })
}

/// Registers `/s`, and returns the code of the reply.
fn register(world: &mut World, owner: ConnId, mode: i32, capacity: u32) -> i32 {
    world.send(owner, RegisterRequest { service_id: "/s".into(), mode, capacity });
    match world.take(owner)[..] {
        [Seen::Registered(code)] => code,
        ref other => panic!("{other:?}"),
    }
}

/// So many owners of `/s`.
fn owners<const COUNT: usize>(world: &mut World, mode: i32, capacity: u32) -> [ConnId; COUNT] {
    [(); COUNT].map(|()| {
        let owner = world.peer();
        assert_eq!(register(world, owner, mode, capacity), 0);
        owner
    })
}

/// The only peer that was sent something, which is a call of this id.
fn served_by(world: &mut World, request_id: &str) -> ConnId {
    match world.seen.drain(..).collect::<Vec<_>>().as_slice() {
        [(to, Seen::Call(call))] if call.request_id == request_id => *to,
        other => panic!("not the call {request_id} but {other:?}"),
    }
}

/// Makes a call and returns the owner that got it.
fn call_to(world: &mut World, caller: ConnId, request_id: &str) -> ConnId {
    world.send(caller, call("/s", request_id));
    served_by(world, request_id)
}

fn push_to(world: &mut World, caller: ConnId) -> ConnId {
    world.send(caller, push("/s/x", "p"));
    served_by(world, "p")
}

/// Makes a call that is refused, and returns the code and the reason.
fn refused(world: &mut World, caller: ConnId, request_id: &str) -> (i32, CallReplyReason) {
    world.send(caller, call("/s", request_id));
    let reply = world.take_reply(caller);
    assert_eq!((reply.request_id.as_str(), reply.reply_type), (request_id, 0));
    assert!(!reply.data.is_empty(), "no sentence");
    (reply.code, reply.reason())
}

const BUSY: (i32, CallReplyReason) = (400, CallReplyReason::ReasonBusy);
const NO_SUCH_SERVICE: (i32, CallReplyReason) = (400, CallReplyReason::ReasonNoSuchService);
const STALLED: (i32, CallReplyReason) = (500, CallReplyReason::ReasonServiceStalled);

fn answer(world: &mut World, service: ConnId, caller: ConnId, request_id: &str) {
    world.send(service, full(request_id, "reply"));
    assert_eq!(world.take_reply(caller), full(request_id, "reply"));
}

// Rules SV-2, SV-10: a name has several owners if all of them say so.
#[test]
fn modes_do_not_mix() {
    for (held, asked, code) in [
        (EXCLUSIVE, EXCLUSIVE, 409),
        (EXCLUSIVE, SHARED, 409),
        (EXCLUSIVE, STANDBY, 409),
        (SHARED, EXCLUSIVE, 409),
        (SHARED, SHARED, 0),
        (SHARED, STANDBY, 409),
        (STANDBY, EXCLUSIVE, 409),
        (STANDBY, SHARED, 409),
        (STANDBY, STANDBY, 0),
    ] {
        for capacity in [0, 7] {
            let mut world = world();
            let (first, second) = (world.peer(), world.peer_of(Framing::Classic, UID));
            assert_eq!(register(&mut world, first, held, capacity), 0);
            assert_eq!(register(&mut world, second, asked, 0), code, "{held}, then {asked}");
            // One connection registers a name once.
            assert_eq!(register(&mut world, first, held, capacity), 409);
            // What is left of a name does not keep others from it.
            assert_eq!(world.unregister(first, "/s"), [Seen::Unregistered(0)]);
            assert_eq!(world.unregister(first, "/s"), [Seen::Unregistered(404)]);
            world.close(second);
            assert_eq!(register(&mut world, first, asked, capacity), 0);
            world.close_all(&[first]);
        }
    }
    let mut world = world();
    let (first, second) = (world.peer(), world.peer());
    for unknown in [3, -1, i32::MAX] {
        assert_eq!(register(&mut world, first, unknown, 0), 400);
    }
    assert_eq!(register(&mut world, first, SHARED, 0), 0);
    register(&mut world, second, STANDBY, 0);
    let expected = [
        "the mode 2147483647 is unknown; a service is registered in mode 0 (EXCLUSIVE), 1 (SHARED) or 2 (STANDBY)",
        "the service id \"/s\" is registered in mode SHARED, not STANDBY; all its owners have to register it in the same \
         mode",
    ];
    assert_eq!(world.sentences[world.sentences.len() - 2..], expected);
}

// Rule SV-10: the fewest open calls, and in turn among equals.
#[test]
fn shared_owners_share_the_calls() {
    let mut world = world();
    let caller = world.peer();
    let [a, b, c] = owners(&mut world, SHARED, 0);
    for (id, owner) in [("1", a), ("2", b), ("3", c), ("4", a), ("5", b), ("6", c)] {
        assert_eq!(call_to(&mut world, caller, id), owner);
    }
    // `b` has the fewest, `c` fewer than `a`.
    for (owner, id) in [(b, "5"), (c, "6"), (b, "2")] {
        answer(&mut world, owner, caller, id);
    }
    for (id, owner) in [("7", b), ("8", c), ("9", b), ("10", a), ("11", c), ("12", b)] {
        assert_eq!(call_to(&mut world, caller, id), owner, "{id}");
    }
    // One call at a time goes round.
    for (owner, id) in [(a, "1"), (a, "4"), (a, "10"), (b, "7"), (b, "9"), (b, "12")] {
        answer(&mut world, owner, caller, id);
    }
    for (owner, id) in [(c, "3"), (c, "8"), (c, "11")] {
        answer(&mut world, owner, caller, id);
    }
    let mut turns = Vec::new();
    for _ in 0..6 {
        let owner = call_to(&mut world, caller, "again");
        answer(&mut world, owner, caller, "again");
        turns.push(owner);
    }
    assert_eq!(turns[..3], turns[3..]);
    assert_eq!(BTreeSet::from_iter(turns).len(), 3);
    world.close_all(&[caller, a, b, c]);
}

// Rule SV-10: pushes go round, whatever else the owners have to do.
#[test]
fn pushes_go_to_the_next_in_turn() {
    let mut world = world();
    let caller = world.peer();
    let [a, b, c] = owners(&mut world, SHARED, 1);
    assert_eq!([(); 4].map(|()| push_to(&mut world, caller)), [a, b, c, a]);
    // No push counts against the capacity, and none needs any.
    for (id, owner) in [("1", b), ("2", c), ("3", a)] {
        assert_eq!(call_to(&mut world, caller, id), owner);
    }
    assert_eq!(refused(&mut world, caller, "4"), BUSY);
    assert_eq!([(); 4].map(|()| push_to(&mut world, caller)), [b, c, a, b]);
    world.close_all(&[a, b, c, caller]);
}

// Rule SV-10: a call counts until its service has ended it, whether or not its caller still waits.
#[test]
fn capacity_limits_the_open_calls() {
    for mode in [EXCLUSIVE, SHARED, STANDBY] {
        let mut world = world();
        let (caller, leaver) = (world.peer_of_level(1), world.peer());
        let [service] = owners(&mut world, mode, 3);
        for id in ["1", "2"] {
            call_to(&mut world, caller, id);
        }
        call_to(&mut world, leaver, "3");
        assert_eq!(refused(&mut world, caller, "4"), BUSY);
        assert_eq!(
            world.sentences.last().unwrap(),
            "the service at \"/s\" has as many open calls as it takes at a time (its capacity); try again later"
        );
        // Cancelled, orphaned, and one that only goes on.
        world.send(caller, cancel("1"));
        world.close(leaver);
        world.seen.clear();
        world.send(service, partial("2", "on"));
        world.take(caller);
        assert_eq!(refused(&mut world, caller, "4"), BUSY);
        world.send(service, full("1", "late"));
        assert_eq!(call_to(&mut world, caller, "4"), service);
        assert_eq!(refused(&mut world, caller, "5"), BUSY);
        world.send(service, full("3", "late"));
        assert_eq!(call_to(&mut world, caller, "5"), service);
        answer(&mut world, service, caller, "2");
        assert_eq!(call_to(&mut world, caller, "6"), service);
        assert_eq!(refused(&mut world, caller, "7"), BUSY);
        assert_eq!(world.broker.counters().refusals["busy"], 4);
        world.close_all(&[service, caller]);
    }
}

// Rules SV-10, CO-8: a call whose id is forgotten counts no more.
#[test]
fn forgotten_calls_do_not_count() {
    let limits = Limits { open_calls: 2, ..Limits::default() };
    let mut world = World::new(BrokerConfig { limits, ..BrokerConfig::default() });
    let caller = world.peer_of_level(1);
    let [service] = owners(&mut world, SHARED, 2);
    for id in ["1", "2"] {
        call_to(&mut world, caller, id);
        world.send(caller, cancel(id));
        world.take(caller);
    }
    assert_eq!(refused(&mut world, caller, "3"), BUSY);
    // A call below another name of the service makes the oldest one the third that is remembered.
    world.register(service, "/t");
    world.send(caller, call("/t", "4"));
    world.take(service);
    world.send(caller, cancel("4"));
    world.take(caller);
    world.send(caller, call("/s", "3"));
    world.take_call(service);
    assert_eq!(refused(&mut world, caller, "5"), BUSY);
    world.close_all(&[service, caller]);
}

// Rule SV-10: calls count against the registration that they came by.
#[test]
fn a_new_registration_has_its_whole_capacity() {
    let mut world = world();
    let caller = world.peer();
    let [service] = owners(&mut world, SHARED, 1);
    call_to(&mut world, caller, "1");
    world.unregister(service, "/s");
    assert_eq!(refused(&mut world, caller, "2"), NO_SUCH_SERVICE);
    assert_eq!(register(&mut world, service, SHARED, 1), 0);
    call_to(&mut world, caller, "2");
    answer(&mut world, service, caller, "1");
    assert_eq!(refused(&mut world, caller, "3"), BUSY);
    answer(&mut world, service, caller, "2");
    call_to(&mut world, caller, "3");
    world.close_all(&[service, caller]);
}

// Rules SV-10, CO-7, SV-4: an owner that goes ends its own calls, and one that unregisters none.
#[test]
fn owners_of_a_shared_name_come_and_go() {
    let mut world = world();
    let caller = world.peer();
    let [a, b, c] = owners(&mut world, SHARED, 2);
    for (id, owner) in [("1", a), ("2", b), ("3", c)] {
        assert_eq!(call_to(&mut world, caller, id), owner);
    }
    world.close(a);
    assert_eq!(world.take(a), [Seen::Closed("hung up")]);
    let lost = world.take_reply(caller);
    assert_eq!(
        (lost.request_id.as_str(), lost.reason()),
        ("1", CallReplyReason::ReasonServiceGone)
    );
    world.unregister(b, "/s");
    assert_eq!(call_to(&mut world, caller, "4"), c);
    assert_eq!(refused(&mut world, caller, "5"), BUSY);
    answer(&mut world, b, caller, "2");
    assert_eq!(refused(&mut world, caller, "5"), BUSY);
    let [d] = owners(&mut world, SHARED, 0);
    assert_eq!(call_to(&mut world, caller, "5"), d);
    world.close(c);
    world.close(d);
    let lost = world.take(caller).into_iter().map(|seen| match seen {
        Seen::Reply(reply) => reply.request_id,
        other => panic!("{other:?}"),
    });
    assert_eq!(lost.collect::<Vec<_>>(), ["3", "4", "5"]);
    world.seen.clear();
    assert_eq!(refused(&mut world, caller, "6"), NO_SUCH_SERVICE);
    world.close_all(&[b, caller]);
}

// Rule SV-10: the owner that came first gets all calls, and the next one takes over at once.
#[test]
fn the_next_standby_owner_takes_over() {
    let mut world = world();
    let caller = world.peer();
    let [a, b, c] = owners(&mut world, STANDBY, 0);
    for id in ["1", "2", "3"] {
        assert_eq!(call_to(&mut world, caller, id), a);
    }
    assert_eq!(push_to(&mut world, caller), a);
    world.unregister(a, "/s");
    assert_eq!(call_to(&mut world, caller, "4"), b);
    answer(&mut world, a, caller, "1");
    // It comes back as the last one.
    assert_eq!(register(&mut world, a, STANDBY, 0), 0);
    assert_eq!(call_to(&mut world, caller, "5"), b);
    world.close(b);
    world.seen.clear();
    assert_eq!(call_to(&mut world, caller, "6"), c);
    assert_eq!(push_to(&mut world, caller), c);
    world.close(c);
    world.seen.clear();
    assert_eq!(call_to(&mut world, caller, "7"), a);
    world.close_all(&[a, caller]);
}

// Rule SV-10: an active owner that is full is not helped out by the next one.
#[test]
fn a_full_standby_owner_is_busy() {
    let mut world = world();
    let caller = world.peer();
    let [a, b] = owners(&mut world, STANDBY, 1);
    assert_eq!(call_to(&mut world, caller, "1"), a);
    assert_eq!(refused(&mut world, caller, "2"), BUSY);
    assert_eq!(push_to(&mut world, caller), a);
    world.close(a);
    world.seen.clear();
    assert_eq!(call_to(&mut world, caller, "2"), b);
    world.close_all(&[b, caller]);
}

// Rule SV-10: owners that are not cleared away yet get no call, and do not keep a name.
#[test]
fn owners_that_are_not_cleared_away_yet() {
    for mode in [SHARED, STANDBY] {
        let mut world = world();
        let caller = world.peer();
        let (rich, heir) = (world.peer(), world.peer());
        assert_eq!(register(&mut world, rich, mode, 0), 0);
        for number in 0..1000 {
            world.register(rich, &format!("/t/{number}"));
        }
        assert_eq!(register(&mut world, heir, mode, 0), 0);
        world.close(rich);
        world.seen.clear();
        assert!(world.sweep(0), "more than is done at once");
        assert_eq!(call_to(&mut world, caller, "1"), heir);
        assert_eq!(push_to(&mut world, caller), heir);
        world.close(heir);
        world.seen.clear();
        assert_eq!(refused(&mut world, caller, "2"), NO_SUCH_SERVICE);
        let [next] = owners(&mut world, EXCLUSIVE, 0);
        while world.sweep(100) {}
        assert_eq!(call_to(&mut world, caller, "3"), next);
        world.close_all(&[next, caller]);
    }
}

// Rule SV-11: calls and pushes with the same text go to the same owner, however many others there are.
#[test]
fn affinity_chooses_the_owner() {
    let mut world = world();
    let caller = world.peer_of(Framing::Classic, UID);
    let [mut a, b, c] = [1, 2, 3].map(|instance| {
        let owner = world.peer();
        world.send(owner, Hello { instance_id: vec![instance].into(), ..Hello::default() });
        assert_eq!(register(&mut world, owner, SHARED, 100), 0);
        owner
    });
    let mut id = 0;
    let mut by_text = |world: &mut World, text: &str, no_reply: bool| {
        id += 1;
        let affinity = text.to_owned();
        let request = CallRequest { affinity, no_reply, ..call("/s", &id.to_string()) };
        world.send(caller, request);
        served_by(world, &id.to_string())
    };
    let texts: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let mut owners_of = |world: &mut World, no_reply: bool| -> BTreeMap<&str, ConnId> {
        texts.iter().map(|text| (text.as_str(), by_text(world, text, no_reply))).collect()
    };
    let before = owners_of(&mut world, false);
    assert_eq!(BTreeSet::from_iter(before.values()).len(), 3, "{before:?}");
    assert_eq!(owners_of(&mut world, true), before);
    world.close(a);
    let of_one = before.values().filter(|owner| **owner == a).count();
    assert_eq!(world.take(caller).len(), of_one, "its calls end");
    world.seen.clear();
    let without = owners_of(&mut world, true);
    for (text, owner) in &before {
        assert_eq!(without[text] == *owner, *owner != a, "{text}");
    }
    // It comes back as another connection, and gets its own calls again.
    let old = std::mem::replace(&mut a, world.peer());
    world.send(a, Hello { instance_id: vec![1].into(), ..Hello::default() });
    assert_eq!(register(&mut world, a, SHARED, 1), 0);
    let after = owners_of(&mut world, true);
    for (text, owner) in before {
        assert_eq!(after[text], if owner == old { a } else { owner }, "{text}");
    }
    // A full owner is busy, whatever others could take.
    let text = *after.iter().find(|(_, owner)| **owner == a).unwrap().0;
    let affinity = CallRequest { affinity: text.into(), ..call("/s", "fits") };
    world.send(caller, affinity.clone());
    assert_eq!(served_by(&mut world, "fits"), a);
    world.send(caller, CallRequest { request_id: "more".into(), ..affinity.clone() });
    let reply = world.take_reply(caller);
    assert_eq!((reply.code, reply.reason()), BUSY);
    world.send(caller, CallRequest { no_reply: true, request_id: "push".into(), ..affinity });
    assert_eq!(served_by(&mut world, "push"), a);
    world.close_all(&[a, b, c, caller]);
}

// Rule SV-11: in the other modes there is no choice.
#[test]
fn affinity_means_nothing_to_a_single_owner() {
    for mode in [EXCLUSIVE, STANDBY] {
        for capacity in [0, 100] {
            let mut world = world();
            let caller = world.peer();
            let [first] = owners(&mut world, mode, capacity);
            let second = world.peer();
            register(&mut world, second, mode, capacity);
            for number in 0..20 {
                let id = number.to_string();
                world.send(caller, CallRequest { affinity: id.clone(), ..call("/s", &id) });
                assert_eq!(served_by(&mut world, &id), first);
            }
        }
    }
}

/// A peer stalls.
fn stall(world: &mut World, service: ConnId) {
    let caller = world.peer();
    let name = format!("/stalled/{service}");
    world.register(service, &name);
    world.deaf.insert(service);
    world.send(caller, CallRequest { data: vec![0; 1 << 20].into(), ..push(&name, "") });
    world.pass(Duration::from_secs(6));
    world.close(caller);
    world.seen.clear();
}

// Rules SV-10, LI-3: calls go round a stalled owner where another one may take them.
#[test]
fn a_stalled_owner_gets_no_calls() {
    let mut world = world();
    let caller = world.peer();
    let [a, b] = owners(&mut world, SHARED, 2);
    stall(&mut world, a);
    for id in ["1", "2"] {
        assert_eq!(call_to(&mut world, caller, id), b);
        assert_eq!(push_to(&mut world, caller), b);
    }
    // The one that could take it is full: try again.
    assert_eq!(refused(&mut world, caller, "3"), BUSY);
    stall(&mut world, b);
    assert_eq!(refused(&mut world, caller, "3"), STALLED);
    world.send(caller, push("/s", "p"));
    assert_eq!(world.take(caller), []);
    assert_eq!(world.broker.counters().drops["service stalled"], 1);
    world.read_all(a);
    assert_eq!(call_to(&mut world, caller, "3"), a);
    world.read_all(b);
    world.close_all(&[a, b, caller]);
}

// Rules SV-10, SV-11, LI-3: where only one owner may take a call, the call ends when that one has stalled.
#[test]
fn calls_for_a_stalled_owner_end() {
    let mut world = world();
    let caller = world.peer();
    let [a, b] = owners(&mut world, STANDBY, 0);
    stall(&mut world, a);
    assert_eq!(refused(&mut world, caller, "1"), STALLED);
    world.close(a);
    world.seen.clear();
    assert_eq!(call_to(&mut world, caller, "1"), b);

    let mut world = self::world();
    let caller = world.peer();
    let [a, _] = owners(&mut world, SHARED, 0);
    let affinity = |text: u32| CallRequest { affinity: text.to_string(), ..call("/s", "1") };
    let mut text = 0;
    loop {
        world.send(caller, CallRequest { no_reply: true, ..affinity(text) });
        if served_by(&mut world, "1") == a {
            break;
        }
        text += 1;
    }
    stall(&mut world, a);
    world.send(caller, affinity(text));
    let reply = world.take_reply(caller);
    assert_eq!((reply.code, reply.reason()), STALLED);
}

// Rules SV-10, CA-15: streams go to those that support them.
#[test]
fn streams_pass_by_owners_of_level_0() {
    let mut world = world();
    let caller = world.peer_of_level(1);
    let [old] = owners(&mut world, SHARED, 0);
    let more = |id: &str| CallRequest { more: true, ..call("/s", id) };
    let unsupported = |world: &mut World, request: CallRequest| {
        world.send(caller, request);
        let reply = world.take_reply(caller);
        assert_eq!((reply.code, reply.reason()), (400, CallReplyReason::ReasonUnsupported));
    };
    unsupported(&mut world, more("1"));
    let new = world.peer_of_level(1);
    assert_eq!(register(&mut world, new, SHARED, 2), 0);
    for id in ["1", "2"] {
        world.send(caller, more(id));
        assert_eq!(served_by(&mut world, id), new);
    }
    world.send(caller, more("3"));
    assert_eq!(world.take_reply(caller).reason(), CallReplyReason::ReasonBusy);
    assert_eq!(call_to(&mut world, caller, "3"), old);
    // An affinity leaves no choice.
    let mut owner_of = |text: String| {
        world.send(caller, CallRequest { affinity: text.clone(), ..push("/s", "p") });
        (served_by(&mut world, "p") == old).then_some(text)
    };
    let affinity = (0..100).find_map(|number| owner_of(number.to_string())).unwrap();
    unsupported(&mut world, CallRequest { affinity, ..more("4") });
}

// To pass by owners takes time, so the router is told how many there were, and ends the turn of the caller sooner.
#[test]
fn the_owners_that_are_looked_at_are_counted() {
    const COUNT: usize = 50;
    let mut world = world();
    let caller = world.peer_of_level(1);
    let owners: [_; COUNT] = owners(&mut world, SHARED, 0);
    let last = world.peer_of_level(1);
    assert_eq!(register(&mut world, last, SHARED, 0), 0);
    let steps = |world: &mut World, request: CallRequest| {
        world.broker.take_steps();
        world.send(caller, request);
        world.seen.clear();
        world.broker.take_steps()
    };
    // To compare eight owners counts as one step, and few of them are looked up.
    for id in ["1", "2"] {
        assert!((COUNT / 8..COUNT / 8 + 4).contains(&steps(&mut world, call("/s", id))));
    }
    let affinity = CallRequest { affinity: "x".into(), ..call("/s", "3") };
    assert!(steps(&mut world, affinity) > COUNT, "each owner has a score");
    let more = CallRequest { more: true, ..call("/s", "4") };
    assert!(steps(&mut world, more) >= COUNT - 2, "most owners do not support streams");
    for owner in owners {
        stall(&mut world, owner);
    }
    for request in [call("/s", "5"), push("/s", "6")] {
        assert!(steps(&mut world, request) > COUNT - 5, "most owners have stalled");
    }
    // A name with a single owner takes none, once its route is known.
    world.register(last, "/t");
    assert_eq!(steps(&mut world, call("/t", "7")), 1);
    assert_eq!(steps(&mut world, call("/t", "8")), 0);
}

// Rule LI-1: each owner of a name holds one service.
#[test]
fn each_registration_counts() {
    let limits = Limits { services: 1, ..Limits::default() };
    let mut world = World::new(BrokerConfig { limits, ..BrokerConfig::default() });
    let [a, b] = owners(&mut world, SHARED, 0);
    assert_eq!(world.broker.usage().services, 2);
    assert_eq!(world.register(a, "/t"), [Seen::Registered(400)]);
    world.unregister(a, "/s");
    assert_eq!(world.register(a, "/t"), [Seen::Registered(0)]);
    assert_eq!(register(&mut world, a, SHARED, 0), 400);
    world.close_all(&[a, b]);
}

// A list of owners that is searched for each of them would take long.
#[test]
fn groups_may_be_large() {
    const COUNT: usize = 1024;
    let mut world = world();
    let caller = world.peer();
    let owners: Vec<ConnId> = (0..COUNT).map(|_| owners::<1>(&mut world, SHARED, 1)[0]).collect();
    for (number, owner) in owners.iter().enumerate() {
        assert_eq!(call_to(&mut world, caller, &number.to_string()), *owner);
    }
    assert_eq!(refused(&mut world, caller, "more"), BUSY);
    let peers: Vec<_> = owners.into_iter().chain([caller]).collect();
    world.close_all(&peers);
}

// Rule SV-10: choosing an owner takes time for each one, so their number is limited.
#[test]
fn a_name_has_at_most_1024_owners() {
    for mode in [SHARED, STANDBY] {
        let mut world = world();
        let first: [_; 1024] = owners(&mut world, mode, 0);
        let late = world.peer();
        assert_eq!(register(&mut world, late, mode, 0), 400);
        world.close(first[0]);
        while world.sweep(100) {}
        assert_eq!(register(&mut world, late, mode, 0), 0);
    }
}
