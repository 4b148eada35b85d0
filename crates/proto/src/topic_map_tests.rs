use proptest::prelude::*;

use super::*;

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

// Rule TO-4: everyone with a matching subscription, once.
#[test]
fn each_subscriber_is_found_once() {
    let mut map = TopicMap::new();
    for (name, subscriber) in [("a/b", 1), ("a/*", 1), ("**", 2), ("a/b", 3), ("b", 4)] {
        assert!(map.subscribe(topic(name), subscriber));
    }
    assert!(!map.subscribe(topic("a/b"), 1), "twice the same");
    let mut found = Vec::new();
    map.find(&topic("a/b"), &mut found);
    assert_eq!(found, [1, 2, 3]);
    map.find(&topic("**"), &mut found);
    assert_eq!(found, [1, 2, 3, 4]);
    assert!(map.unsubscribe("a/b", 1));
    assert!(!map.unsubscribe("a/b", 1));
    assert!(!map.unsubscribe("never", 1));
    map.find(&topic("a/b"), &mut found);
    assert_eq!(found, [1, 2, 3], "the pattern is still there");
}

proptest! {
    #[test]
    fn agrees_with_a_plain_list(
        operations in prop::collection::vec(
            (0u8..4, "(/)?(a|b|\\*|\\*\\*|\\*a)(/(a|b|\\*|\\*\\*)){0,3}", 0u8..5), 0..80),
        broadcasts in prop::collection::vec("(/)?(a|b|\\*|\\*\\*|\\*a)(/(a|b|a|b|\\*|\\*\\*)){0,3}", 1..20),
    ) {
        let mut map = TopicMap::new();
        let mut plain: Vec<(Topic, u8)> = Vec::new();
        for (operation, name, subscriber) in operations {
            let entry = (topic(&name), subscriber);
            let there = plain.contains(&entry);
            if operation > 0 {
                prop_assert_eq!(map.subscribe(entry.0.clone(), subscriber), !there);
                if !there {
                    plain.push(entry);
                }
            } else {
                prop_assert_eq!(map.unsubscribe(&name, subscriber), there);
                plain.retain(|other| *other != entry);
            }
        }
        let mut found = Vec::new();
        for broadcast in broadcasts {
            let broadcast = topic(&broadcast);
            let mut expected: Vec<u8> = plain
                .iter()
                .filter(|(subscribed, _)| subscribed.meets(&broadcast))
                .map(|(_, subscriber)| *subscriber)
                .collect();
            expected.sort_unstable();
            expected.dedup();
            map.find(&broadcast, &mut found);
            prop_assert_eq!(&found, &expected, "{}", broadcast);
        }
        for (name, subscriber) in plain {
            prop_assert!(map.unsubscribe(name.as_str(), subscriber));
        }
        prop_assert!(map.is_empty());
        prop_assert_eq!(map.patterns, 0);
    }
}
