//! A connection with many names or calls ends at once for all other connections, and is cleared away in small steps.

#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Seen, World, call, full, partial};
use gsb_core::{BrokerConfig, ConnId, Usage};

/// More than the broker clears away in one step.
const MANY: usize = 5000;

fn world() -> World {
    World::new(BrokerConfig::default())
}

fn replies(world: &mut World, to: ConnId) -> Vec<(String, i32)> {
    let reply = |seen| match seen {
        Seen::Reply(reply) => (reply.request_id, reply.code),
        other => panic!("{other:?}"),
    };
    world.take(to).into_iter().map(reply).collect()
}

// Rule CO-6: names that are not removed yet are not found, and may be registered again.
#[test]
fn names_are_free_at_once() {
    let mut world = world();
    let (rich, other, caller) = (world.peer(), world.peer(), world.peer());
    world.register(other, "/s");
    for number in 0..MANY {
        assert_eq!(world.register(rich, &format!("/s/{number}")), [Seen::Registered(0)]);
    }
    world.close(rich);
    assert_eq!(world.broker.usage().services, 1);
    // A new connection in the same slot does not own them, and the shorter name gets their calls now.
    let heir = world.peer();
    assert_eq!(heir.slot(), rich.slot());
    for number in 0..MANY {
        world.send(caller, call(&format!("/s/{number}/x"), &number.to_string()));
    }
    assert_eq!(world.take(other).len(), MANY);
    // Some are registered again before they are removed, and stay.
    for number in (0..MANY).step_by(10) {
        assert_eq!(world.register(heir, &format!("/s/{number}")), [Seen::Registered(0)]);
    }
    while world.sweep(100) {}
    for number in 0..MANY {
        world.send(caller, call(&format!("/s/{number}"), &format!("again {number}")));
    }
    assert_eq!(world.take(heir).len(), MANY / 10);
    assert_eq!(world.take(other).len(), MANY - MANY / 10);
    world.close_all(&[heir, other, caller]);
}

// Rules CO-7, CA-7: each call to a service that has ended ends once, whichever connections open and close meanwhile.
#[test]
fn calls_to_a_service_that_has_ended_end_once() {
    let mut world = world();
    let (service, caller, leaver) = (world.peer(), world.peer(), world.peer());
    world.register(service, "/s");
    for number in 0..MANY {
        let who = if number % 3 == 0 { leaver } else { caller };
        world.send(who, call("/s", &number.to_string()));
    }
    world.take(service);
    world.close(service);
    assert!(world.sweep(0), "more than is done at once");
    let mut ended = replies(&mut world, caller);
    replies(&mut world, leaver);
    // New connections have the slots of the service and of a caller, and use the same ids.
    let next_service = world.peer();
    assert_eq!(next_service.slot(), service.slot());
    world.register(next_service, "/s");
    world.close(leaver);
    let next_caller = world.peer();
    assert_eq!(next_caller.slot(), leaver.slot());
    for number in 0..100 {
        world.send(next_caller, call("/s", &(MANY - 1 - number).to_string()));
    }
    while world.sweep(7) {}
    assert_eq!(replies(&mut world, next_caller), []);
    ended.extend(replies(&mut world, caller));
    assert!(ended.iter().all(|(_, code)| *code == 500));
    let ids: BTreeSet<_> = ended.iter().map(|(id, _)| id.clone()).collect();
    let count = (0..MANY).filter(|number| number % 3 != 0).count();
    assert_eq!((ended.len(), ids.len()), (count, count));
    assert_eq!(world.broker.usage().open_calls, 100);
    for seen in world.take(next_service) {
        let Seen::Call(call) = seen else { panic!("{seen:?}") };
        world.send(next_service, full(&call.request_id, ""));
    }
    assert_eq!(replies(&mut world, next_caller).len(), 100);
    assert_eq!(world.broker.usage().orphaned_calls, 0);
    world.close_all(&[next_service, next_caller, caller]);
}

// Rule CO-8: replies to calls of a connection that has ended are dropped, also if a new connection has its slot.
#[test]
fn late_replies_are_dropped() {
    let mut world = world();
    let (service, caller) = (world.peer(), world.peer());
    world.register(service, "/s");
    for number in 0..MANY {
        world.send(caller, call("/s", &number.to_string()));
    }
    world.take(service);
    world.close(caller);
    let next = world.peer();
    assert_eq!(next.slot(), caller.slot());
    let mut given = Vec::new();
    for number in 0..MANY {
        world.send(next, call("/s", &number.to_string()));
        given.push(world.take_call(service).request_id);
        // A reply to the old call, which is removed or not yet.
        world.send(service, partial(&number.to_string(), "late"));
        world.send(service, full(&number.to_string(), "late"));
        if number % 2 == 0 {
            world.sweep(1);
        }
    }
    assert_eq!(replies(&mut world, next), []);
    while world.sweep(100) {}
    for id in given {
        world.send(service, full(&id, "right"));
    }
    assert_eq!(replies(&mut world, next).len(), MANY);
    world.close_all(&[service, next]);
}

// A connection that has called itself: both ends of its calls end with it.
#[test]
fn calls_to_oneself_leave_nothing() {
    let mut world = world();
    let hermit = world.peer();
    world.register(hermit, "/s");
    for number in 0..MANY {
        world.send(hermit, call("/s", &number.to_string()));
    }
    world.take(hermit);
    world.close(hermit);
    while world.sweep(100) {}
    assert_eq!(world.take(hermit), [Seen::Closed("hung up")]);
    assert_eq!(world.broker.usage(), Usage::default());
}

// Rule CO-9: the time comes to look at many connections that are not silent. A tick looks at some of them.
#[test]
fn many_that_were_heard_are_looked_at_bit_by_bit() {
    const COUNT: usize = 1000;
    let mut world = world();
    let peers: Vec<ConnId> = (0..COUNT).map(|_| world.peer()).collect();
    world.now += Duration::from_secs(30);
    for &peer in &peers {
        world.heard(peer);
    }
    world.now += Duration::from_secs(30);
    let mut ticks = 0;
    while world.broker.next_deadline().is_some_and(|deadline| deadline <= world.now) {
        world.broker.tick(world.now, &mut world.effects);
        ticks += 1;
    }
    assert!((COUNT / 100..COUNT).contains(&ticks), "{ticks} ticks");
    assert!(world.effects.is_empty(), "none is silent");
    world.close_all(&peers);
}

// Rules CO-9, CO-7: when many connections are silent at the same time, they are closed in small steps, and so are the
// names and calls of each.
#[test]
fn many_that_end_together_end_bit_by_bit() {
    let mut world = world();
    let (peers, names) = (1000, 50);
    for peer in 0..peers {
        let silent = world.peer();
        for name in 0..names {
            assert_eq!(world.register(silent, &format!("/{peer}/{name}")), [Seen::Registered(0)]);
        }
    }
    world.now += Duration::from_secs(120);
    let mut ticks = 0;
    while world.broker.next_deadline().is_some_and(|deadline| deadline <= world.now) {
        let before = world.broker.usage().connections;
        world.broker.tick(world.now, &mut world.effects);
        assert!(before - world.broker.usage().connections <= 100);
        ticks += 1;
    }
    assert!(ticks >= peers / 100, "{ticks} ticks");
    let mut sweeps = 0;
    while world.broker.sweep(256, &mut world.effects) {
        sweeps += 1;
    }
    assert!(sweeps * 256 >= peers * names / 2, "too much was done when they ended");
    assert_eq!(world.broker.usage(), Usage::default());
}
