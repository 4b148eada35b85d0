//! A client whose router is hostile: garbage, huge frames that trickle in, unknown ids, endless replies, no answers,
//! answers without a request, credit and data for any call, farewells, floods, and a death at any point, also in the middle
//! of a frame.
//!
//! Every call, stream, upload, push, broadcast, registration, subscription and shutdown ends. Memory stays within the limits
//! of the client, and all of it is released.
//!
//! Time is simulated, and a seed decides all that happens. `GSB_HOSTILE_SECONDS` is how long the test makes runs (2 by
//! default), `GSB_HOSTILE_SEED` the seed of the first run; each further run has the next seed.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod router;
mod user;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use gsb_client::Framing;
use gsb_net::memory::{Conditions, Network};
use gsb_testkit::{Usage, mebibytes};
use tokio::task::JoinSet;

use crate::router::{Router, Sizes};
use crate::user::{BUFFER, MAX_RUNNING, MAX_RUNNING_BYTES, MAX_TASKS, OUTBOX, SERVICES, User};

/// Memory of a run that does not depend on the router's frames: the runtime, a network of 64 KiB in each direction,
/// tasks, and the messages of users.
const BASE: usize = 4 << 20;

/// Memory of 65,536 refusals that wait for a router which does not read, with the ids that this router uses.
const REFUSALS: usize = 65_536 * 256;

/// Memory that a run may leave behind: values that a thread or a library creates once.
const LEFT: i64 = 256 << 10;

/// How much more memory the process may have after all runs than after the first ones: pages that the allocator keeps.
const GROWTH: u64 = 24 << 20;

/// A run that takes this long hangs: it lets no simulated time pass, or repeats the same steps for ever.
const STUCK: Duration = Duration::from_secs(120);

/// The most memory of a client whose router has sent frames of these sizes. Each consumer has a buffer of its limit or
/// of one frame, each service has a limited number of calls, and the buffer of an unfinished frame has at most three
/// times the received bytes.
fn allowed(sizes: Sizes) -> u64 {
    let consumers = MAX_TASKS * (BUFFER + sizes.whole);
    let handlers = SERVICES.len() * MAX_RUNNING * sizes.whole + MAX_RUNNING_BYTES;
    (BASE + OUTBOX + REFUSALS + consumers + handlers + 3 * sizes.unfinished) as u64
}

async fn play(seed: u64) -> (Sizes, u64) {
    let mut rng = Rng::with_seed(seed);
    fastrand::seed(seed);
    let most = Duration::from_millis(rng.u64(0..5));
    let network =
        Network::new(seed, Conditions { delay: Duration::ZERO..=most, ..Conditions::default() });
    let framing = if rng.u8(0..4) == 0 { Framing::Classic } else { Framing::Packet };
    let mut router = Router::new(network.clone(), framing, rng.fork());
    let mut user = User::new(network, framing);
    for _ in 0..rng.usize(20..150) {
        // Lets both sides run.
        tokio::time::sleep(Duration::from_millis(1)).await;
        router.look();
        if rng.bool() {
            router.step().await;
        } else {
            user.step(&mut rng).await;
        }
    }
    // From now on the router does nothing, or has ended.
    if rng.bool() {
        router.hang_up();
    }
    let begun = user.begun;
    user.end(&mut rng).await;
    (router.sizes, begun)
}

/// All timeouts are shorter than this, and all consumers are faster.
async fn all_end(what: &str, mut tasks: JoinSet<()>) {
    let ended = async {
        while let Some(ended) = tasks.join_next().await {
            assert!(ended.as_ref().err().is_none_or(|error| error.is_cancelled()), "{ended:?}");
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(120), ended).await;
    assert!(ended.is_ok(), "{what} wait for ever");
}

/// Returns the sizes of the router's frames, the number of requests, and the peak of the memory.
fn run(seed: u64) -> (Sizes, u64, u64) {
    let mut done = (Sizes::default(), 0);
    let memory = allocation_counter::measure(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        done = runtime.block_on(play(seed));
    });
    let (sizes, begun) = done;
    let limit = allowed(sizes);
    let most = memory.bytes_max;
    assert!(most <= limit, "{most} bytes of memory, {limit} allowed, {sizes:?}");
    assert!(memory.bytes_current <= LEFT, "{} bytes are not given back", memory.bytes_current);
    (sizes, begun, most)
}

fn setting(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

#[test]
fn whatever_a_router_does_memory_is_bounded_and_all_ends() {
    let time = Duration::from_secs(setting("GSB_HOSTILE_SECONDS").unwrap_or(2));
    let first = setting("GSB_HOSTILE_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
    static SEED: AtomicU64 = AtomicU64::new(0);
    SEED.store(first, Ordering::Relaxed);
    std::thread::spawn(|| {
        let mut last = (SEED.load(Ordering::Relaxed), Instant::now());
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let seed = SEED.load(Ordering::Relaxed);
            if seed != last.0 {
                last = (seed, Instant::now());
            } else if last.1.elapsed() > STUCK {
                eprintln!("GSB_HOSTILE_SECONDS=0 GSB_HOSTILE_SEED={seed} is stuck");
                std::process::abort();
            }
        }
    });
    let process = std::process::id();
    let (mut runs, mut requests, mut most, mut most_allowed) = (0_u64, 0, 0, 0);
    let mut settled = None;
    let begun = Instant::now();
    while runs == 0 || begun.elapsed() < time {
        let seed = first.wrapping_add(runs);
        SEED.store(seed, Ordering::Relaxed);
        println!("GSB_HOSTILE_SECONDS=0 GSB_HOSTILE_SEED={seed}");
        let (sizes, begun, memory) = run(seed);
        (runs, requests) = (runs + 1, requests + begun);
        (most, most_allowed) = (memory.max(most), allowed(sizes).max(most_allowed));
        if runs == 500 {
            settled = Some(Usage::of(process));
        }
    }
    let usage = Usage::of(process);
    println!("{runs} runs, {requests} requests; a run took up to {}", mebibytes(most));
    println!("the process: {usage}, of up to {}", mebibytes(most_allowed));
    if let Some(settled) = settled {
        assert!(usage.resident <= settled.peak + GROWTH, "{usage}, after 500 runs {settled}");
    }
}
