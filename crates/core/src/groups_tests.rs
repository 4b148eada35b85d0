use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::connections::{Connections, Identity};

const TEXTS: usize = 500;

/// A SHARED group with an owner for each of these instance ids.
fn group(connections: &mut Connections, instances: &BTreeSet<u32>) -> (Groups, GroupKey) {
    let mut groups = Groups::default();
    let mut key = None;
    for instance in instances {
        let owner = connections.add(Identity::Unknown);
        let seed = Seed::of_instance(&instance.to_be_bytes());
        let terms = Terms { mode: RegisterMode::Shared, capacity: 0, seed };
        match key {
            None => key = Some(groups.create(owner, 0, terms)),
            Some(key) => groups.join(key, owner, 0, terms),
        }
    }
    (groups, key.unwrap())
}

/// Which instance gets the calls with each of many texts.
fn owners(instances: &BTreeSet<u32>) -> BTreeMap<usize, u32> {
    let mut connections = Connections::default();
    // Connections of other peers; those of the owners have other ids each time.
    for _ in 0..instances.len() {
        connections.add(Identity::Unknown);
    }
    let (mut groups, key) = group(&mut connections, instances);
    let members = groups.get(key).unwrap().members.iter();
    let seeds: BTreeMap<_, _> = members.map(|member| (member.owner, member.seed)).collect();
    let by_seed = |instance: &u32| (Seed::of_instance(&instance.to_be_bytes()), *instance);
    let by_seed: BTreeMap<_, _> = instances.iter().map(by_seed).collect();
    let mut owner = |text: usize| {
        let ready = |_| Condition::Ready;
        let owner = groups.choose(key, CallKind::Call, &format!("text {text}"), ready).unwrap();
        (text, by_seed[&seeds[&owner]])
    };
    (0..TEXTS).map(&mut owner).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    // Rule SV-11.
    #[test]
    fn only_the_texts_of_an_owner_that_leaves_move(
        instances in prop::collection::btree_set(any::<u32>(), 2..20),
        leaver in any::<Index>(),
    ) {
        let before = owners(&instances);
        prop_assert_eq!(&owners(&instances), &before, "all have connected again");
        let leaver = *leaver.get(&instances.iter().copied().collect::<Vec<_>>());
        let mut rest = instances.clone();
        rest.remove(&leaver);
        let after = owners(&rest);
        for (text, owner) in &before {
            let stays = *owner != leaver;
            prop_assert_eq!(after[text] == *owner, stays, "text {} of {}", text, owner);
        }
        // Each has its share, so that those of the leaver go to all others.
        let share = TEXTS / instances.len();
        for instance in &instances {
            let count = before.values().filter(|owner| *owner == instance).count();
            prop_assert!((share / 4..=share * 3).contains(&count), "{} of {}", count, TEXTS);
        }
    }
}

// Rule SV-11: peers without an instance id have seeds of their own, which no instance id has.
#[test]
fn peers_without_an_instance_id_share_the_texts() {
    let mut connections = Connections::default();
    let mut seeds = BTreeSet::new();
    for _ in 0..100 {
        let peer = connections.add(Identity::Unknown);
        let seed = Seed::of_connection(peer);
        assert_eq!(seed, Seed::of_connection(peer));
        seeds.insert(seed);
        let number = u64::from(peer.serial) << 32 | u64::from(peer.slot);
        seeds.insert(Seed::of_instance(&number.to_le_bytes()));
    }
    assert_eq!(seeds.len(), 200);
}
