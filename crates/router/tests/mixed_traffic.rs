//! A soak test of mixed traffic with random disconnects: callers, services with streams, publishers, subscribers, and
//! peers that never read. Each call has one outcome, streams and events keep their order, no peer gets a message for
//! another one, and at the end nothing is left of the connections.
//!
//! `GSB_SOAK_SECONDS` is the duration, and `GSB_SOAK_SEED` determines the random choices. The test prints the seed,
//! which repeats the choices but not their timing.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use gsb_proto::messages::*;
use gsb_proto::{Address, Framing, MessageKind};
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess, TIMEOUT, within};
use tokio::task::JoinHandle;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

const SERVICES: usize = 3;
const CALLERS: usize = 4;
const SENDERS: usize = 2;
const SUBSCRIBERS: usize = 3;
const STALLED: usize = 2;

/// The most open calls of a caller.
const OPEN: usize = 16;

/// The queue limit in bytes, which is low so that it is reached.
const LIMIT: u64 = 256 << 10;

/// The most connections at the same time, and as many ended ones whose bytes are still queued.
const CONNECTIONS: u64 = 2 * (SERVICES + CALLERS + SENDERS + SUBSCRIBERS + STALLED) as u64;

/// Memory in bytes that an allocator may keep after it was freed.
const KEPT: u64 = 16 << 20;

/// The events of a run, counted.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    /// Calls that ended with the connection of their caller.
    forgotten: AtomicU64,
    parts: AtomicU64,
    sent: AtomicU64,
    events: AtomicU64,
    /// Events that followed missed ones.
    gaps: AtomicU64,
}

fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

/// The state that all peers share.
#[derive(Debug, Clone)]
struct Scene {
    addresses: Vec<Address>,
    counts: Arc<Counts>,
    end: Instant,
}

impl Scene {
    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    async fn connect(&self, random: &mut Rng) -> Peer {
        count(&self.counts.connections);
        let framing = if random.bool() { Framing::Packet } else { Framing::Classic };
        Peer::connect(&self.addresses[random.usize(..self.addresses.len())], framing).await
    }
}

/// Ends a connection in a random way.
async fn leave(mut peer: Peer, random: &mut Rng) {
    if random.bool() {
        peer.hang_up().await;
    }
    drop(peer);
}

fn number_of(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}

/// Serves, on one connection after the other.
async fn serve(scene: Scene, name: usize, mut random: Rng) {
    while !scene.is_over() {
        let mut peer = scene.connect(&mut random).await;
        // The previous connection may still hold the name.
        let registered = async {
            while peer.register(&format!("/soak/{name}")).await != 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the name", registered).await;
        let mut lives = random.u32(1..400);
        while lives > 0 && !scene.is_over() {
            let Some(frame) = peer.next_within(Duration::from_millis(100)).await else {
                continue;
            };
            if frame.kind != MessageKind::CallRequest {
                continue;
            }
            lives -= 1;
            let call: CallRequest = frame.decode().unwrap();
            // "caller serial parts size"
            let data = String::from_utf8(call.data.to_vec()).unwrap();
            let mut words = data.split(' ').skip(2);
            let mut number = || words.next().unwrap().parse::<usize>().unwrap();
            let (parts, size) = (number(), number());
            let padding = "x".repeat(size);
            for part in 0..parts {
                peer.part(&call.request_id, &format!("{data} {part} {padding}")).await;
            }
            if random.u32(..50) == 0 {
                // Amid a call.
                break;
            }
            peer.reply(&call.request_id, &format!("{data} {parts} {padding}")).await;
        }
        leave(peer, &mut random).await;
    }
}

/// An open call: what it asked for, and the number of replies so far.
struct Open {
    question: String,
    parts: usize,
}

async fn call(scene: Scene, name: usize, mut random: Rng) {
    let counts = scene.counts.clone();
    let mut serial = 0u64;
    while !scene.is_over() {
        let mut peer = scene.connect(&mut random).await;
        let mut open: HashMap<String, Open> = HashMap::new();
        let mut lives = random.u32(1..400);
        while lives > 0 && !scene.is_over() {
            lives -= 1;
            // Callers share the ids, and use them again.
            let id = random.usize(..OPEN).to_string();
            if let Entry::Vacant(vacant) = open.entry(id) {
                serial += 1;
                let parts = if random.u32(..4) == 0 { random.usize(..20) } else { 0 };
                let size = if random.u32(..8) == 0 { random.usize(..60_000) } else { 10 };
                let question = format!("{name} {serial} {parts} {size}");
                let service = random.usize(..SERVICES);
                peer.call(&format!("/soak/{service}/x"), vacant.key(), &question).await;
                vacant.insert(Open { question, parts: 0 });
            }
            if random.bool() {
                receive(&scene, &mut peer, &mut open).await;
            }
        }
        if random.u32(..4) == 0 {
            counts.forgotten.fetch_add(open.len() as u64, Ordering::Relaxed);
        } else {
            // Each call has one outcome, and nothing follows it.
            while !open.is_empty() {
                receive(&scene, &mut peer, &mut open).await;
            }
            peer.expect_nothing().await;
        }
        leave(peer, &mut random).await;
    }
}

/// Receives the next reply, and checks that it is the next one to an open call.
async fn receive(scene: &Scene, peer: &mut Peer, open: &mut HashMap<String, Open>) {
    if open.is_empty() {
        return;
    }
    let counts = &scene.counts;
    let reply: CallReply = peer.expect().await;
    let is_last = reply.reply_type == 0;
    let call = open.get_mut(&reply.request_id).expect("a call that is open");
    if reply.code == 0 {
        let text = std::str::from_utf8(&reply.data).unwrap();
        let expected = format!("{} {} ", call.question, call.parts);
        assert!(text.starts_with(&expected), "{:?} instead of {expected:?}", text.get(..40));
        call.parts += 1;
        count(if is_last { &counts.answered } else { &counts.parts });
    } else {
        assert!(is_last, "a failure ends a call");
        assert_ne!(reply.reason(), CallReplyReason::ReasonUnspecified);
        count(&counts.failed);
    }
    if is_last {
        open.remove(&reply.request_id);
    }
}

/// Publishes numbered events. The numbers of a publisher continue over its connections.
async fn send(scene: Scene, name: usize, mut random: Rng) {
    let mut number = 0u64;
    while !scene.is_over() {
        let mut peer = scene.connect(&mut random).await;
        for _ in 0..random.u32(1..300) {
            let size = if random.u32(..8) == 0 { random.usize(..30_000) } else { 10 };
            peer.broadcast(&format!("soak/{name}"), &format!("{number} {}", "x".repeat(size)))
                .await;
            assert_eq!(peer.expect::<BroadcastReply>().await.code, 0);
            number += 1;
            count(&scene.counts.sent);
            if scene.is_over() {
                break;
            }
        }
        leave(peer, &mut random).await;
    }
}

async fn listen(scene: Scene, mut random: Rng) {
    // The order holds over all connections.
    let mut next = [0u64; SENDERS];
    while !scene.is_over() {
        let mut peer = scene.connect(&mut random).await;
        assert_eq!(peer.subscribe("soak/*").await, 0);
        let mut is_first = [true; SENDERS];
        for _ in 0..random.u32(1..500) {
            let Some(frame) = peer.next_within(Duration::from_millis(100)).await else {
                break;
            };
            let event: BroadcastRequest = frame.decode().unwrap();
            let sender: usize = event.topic.strip_prefix("soak/").unwrap().parse().unwrap();
            let text = std::str::from_utf8(&event.data).unwrap();
            let number: u64 = text.split(' ').next().unwrap().parse().unwrap();
            assert!(number >= next[sender], "{number} came behind {}", next[sender]);
            if number > next[sender] && !is_first[sender] {
                count(&scene.counts.gaps);
            }
            is_first[sender] = false;
            next[sender] = number + 1;
            count(&scene.counts.events);
        }
        leave(peer, &mut random).await;
    }
}

/// Subscribes to everything, and never reads.
async fn never_read(scene: Scene, mut random: Rng) {
    while !scene.is_over() {
        let mut peer = scene.connect(&mut random).await;
        assert_eq!(peer.subscribe("soak/**").await, 0);
        for id in 0..20 {
            let address = format!("/soak/{}", random.usize(..SERVICES));
            peer.call(&address, &id.to_string(), "deaf 0 40 30000").await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(100..1500))).await;
        leave(peer, &mut random).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_mixed_up_or_left_behind() {
    let seconds = number_of("GSB_SOAK_SECONDS").unwrap_or(8);
    let seed = number_of("GSB_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("GSB_SOAK_SEED={seed} GSB_SOAK_SECONDS={seconds}");
    let arguments =
        ["--queue-limit", "256KiB", "--stall-timeout", "500ms", "--drain-timeout", "1h"];
    let router = RouterProcess::isolated(ROUTER, arguments).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    background_calls.call().await;
    let start = router.usage();
    let scene = Scene {
        addresses: router.addresses.clone(),
        counts: Arc::default(),
        end: Instant::now() + Duration::from_secs(seconds),
    };
    let mut seeds = Rng::with_seed(seed);
    let mut random = || seeds.fork();
    let mut parties: Vec<JoinHandle<()>> = Vec::new();
    for name in 0..SERVICES {
        parties.push(tokio::spawn(serve(scene.clone(), name, random())));
    }
    for name in 0..CALLERS {
        parties.push(tokio::spawn(call(scene.clone(), name, random())));
    }
    for name in 0..SENDERS {
        parties.push(tokio::spawn(send(scene.clone(), name, random())));
    }
    for _ in 0..SUBSCRIBERS {
        parties.push(tokio::spawn(listen(scene.clone(), random())));
    }
    for _ in 0..STALLED {
        parties.push(tokio::spawn(never_read(scene.clone(), random())));
    }
    let all = async {
        for party in parties {
            party.await.unwrap();
        }
    };
    let longest = Duration::from_secs(seconds) + TIMEOUT;
    let all = tokio::time::timeout(longest, all);
    background_calls.during(all).await.expect("the end of all peers");
    println!(
        "{:?}; the longest call of background_calls took {:?}",
        scene.counts, background_calls.worst
    );
    router.assert_memory_within(start, CONNECTIONS * 3 * LIMIT);
    router.wait_for_usage(start, KEPT).await;
    assert!(scene.counts.answered.load(Ordering::Relaxed) > 0);
    router.stop().await;
}
