//! Clients that lose the same router reconnect soon after it is back, spread over time, and with pauses between their
//! attempts. The clock is simulated, so that each run is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use gsb_client::{Bus, Call, Connection, Status, StatusWatch};
use gsb_net::memory::{Conditions, Network};
use gsb_router::{Router, RouterConfig, RouterStatus};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const CLIENTS: usize = 100;

const SECOND: Duration = Duration::from_secs(1);

/// How long the router is away.
const AWAY: Duration = Duration::from_secs(120);

/// The longest pause by default.
const LONGEST: Duration = Duration::from_secs(30);

/// The longest time to connect on this network, the Hello included.
const SLACK: Duration = Duration::from_millis(100);

fn start_router(network: &Network) -> (JoinHandle<()>, RouterStatus) {
    let listener = network.listen().unwrap();
    let router = Router::bind_memory(RouterConfig::default(), listener).unwrap();
    let status = router.status();
    (tokio::spawn(router.run()), status)
}

/// The times, since `start`, at which a client tries to connect until it succeeds.
async fn attempts(mut watch: StatusWatch, start: Instant) -> Vec<Duration> {
    let mut attempts = Vec::new();
    loop {
        match watch.changed().await.unwrap().connection {
            Connection::Connecting { failures } => {
                attempts.push(start.elapsed());
                // The first attempt comes after what counts as the first failure.
                assert_eq!(attempts.len(), usize::try_from(failures).unwrap(), "one was missed");
            }
            Connection::Connected(_) => return attempts,
            _ => {}
        }
    }
}

/// The largest number of attempts in a hundredth of a second.
fn most_at_once(times: impl Iterator<Item = Duration>) -> usize {
    let mut slots = BTreeMap::new();
    for time in times {
        *slots.entry(time.as_millis() / 10).or_insert(0) += 1;
    }
    slots.into_values().max().unwrap_or(0)
}

async fn storm(seed: u64) -> Vec<Vec<Duration>> {
    fastrand::seed(seed);
    // Never at once, so that the watcher sees each attempt.
    let delay = Duration::from_millis(1)..=Duration::from_millis(5);
    let network = Network::new(seed, Conditions { delay, ..Conditions::default() });
    let (router, _) = start_router(&network);
    let mut buses = Vec::new();
    for number in 0..CLIENTS {
        let builder = Bus::builder().network(network.clone());
        let bus = builder.connect("tcp://127.0.0.1:1").await.unwrap();
        let handler = |_: Call| async { Ok("") };
        bus.register(&format!("/s/{number}"), handler).await.unwrap().detach();
        buses.push(bus);
    }
    tokio::time::sleep(SECOND).await;

    let start = Instant::now();
    let watched =
        buses.iter().map(|bus| tokio::spawn(attempts(bus.watch(), start))).collect::<Vec<_>>();
    // All clients watch before the router ends.
    tokio::task::yield_now().await;
    router.abort();
    let _ = router.await;
    tokio::time::sleep_until(start + AWAY).await;
    let (_router, status) = start_router(&network);
    let attempts = join_all(watched).await;
    let settled = join_all(buses.iter().map(Bus::settled)).await;
    assert!(settled.iter().all(Result::is_ok));
    let back = start.elapsed() - AWAY;
    assert!(back <= LONGEST + SLACK, "back after {back:?}");
    assert_eq!(status.usage().services, CLIENTS);
    attempts.into_iter().map(Result::unwrap).collect()
}

fn simulate<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}

#[test]
fn a_hundred_clients_reconnect_to_a_router_that_is_away_for_two_minutes() {
    for seed in 0..10 {
        let attempts = simulate(storm(seed));
        let all = || attempts.iter().flatten().copied();

        // Up to 100 ms at first, up to 30 s in the end.
        for attempts in &attempts {
            let mut before = Duration::ZERO;
            let mut ceiling = SECOND / 10;
            for &attempt in attempts {
                assert!(attempt - before <= ceiling + SLACK, "{attempts:?}");
                before = attempt;
                ceiling = LONGEST.min(2 * ceiling);
            }
        }
        // In the second minute, each client tries every 15 s or so.
        let late = all().filter(|&time| (60 * SECOND..AWAY).contains(&time));
        let late: Vec<_> = late.collect();
        assert!((CLIENTS * 2..CLIENTS * 8).contains(&late.len()), "{}", late.len());
        let total = all().count();
        assert!((CLIENTS * 8..CLIENTS * 30).contains(&total), "{total}");

        // A tenth of them would come in each slot if the first hundred milliseconds were used evenly.
        let most = most_at_once(all());
        assert!(most <= 25, "{most} of {CLIENTS} at once");
        let most_late = most_at_once(late.iter().copied());
        assert!(most_late <= 5, "{most_late} of {CLIENTS} at once, after a minute");
        // When the router is there again, too.
        let most_back =
            most_at_once(attempts.iter().filter_map(|attempts| attempts.last().copied()));
        assert!(most_back <= 5, "{most_back} of {CLIENTS} are back at once");
        if seed == 0 {
            println!("{total} attempts; {most} at once at first, {most_late} later");
        }
    }
}

#[test]
fn it_is_the_same_each_time() {
    assert!(simulate(storm(1)) == simulate(storm(1)));
}

/// A bus on a network with delays, whose router is started and killed repeatedly.
fn come_and_go(seed: u64) -> (Network, Bus) {
    fastrand::seed(seed);
    let network = Network::new(seed, Conditions::default());
    let bus = Bus::builder().network(network.clone()).connect_lazy("tcp://127.0.0.1:1").unwrap();
    (network, bus)
}

/// Starts a router and waits for the bus; returns how long that took.
async fn back(network: &Network, bus: &Bus) -> (JoinHandle<()>, Duration) {
    let start = Instant::now();
    let (router, _) = start_router(network);
    bus.watch().wait_for(is_connected).await.unwrap();
    (router, start.elapsed())
}

/// Kills a router and waits for the bus to notice.
async fn kill(router: JoinHandle<()>, bus: &Bus) {
    router.abort();
    let _ = router.await;
    bus.watch().wait_for(|status| !is_connected(status)).await.unwrap();
}

fn is_connected(status: &Status) -> bool {
    matches!(status.connection, Connection::Connected(_))
}

// Each router has its own instance id, and is killed at once.
#[test]
fn a_router_in_a_crash_loop_is_left_in_peace() {
    for seed in 0..10 {
        simulate(async {
            let (network, bus) = come_and_go(seed);
            let mut connections = 0;
            let start = Instant::now();
            while start.elapsed() < 60 * SECOND {
                let (router, _) = back(&network, &bus).await;
                connections += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
                kill(router, &bus).await;
            }
            assert!((40..120).contains(&connections), "{connections} connections in a minute");
            // It has recovered.
            let (_router, time) = back(&network, &bus).await;
            assert!(time < 2 * SECOND, "back after {time:?}");
        });
    }
}

#[test]
fn a_router_that_is_restarted_is_connected_to_again_at_once() {
    for seed in 0..10 {
        simulate(async {
            let (network, bus) = come_and_go(seed);
            for _ in 0..10 {
                let (router, time) = back(&network, &bus).await;
                assert!(time <= SECOND / 5, "back after {time:?}");
                tokio::time::sleep(SECOND).await;
                kill(router, &bus).await;
            }
        });
    }
}
