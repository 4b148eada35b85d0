//! Random runs of a router and several clients over a network within the process: services and callers come and go,
//! connections are cut, routers are killed. All guarantees must hold.
//!
//! A seed determines the whole run, and time is simulated. `GSB_SIM_RUNS` is the number of runs, `GSB_SIM_SEED` the seed of
//! the first run; each further run has the next seed.

#![allow(clippy::unwrap_used, clippy::panic)]

mod calls;
mod checks;
mod events;
mod order;
mod script;
mod services;
mod world;

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use script::Simulation;
use world::{Facts, World};

/// The tasks of a router without connections: itself, its clock, and its listener.
const ROUTER_TASKS: usize = 3;

/// A run that takes this long hangs: it lets no simulated time pass, or repeats the same steps for ever.
const STUCK: Duration = Duration::from_secs(120);

/// How many failed runs are reported.
const ENOUGH: usize = 10;

/// Cases that must occur in a thousand runs. Otherwise the test would prove nothing about them.
const TO_REACH: &[&str] = &[
    "Call: bad request",
    "Call: busy",
    "Call: connection lost",
    "Call: dropped",
    "Call: good",
    "Call: is a stream",
    "Call: no such service",
    "Call: not sent",
    "Call: service failure",
    "Call: shut down",
    "Call: timeout",
    "Call: too large",
    "Push: good",
    "Push: no such service",
    "Push: not sent",
    "Push: too large",
    "Stream: bad request",
    "Stream: connection lost",
    "Stream: dropped",
    "Stream: good",
    "Stream: service failure",
    "Stream: timeout",
    "Stream: too large",
    "a name is refused to the last",
    "a reply does not fit",
    "broadcast: connection lost",
    "broadcast: dropped",
    "broadcast: good",
    "broadcast: not sent",
    "gap: connection lost",
    "gap: overflow",
    "register: already registered",
    "register: timeout",
    "Call: cancelled",
    "the router: answers wait",
    "the router: calls wait",
    "the router: replies wait",
    "the router drops: stray reply",
    "the router says: cancelled",
];

/// What 20,000 runs or more come to. Some runs in ten thousand do.
const RARELY_REACHED: &[&str] = &["Stream: overflow", "gap: missed", "shutdown: unfinished"];

/// The result of a run.
struct Run {
    seed: u64,
    trace: Vec<String>,
    problems: Vec<String>,
    reached: BTreeSet<String>,
}

fn run(seed: u64) -> Run {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let world = runtime.block_on(async {
        let world = World::new();
        Simulation::new(seed, &world).run().await;
        world
    });
    drop(runtime);
    let mut facts = world.facts();
    let Facts { trace, problems, reached, .. } = std::mem::take(&mut *facts);
    Run { seed, trace, problems, reached }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}

/// Carries out runs on all cores, until a run hangs. Returns the runs that failed, and the cases that occurred in any.
fn run_all(first: u64, runs: u64) -> (Vec<Run>, BTreeSet<String>) {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let reached = Mutex::new(BTreeSet::new());
    let work = |current: &Mutex<Option<(u64, Instant)>>| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= runs || failed.lock().len() >= ENOUGH {
                return *current.lock() = None;
            }
            let seed = first.wrapping_add(at);
            *current.lock() = Some((seed, Instant::now()));
            let mut run = run(seed);
            reached.lock().append(&mut run.reached);
            if !run.problems.is_empty() {
                failed.lock().push(run);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let current: Vec<_> = (0..cores).map(|_| Mutex::new(Some((first, Instant::now())))).collect();
    thread::scope(|scope| {
        for current in &current {
            scope.spawn(move || work(current));
        }
        while current.iter().any(|current| current.lock().is_some()) {
            thread::sleep(Duration::from_millis(10));
            for (seed, since) in current.iter().filter_map(|current| *current.lock()) {
                if since.elapsed() > STUCK {
                    // The run cannot be ended, so the process has to exit.
                    eprintln!("GSB_SIM_RUNS=1 GSB_SIM_SEED={seed} is stuck");
                    std::process::abort();
                }
            }
        }
    });
    let mut failed = failed.into_inner();
    failed.sort_by_key(|run| run.seed.wrapping_sub(first));
    (failed, reached.into_inner())
}

#[test]
fn whatever_happens_the_promises_hold() {
    let runs = setting("GSB_SIM_RUNS").unwrap_or(2000);
    let seed = setting("GSB_SIM_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
    println!("GSB_SIM_RUNS={runs} GSB_SIM_SEED={seed}");
    let (failed, reached) = run_all(seed, runs);
    let Some(first) = failed.first() else {
        let rare = RARELY_REACHED.iter().filter(|_| runs >= 20_000);
        let expected = TO_REACH.iter().filter(|_| runs >= 1000).chain(rare);
        let missed: Vec<_> = expected.filter(|it| !reached.contains(**it)).collect();
        assert!(missed.is_empty(), "never came to: {missed:?}");
        return;
    };
    println!("{}", first.trace.join("\n"));
    for run in &failed {
        println!("GSB_SIM_RUNS=1 GSB_SIM_SEED={}: {}", run.seed, run.problems.join("; "));
    }
    panic!("the seed {} breaks a promise: {}", first.seed, first.problems[0]);
}

#[test]
fn a_run_repeats_itself() {
    let first = setting("GSB_SIM_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
    println!("GSB_SIM_SEED={first}");
    for seed in (0..20).map(|at| first.wrapping_add(at)) {
        let (once, again) = (run(seed), run(seed));
        let mut lines = once.trace.iter().zip(&again.trace);
        if let Some(line) = lines.position(|(one, other)| one != other) {
            let around = |trace: &[String]| trace[line.saturating_sub(20)..=line].join("\n");
            let (once, again) = (around(&once.trace), around(&again.trace));
            panic!("the seed {seed} brings\n{once}\nand then\n{again}");
        }
        assert_eq!(once.trace.len(), again.trace.len(), "seed {seed}");
    }
}
