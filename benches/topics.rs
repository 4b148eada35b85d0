//! How long a router takes to find the subscribers of a broadcast: `cargo bench --bench topics`.
//!
//! The hostile cases are the worst that a random search over subscriptions and broadcasts found, and cases in which
//! earlier versions were slow. In each, one connection has as many subscriptions as it may have, and a broadcast matches
//! none of them.

#![allow(clippy::unwrap_used)]

use std::task::Waker;
use std::time::Instant;

use divan::Bencher;
use gsb_core::{Broker, BrokerConfig, CloseReason, ConnId, Effect, Identity, Limits};
use gsb_proto::messages::{
    BroadcastRequest, Message, SubscribeReply, SubscribeReplyCode, SubscribeRequest,
};
use gsb_proto::{Frame, Framing, MessageKind, Topic};

fn main() {
    divan::main();
}

/// A debug build only checks that the benchmarks run, and divides the sizes by this.
const FEWER: usize = if cfg!(debug_assertions) { 64 } else { 1 };

struct World {
    broker: Broker,
    sender: ConnId,
    effects: Vec<Effect>,
    now: Instant,
}

impl World {
    fn new(config: BrokerConfig) -> Self {
        let mut broker = Broker::new(config);
        let sender = connect(&mut broker);
        World { broker, sender, effects: Vec::new(), now: Instant::now() }
    }

    fn connect(&mut self) -> ConnId {
        connect(&mut self.broker)
    }

    /// Subscribes. Returns whether the router agreed.
    fn subscribe(&mut self, connection: ConnId, topic: String) -> bool {
        self.effects.clear();
        let mut request = SubscribeRequest { topic }.to_frame();
        self.broker.receive(connection, request.whole(), self.now, &mut self.effects).unwrap();
        let Some(Effect::Send { frame, .. }) = self.effects.last() else {
            return false;
        };
        let reply: SubscribeReply = frame.decode().unwrap();
        reply.code == i32::from(SubscribeReplyCode::SubscribedOk)
    }

    /// Broadcasts. Returns the number of recipients.
    fn broadcast(&mut self, event: &mut Frame) -> usize {
        self.effects.clear();
        self.broker.receive(self.sender, event.whole(), self.now, &mut self.effects).unwrap();
        let is_event = |effect: &&Effect| matches!(effect, Effect::Send { frame, .. } if frame.kind == MessageKind::BroadcastRequest);
        self.effects.iter().filter(is_event).count()
    }
}

fn connect(broker: &mut Broker) -> ConnId {
    let connection = broker.connect(Identity::Unknown, Waker::noop().clone(), Instant::now());
    broker.framing_known(connection, Framing::Packet, &mut Vec::new());
    connection
}

fn event(topic: &str) -> Frame {
    BroadcastRequest { topic: topic.into(), ..Default::default() }.to_frame()
}

/// Ten thousand connections with a few short topics each.
fn honest() -> World {
    let mut world = World::new(BrokerConfig::default());
    for number in 0..10_000 / FEWER {
        let connection = world.connect();
        for topic in [
            format!("node/{number}/status"),
            format!("node/{number}/activity/**"),
            format!("golem/net/peer-{number}/*/event"),
            format!("market/*/demand-{}/offers", number % 1000),
            format!("golem/version/{}", number % 10),
        ] {
            assert!(world.subscribe(connection, topic));
        }
    }
    world
}

#[divan::bench(args = [
    "node/4711/status",
    "node/4711/activity/17/usage/cpu",
    "golem/net/peer-17/session/event",
    "market/yagna/demand-17/offers",
    "topic/without/any/subscriber",
    "node/4711/*",
    "node/*/status",
    "**/demand-17/*",
    "**",
])]
fn ten_thousand_connections(bencher: Bencher<'_, '_>, topic: &str) {
    let mut world = honest();
    let mut event = event(topic);
    bencher.bench_local(|| world.broadcast(&mut event));
}

#[divan::bench(args = ["**", "a/*/7", "a/b/7"])]
fn one_connection_with_65536_topics(bencher: Bencher<'_, '_>, topic: &str) {
    let mut world = World::new(BrokerConfig::default());
    let connection = world.connect();
    for number in 0..65_536 / FEWER {
        assert!(world.subscribe(connection, format!("a/b/{number}")));
    }
    let mut event = event(topic);
    bencher.bench_local(|| world.broadcast(&mut event));
}

/// A connection goes, and takes its subscriptions along.
#[divan::bench(args = [65_536, 1_000_000], sample_count = 5, sample_size = 1)]
fn a_connection_goes(bencher: Bencher<'_, '_>, topics: usize) {
    bencher
        .with_inputs(|| {
            let limits = Limits { subscriptions: topics, ..Default::default() };
            let mut world = World::new(BrokerConfig { limits, ..Default::default() });
            let connection = world.connect();
            for number in 0..topics / FEWER {
                assert!(
                    world.subscribe(connection, format!("node/{}/topic/{number}", number % 97))
                );
            }
            (world, connection)
        })
        .bench_local_values(|(mut world, connection)| {
            world.broker.close(connection, CloseReason::HungUp, &mut world.effects);
            world
        });
}

/// A number that looks random, the same each time.
fn chance(number: usize, bound: usize) -> usize {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    usize::try_from((mixed ^ (mixed >> 32)) % bound as u64).unwrap()
}

/// A topic that repeats `segments` and ends with `last`, as long as a topic may be. Each `#` becomes the number of the
/// repetition.
fn repeated(segments: &str, last: &str) -> String {
    let mut topic = last.to_owned();
    for number in 0.. {
        let longer = format!("{}/{topic}", segments.replace('#', &format!("{number:x}")));
        if Topic::new(&longer).is_err() {
            break;
        }
        topic = longer;
    }
    topic
}

struct Hostile {
    name: &'static str,
    subscription: fn(usize) -> String,
    broadcast: fn() -> String,
}

impl std::fmt::Display for Hostile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const HOSTILE: &[Hostile] = &[
    Hostile {
        name: "long patterns, long topic",
        subscription: |number| repeated("**/a/*", &format!("x{number}")),
        broadcast: || repeated("a", "b"),
    },
    Hostile {
        name: "long patterns, long pattern",
        subscription: |number| repeated("**/a/*/b", &format!("x{number}")),
        broadcast: || repeated("*/**/a", "y"),
    },
    Hostile {
        name: "patterns of 8 segments, long pattern",
        subscription: |number| format!("{number:x}/*/a/a/b/b/a/q"),
        broadcast: || repeated("**/#/b/a", "z"),
    },
    Hostile {
        name: "plain topics, long pattern",
        subscription: |number| {
            format!("{number:x}/{:x}/3/7/b/5/{:x}/l", number % 256, number % 200)
        },
        broadcast: || repeated("**/#/l", "**/z"),
    },
    Hostile {
        name: "topics that spread out, long pattern",
        subscription: |number| {
            let [a, b, c] = [1, 2, 3].map(|salt| chance(number * 3 + salt, 200));
            format!("{a:x}/{b:x}/{c:x}/b/b/b/a/{number:x}")
        },
        broadcast: || repeated("**/#/b", "**/z"),
    },
    Hostile {
        name: "two ways at each segment, long pattern",
        subscription: |number| {
            let mixed = chance(number, 1 << 16);
            let ways = (0..7).map(|bit| if mixed >> bit & 1 == 0 { "a/" } else { "b/" });
            ways.collect::<String>() + &format!("{number:x}")
        },
        broadcast: || repeated("**/a/**/b", "**/z"),
    },
    Hostile {
        name: "as few as make a node, long pattern",
        subscription: |number| {
            // Not one after the other.
            let number = number * 40_503 % 65_536;
            let group = number / 33;
            let path = |salt| chance(group + salt, 4096);
            format!("{:x}/{:x}/{:x}/a/b/a/b/{number:x}", path(0), path(10_000), path(20_000))
        },
        broadcast: || repeated("**/#/a/b", "**/z"),
    },
    Hostile {
        name: "topics of 128 bytes, long pattern",
        subscription: |number| {
            let long = "l".repeat(26);
            format!("{number:x}/{long}/{long}/a/{long}/b/{long}/q")
        },
        broadcast: || repeated("**/#/a", "**/z"),
    },
    Hostile {
        name: "long segments, the same in the broadcast",
        subscription: |number| format!("{number:x}/{}/a/b/a/q", "l".repeat(900)),
        broadcast: || repeated("**/a", &format!("{}/z", "l".repeat(900))),
    },
    Hostile {
        name: "long segments, long pattern",
        subscription: |number| format!("{number:x}/{}/a/b/a/q", "l".repeat(900)),
        broadcast: || repeated("**/#/a", "**/z"),
    },
    Hostile {
        name: "topics of 64 segments, long pattern",
        subscription: |number| repeated("a/b/c", &format!("{number:x}")),
        broadcast: || repeated("**/a/b", "**/z"),
    },
    Hostile {
        name: "spread topics of 64 segments, long pattern",
        subscription: |number| {
            let path = (0..63).map(|at| format!("{:x}/", chance(number * 64 + at, 32)));
            path.collect::<String>() + &format!("{number:x}")
        },
        broadcast: || repeated("**/#", "**/z"),
    },
    Hostile {
        name: "patterns, long topic",
        subscription: |number| {
            let [a, b, c] = [1, 2, 3].map(|salt| chance(number * 3 + salt, 256));
            format!("**/{a:x}/**/{b:x}/**/{c:x}/**/q{number:x}")
        },
        broadcast: || repeated("#", "z"),
    },
    Hostile {
        name: "patterns of wildcards, long topic",
        subscription: |number| format!("**/a/*/a/a/*/a/q{number:x}"),
        broadcast: || repeated("a", "b"),
    },
];

#[divan::bench(args = HOSTILE, sample_count = 5, sample_size = 1)]
fn one_hostile_connection(bencher: Bencher<'_, '_>, case: &Hostile) {
    let mut world = World::new(BrokerConfig::default());
    let connection = world.connect();
    let mut number = 0;
    while number < 65_536 / FEWER && world.subscribe(connection, (case.subscription)(number)) {
        number += 1;
    }
    let mut event = event(&(case.broadcast)());
    assert_eq!(world.broadcast(&mut event), 0, "{case} has a recipient");
    bencher.bench_local(|| world.broadcast(&mut event));
}

/// The same with two connections, so that to have found one of them does not spare the rest.
#[divan::bench(args = ["**", "a/*/7"])]
fn two_connections_with_the_same_65536_topics(bencher: Bencher<'_, '_>, topic: &str) {
    let mut world = World::new(BrokerConfig::default());
    for _ in 0..2 {
        let connection = world.connect();
        for number in 0..65_536 / FEWER {
            assert!(world.subscribe(connection, format!("a/b/{number}")));
        }
    }
    let mut event = event(topic);
    bencher.bench_local(|| world.broadcast(&mut event));
}
