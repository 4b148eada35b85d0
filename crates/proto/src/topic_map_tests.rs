use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

/// A seed makes it, and it repeats itself with that.
struct Chance(u64);

impl Chance {
    /// Prints the seed, for `GSB_TOPICS_SEED`.
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
            if text.len() > 1000 {
                break;
            }
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

/// The same by a list and [`Topic::meets`].
fn plain_find(plain: &[(Topic, u8)], broadcast: &Topic) -> Vec<u8> {
    let meeting = plain.iter().filter(|(subscribed, _)| subscribed.overlaps(broadcast));
    let mut expected: Vec<u8> = meeting.map(|(_, subscriber)| *subscriber).collect();
    expected.sort_unstable();
    expected.dedup();
    expected
}

// Rule TO-4: everyone with a matching subscription, once.
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
    let place = map.subscription(&topic("a/b"), 1).unwrap();
    assert!(map.unsubscribe(place, 1));
    assert!(!map.unsubscribe(place, 1));
    assert_eq!(map.subscription(&topic("a/b"), 1), None);
    for never in ["never", "a", "/a/b", "a/b/c", "a/**", "b/a"] {
        assert_eq!(map.subscription(&topic(never), 1), None, "{never}");
    }
    map.find(&topic("a/b"), &mut found);
    assert_eq!(found, [1, 2, 3], "the pattern is still there");
}

/// Subscribes and unsubscribes at random, and broadcasts as often.
fn agrees_with_a_plain_list(chance: &mut Chance, operations: usize, longest: usize) {
    let mut map = TopicMap::new();
    let mut plain: Vec<(Topic, u8)> = Vec::new();
    let mut found = Vec::new();
    for operation in 0..operations {
        let subscriber = u8::try_from(chance.below(5)).unwrap();
        if chance.below(3) > 0 {
            let entry = (chance.topic(longest), subscriber);
            let there = plain.contains(&entry);
            assert_eq!(map.subscription(&entry.0, subscriber).is_some(), there);
            assert_eq!(map.subscribe(&entry.0, subscriber).is_none(), there);
            if !there {
                plain.push(entry);
            }
        } else if !plain.is_empty() {
            let (topic, subscriber) = plain.swap_remove(chance.below(plain.len()));
            let place = map.subscription(&topic, subscriber).unwrap();
            assert!(map.unsubscribe(place, subscriber));
        }
        let broadcast = chance.topic(longest);
        map.find(&broadcast, &mut found);
        assert_eq!(found, plain_find(&plain, &broadcast), "{broadcast} among {plain:?}");
        if operation % 8 == 0 {
            map.tree.check();
        }
    }
    for (topic, subscriber) in plain {
        let place = map.subscription(&topic, subscriber).unwrap();
        assert!(map.unsubscribe(place, subscriber));
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
    // Enough that nodes come and go.
    for longest in [1, 2, 3, 6] {
        agrees_with_a_plain_list(&mut chance, 400, longest);
    }
}

// Sets of positions take one word to nine.
#[test]
fn long_random_topics_are_found_as_in_a_plain_list() {
    let mut chance = Chance::new();
    for longest in [70, 100, 200, 330, 400] {
        for _ in 0..2 {
            agrees_with_a_plain_list(&mut chance, 30, longest);
        }
    }
}

#[test]
fn the_longest_topics_are_found() {
    let lengths = [1, 2, 62, 63, 64, 65, 190, 191, 192, 318, 319, 320, 446, 447, 448, 511, 512];
    for segments in lengths {
        let text = vec!["a"; segments].join("/");
        for text in [text.clone(), format!("/{text}")] {
            let Ok(long) = Topic::new(&text) else {
                continue;
            };
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

// What a subscription takes in memory: about 200 bytes and three times its text, or a little more where
// many segments are short.
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
        ("all cut up", |chance, number| {
            format!("{}a", "a/".repeat(chance.below(400) + number % 100))
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
