use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::affinity::Seed;
use crate::connections::{Connections, Identity};

#[derive(Debug, Clone)]
enum Op {
    Connect,
    Close(Index),
    Register(Index, &'static str, RegisterMode, u32),
    Unregister(Index, &'static str),
    Sweep(usize),
}

const NAMES: &[&str] = &["a", "a/b", "c", "d", "e"];

fn op() -> impl Strategy<Value = Op> {
    let mode =
        || select(&[RegisterMode::Exclusive, RegisterMode::Shared, RegisterMode::Standby][..]);
    let (who, name) = (any::<Index>, || select(NAMES));
    prop_oneof![
        2 => Just(Op::Connect),
        1 => who().prop_map(Op::Close),
        12 => (who(), name(), mode(), 0..2u32)
            .prop_map(|(who, name, mode, capacity)| Op::Register(who, name, mode, capacity)),
        3 => (who(), name()).prop_map(|(who, name)| Op::Unregister(who, name)),
        1 => (0..3usize).prop_map(Op::Sweep),
    ]
}

proptest! {
    // Rules SV-2, SV-10, CO-6, however little is cleared away in between.
    #[test]
    fn names_belong_to_those_who_hold_them(ops in prop::collection::vec(op(), 0..120)) {
        let mut connections = Connections::default();
        let mut live: Vec<ConnId> = Vec::new();
        let mut services = Services::new(4);
        let mut held: BTreeMap<&str, (RegisterMode, u32, BTreeSet<ConnId>)> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Connect => live.push(connections.add(Identity::Unknown)),
                Op::Sweep(budget) => drop(services.sweep(budget)),
                _ if live.is_empty() => {}
                Op::Close(who) => {
                    let gone = live.swap_remove(who.index(live.len()));
                    connections.remove(gone);
                    services.remove_connection(gone);
                    for (_, _, owners) in held.values_mut() {
                        owners.remove(&gone);
                    }
                }
                Op::Register(who, name, mode, capacity) => {
                    let owner = *who.get(&live);
                    let terms = Terms { mode, capacity, seed: Seed::of_connection(owner) };
                    let own = held.values().filter(|(_, _, owners)| owners.contains(&owner));
                    let is_full = own.count() == 4;
                    let is_taken = held.get(name).is_some_and(|(held, _, owners)| {
                        owners.contains(&owner)
                            || *held != mode
                            || mode == RegisterMode::Exclusive
                    });
                    let is_live = |id| connections.get(id).is_some();
                    let result = services.register(owner, name, terms, is_live);
                    prop_assert_eq!(result.is_ok(), !is_taken && !is_full, "{:?}", result);
                    if result.is_ok() {
                        let entry = held.entry(name).or_insert((mode, capacity, BTreeSet::new()));
                        entry.2.insert(owner);
                    }
                }
                Op::Unregister(who, name) => {
                    let owner = *who.get(&live);
                    let owners = held.get_mut(name);
                    let is_held = owners.is_some_and(|(_, _, owners)| owners.remove(&owner));
                    prop_assert_eq!(services.unregister(owner, name), is_held);
                }
            }
            held.retain(|_, (_, _, owners)| !owners.is_empty());
            let count: usize = held.values().map(|(_, _, owners)| owners.len()).sum();
            prop_assert_eq!(services.len(), count);
            for name in NAMES {
                let found = services.find(name, |id| connections.get(id).is_some());
                let holder = ["a", name].into_iter().rev().find(|held_name| {
                    held.contains_key(held_name) && name.starts_with(held_name)
                });
                match (holder.map(|name| &held[name]), found) {
                    (None, None) => {}
                    (Some((RegisterMode::Exclusive, 0, owners)), Some(Route::Owner(owner))) => {
                        prop_assert!(owners.contains(&owner));
                    }
                    (Some((mode, _, owners)), Some(Route::Group(key))) => {
                        prop_assert_eq!(services.groups.mode(key), Some(*mode));
                        prop_assert!(owners.iter().all(|&owner| services.groups.contains(key, owner)));
                    }
                    (expected, found) => prop_assert!(false, "{:?} is {:?}", expected, found),
                }
            }
        }
        for peer in live {
            connections.remove(peer);
            services.remove_connection(peer);
        }
        services.sweep(usize::MAX);
        let left = (services.len(), services.names.len(), services.groups.len());
        prop_assert_eq!(left, (0, 0, 0));
    }
}
