//! Limits that change while connections are open (rules LI-1 and LI-2).

#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::*;
use gsb_core::{BrokerConfig, Limits};
use gsb_proto::messages::{CallRequest, Message as _};

const LOW: Limits = Limits { services: 1, subscriptions: 1, open_calls: 1, queued_bytes: 300 };

#[test]
fn higher_limits_hold_at_once_and_lower_ones_take_nothing_away() {
    let config = BrokerConfig { limits: LOW, ..BrokerConfig::default() };
    let mut world = World::new(config);
    let (service, caller) = (world.peer(), world.peer());
    for (limits, codes) in [(LOW, [0, 400]), (Limits::default(), [0, 0]), (LOW, [400, 400])] {
        world.broker.set_limits(limits, usize::MAX);
        let names = ["/a", "/b", "/c", "/d"];
        // Those that are left.
        let begin = world.broker.usage().services;
        for (name, code) in names[begin..].iter().zip(codes) {
            assert_eq!(world.register(service, name), [Seen::Registered(code)], "{name}");
            assert_eq!(world.subscribe(caller, name), [Seen::Subscribed(code)], "{name}");
            world.send(caller, call("/a", name));
            let is_open = world.take(service).len() == 1;
            assert_eq!(is_open, code == 0, "{name}");
            assert_eq!(world.take(caller).is_empty(), is_open, "{name}");
        }
    }
    let usage = world.broker.usage();
    assert_eq!((usage.services, usage.subscriptions, usage.open_calls), (3, 3, 3));
}

// Rule LI-2: a connection that waits for room gets it when others free it, at the new limit.
#[test]
fn a_lower_queue_limit_pauses_and_a_higher_one_admits() {
    let config = BrokerConfig { limits: LOW, ..BrokerConfig::default() };
    let mut world = World::new(config);
    let (service, caller) = (world.peer(), world.peer());
    world.broker.set_limits(Limits { open_calls: 10, ..LOW }, usize::MAX);
    world.register(service, "/a");
    world.deaf.insert(service);
    let large = |id: &str| CallRequest { data: vec![7; 200].into(), ..call("/a", id) };
    world.send(caller, large("1"));
    assert!(world.try_send(caller, large("2").to_frame()).is_err(), "the limit is 300 bytes");
    world.broker.set_limits(Limits { open_calls: 10, ..Limits::default() }, usize::MAX);
    assert!(world.try_send(caller, large("2").to_frame()).is_ok(), "it is received again");
    assert!(world.try_send(caller, large("3").to_frame()).is_ok());
}
