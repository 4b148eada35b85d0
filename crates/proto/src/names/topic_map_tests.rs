use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::names::topic::MAX_SEGMENTS;

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

/// A random generator. The same seed gives the same numbers.
struct Chance(u64);

impl Chance {
    /// Takes the seed from `GSB_TOPICS_SEED` or the clock, and prints it.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let seed = match std::env::var("GSB_TOPICS_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => u64::try_from(now & u128::from(u64::MAX)).unwrap(),
        };
        println!("GSB_TOPICS_SEED={seed}");
        Chance(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    /// A topic of up to `longest` segments over a small alphabet, with few or many wildcards.
    fn topic(&mut self, longest: usize) -> Topic {
        let wildness = [0, 1, 4][self.below(3)];
        let literals = ["a", "b", "a", "b", "ab", "*a", "c", "long-segment"];
        let letters = 1 + self.below(literals.len());
        let mut text = String::from(["", "", "", "/"][self.below(4)]);
        for place in 0..=self.below(longest) {
            if place > 0 {
                text.push('/');
            }
            text.push_str(match self.below(8) {
                dice if dice < wildness => ["*", "**"][self.below(2)],
                _ => literals[self.below(letters)],
            });
        }
        topic(&text)
    }
}

/// What [`TopicMap::find`] should find, by a list and [`Topic::overlaps`].
fn plain_find(plain: &[(Topic, u8)], broadcast: &Topic) -> Vec<u8> {
    let overlapping = plain.iter().filter(|(subscribed, _)| subscribed.overlaps(broadcast));
    let mut expected: Vec<u8> = overlapping.map(|(_, subscriber)| *subscriber).collect();
    expected.sort_unstable();
    expected.dedup();
    expected
}

// Rule TO-4: each subscriber with a matching subscription, once.
#[test]
fn each_subscriber_is_found_once() {
    let mut map = TopicMap::new();
    for (name, subscriber) in [("a/b", 1), ("a/*", 1), ("**", 2), ("a/b", 3), ("b", 4)] {
        assert!(map.subscribe(&topic(name), subscriber).is_some());
    }
    assert_eq!(map.subscribe(&topic("a/b"), 1), None, "twice the same");
    assert_eq!(map.len(), 4);
    let mut found = Vec::new();
    map.find(&topic("a/b"), &mut found);
    assert_eq!(found, [1, 2, 3]);
    map.find(&topic("**"), &mut found);
    assert_eq!(found, [1, 2, 3, 4]);
    let id = map.subscription(&topic("a/b"), 1).unwrap();
    assert!(map.unsubscribe(id, 1));
    assert!(!map.unsubscribe(id, 1));
    assert_eq!(map.subscription(&topic("a/b"), 1), None);
    for never in ["never", "a", "/a/b", "a/b/c", "a/**", "b/a"] {
        assert_eq!(map.subscription(&topic(never), 1), None, "{never}");
    }
    map.find(&topic("a/b"), &mut found);
    assert_eq!(found, [1, 2, 3], "the pattern is still there");
}

/// Subscribes, unsubscribes and broadcasts at random.
fn agrees_with_a_plain_list(chance: &mut Chance, operations: usize, longest: usize) {
    let mut map = TopicMap::new();
    let mut plain: Vec<(Topic, u8)> = Vec::new();
    let mut found = Vec::new();
    for operation in 0..operations {
        let subscriber = u8::try_from(chance.below(5)).unwrap();
        if chance.below(3) > 0 {
            let entry = (chance.topic(longest), subscriber);
            let exists = plain.contains(&entry);
            assert_eq!(map.subscription(&entry.0, subscriber).is_some(), exists);
            assert_eq!(map.subscribe(&entry.0, subscriber).is_none(), exists);
            if !exists {
                plain.push(entry);
            }
        } else if !plain.is_empty() {
            let (topic, subscriber) = plain.swap_remove(chance.below(plain.len()));
            let id = map.subscription(&topic, subscriber).unwrap();
            assert!(map.unsubscribe(id, subscriber));
        }
        let broadcast = chance.topic(longest);
        map.find(&broadcast, &mut found);
        assert_eq!(found, plain_find(&plain, &broadcast), "{broadcast} among {plain:?}");
        if operation % 8 == 0 {
            map.tree.check();
        }
    }
    for (topic, subscriber) in plain {
        let id = map.subscription(&topic, subscriber).unwrap();
        assert!(map.unsubscribe(id, subscriber));
    }
    map.tree.check();
    assert!(map.is_empty());
    assert_eq!(map.tree.nodes(), 1);
}

#[test]
fn random_topics_are_found_as_in_a_plain_list() {
    let mut chance = Chance::new();
    for _ in 0..100 {
        agrees_with_a_plain_list(&mut chance, 40, 4);
    }
    for _ in 0..20 {
        agrees_with_a_plain_list(&mut chance, 40, 12);
    }
    // Enough topics to split and merge nodes.
    for longest in [1, 2, 3, 6] {
        agrees_with_a_plain_list(&mut chance, 400, longest);
    }
}

// Sets of positions take up to 66 bits.
#[test]
fn long_random_topics_are_found_as_in_a_plain_list() {
    let mut chance = Chance::new();
    for longest in [32, 63, MAX_SEGMENTS] {
        for _ in 0..4 {
            agrees_with_a_plain_list(&mut chance, 30, longest);
        }
    }
}

#[test]
fn the_longest_topics_are_found() {
    for segments in [1, 2, 31, 32, 33, 62, 63, MAX_SEGMENTS] {
        let text = vec!["a"; segments].join("/");
        for text in [text.clone(), format!("/{text}")] {
            let long = topic(&text);
            let subscriptions = [
                text.clone(),
                "**".into(),
                "**/a".into(),
                "**/a/**".into(),
                "**/b".into(),
                "*".into(),
            ];
            let mut map = TopicMap::new();
            for (number, subscription) in subscriptions.iter().enumerate() {
                map.subscribe(&topic(subscription), number);
            }
            let mut found = Vec::new();
            map.find(&long, &mut found);
            let last = if text == "a" { vec![0, 1, 2, 3, 5] } else { vec![0, 1, 2, 3] };
            assert_eq!(found, last, "{text}");
            let end = text.len() - 1;
            map.find(&topic(&format!("{}*", &text[..end])), &mut found);
            assert!(found.starts_with(&[0, 1, 2, 3]), "{found:?} for {segments}");
        }
    }
}

#[test]
fn many_subscribers_are_found_once_each() {
    let mut map = TopicMap::new();
    for subscriber in 0..200 {
        for number in 0..100 {
            map.subscribe(&topic(&format!("t/{number}")), subscriber);
        }
    }
    let mut found = Vec::new();
    map.find(&topic("t/*"), &mut found);
    assert_eq!(found, (0..200).collect::<Vec<_>>());
    map.find(&topic("t/7"), &mut found);
    assert_eq!(found.len(), 200);
}

// A subscription takes about 200 bytes and three times its text, or more if many segments are short.
#[test]
fn memory_follows_the_text() {
    let mut chance = Chance::new();
    type Shape = (&'static str, fn(&mut Chance, usize) -> String);
    let shapes: [Shape; 5] = [
        ("numbered", |_, number| format!("a/b/{number}")),
        ("one segment each", |_, number| format!("{number}")),
        ("words", |chance, number| format!("node/{}/status/{number}", chance.below(50))),
        ("short segments", |chance, _| {
            let segments: Vec<_> = (0..8).map(|_| ["a", "b", "c", "*"][chance.below(4)]).collect();
            segments.join("/")
        }),
        ("as many segments as possible", |chance, number| {
            format!("{}{number}", "a/".repeat(chance.below(32) + number % 32))
        }),
    ];
    for (name, shape) in shapes {
        let mut map = TopicMap::new();
        let (mut text, mut segments) = (0, 0);
        for number in 0..4000 {
            let name = shape(&mut chance, number);
            if map.subscribe(&topic(&name), 1u64).is_some() {
                text += name.len();
                segments += name.split('/').count();
            }
        }
        let bytes = map.tree.bytes();
        println!("{name}: {} bytes, {} of text", bytes / map.len(), text / map.len());
        assert!(map.tree.nodes() <= segments / 8 + 1, "{name}");
        let allowed = map.len() * 200 + text * 7;
        assert!(bytes <= allowed, "{name}: {bytes} bytes for {} topics", map.len());
    }
}
