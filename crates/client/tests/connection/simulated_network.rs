//! Router and clients run over a network within the process, on one thread and with a paused clock: a run with the same
//! seed is the same.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, FuturesUnordered};
use futures::{StreamExt as _, TryStreamExt as _};
use gsb_client::{Bus, Call, Error};
use gsb_net::memory::{Conditions, Network};
use gsb_router::{Router, RouterConfig, RouterStatus};
use gsb_testkit::within;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const ADDRESS: &str = "tcp://127.0.0.1:1";

fn start_router(network: &Network) -> (JoinHandle<()>, RouterStatus) {
    let listener = network.listen().unwrap();
    let router = Router::bind_memory(RouterConfig::default(), listener).unwrap();
    let status = router.status();
    (tokio::spawn(router.run()), status)
}

async fn connect(network: &Network) -> Result<Bus, Error> {
    Bus::builder().reconnect(None).network(network.clone()).connect(ADDRESS).await
}

/// Runs a future on its own runtime, without I/O.
fn simulate<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Uses each kind of request once, and makes many calls at once. Returns a log with times.
async fn scenario(seed: u64) -> Vec<(usize, Duration)> {
    let start = Instant::now();
    let mut done = Vec::new();
    let network = Network::new(seed, Conditions { capacity: 1000, ..Conditions::default() });
    let (router, _) = start_router(&network);
    let provider = connect(&network).await.unwrap();
    let caller = connect(&network).await.unwrap();
    done.push((0, start.elapsed()));

    let echo = |call: Call| async move { Ok(call.data) };
    let _echo = provider.register("/echo", echo).await.unwrap();
    let payload = Bytes::from(vec![7; 10_000]);
    assert_eq!(caller.call("/echo", payload.clone()).await.unwrap(), payload);
    done.push((0, start.elapsed()));

    let count = |_: Call| stream::iter((0..100).map(|n| Ok(Bytes::from(format!("item {n}")))));
    let _count = provider.register_stream("/count", count).await.unwrap();
    let items: Vec<_> = caller.stream("/count", "").await.unwrap().try_collect().await.unwrap();
    assert_eq!(items, (0..100).map(|n| format!("item {n}")).collect::<Vec<_>>());
    done.push((0, start.elapsed()));

    let mut events = provider.subscribe("news/*").await.unwrap();
    caller.broadcast("news/today", "event").await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().data, "event");
    done.push((0, start.elapsed()));

    // Many calls at once, so that the log shows their order.
    let mut calls: FuturesUnordered<_> = (0..100)
        .map(|n| {
            let from = if n % 2 == 0 { &caller } else { &provider };
            from.call("/echo", vec![7; 50 * n])
        })
        .collect();
    while let Some(reply) = calls.next().await {
        done.push((reply.unwrap().len(), start.elapsed()));
    }
    drop(calls);

    // The first Pings go out, and their Pongs come.
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(network.connections(), 2);
    drop(events);
    caller.close().await;
    provider.close().await;
    router.abort();
    done
}

#[test]
fn the_same_seed_takes_the_same_time() {
    let run = |seed| simulate(scenario(seed));
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(0), run(1));
}

// When a router is killed, all its connections end, also those that it has not accepted. Another router can listen in
// its place.
#[test]
fn the_end_of_a_router_is_seen_by_all() {
    simulate(async {
        let network = Network::new(1, Conditions::default());
        let (router, status) = start_router(&network);
        let first = connect(&network).await.unwrap();
        let second = connect(&network).await.unwrap();
        assert_eq!(status.usage().connections, 2);
        let _unaccepted = network.connect().await.unwrap();
        router.abort();
        assert!(router.await.unwrap_err().is_cancelled());
        assert_eq!(network.connections(), 0);
        for bus in [&first, &second] {
            let lost = within("the end", bus.closed()).await;
            assert!(matches!(lost, Err(Error::ConnectionLost(_))));
        }
        assert_eq!(status.usage(), Default::default());

        assert!(matches!(connect(&network).await, Err(Error::Connect { .. })));
        let (_router, _) = start_router(&network);
        connect(&network).await.unwrap();
    });
}

#[test]
fn a_cut_is_seen_by_both_ends() {
    simulate(async {
        let network = Network::new(1, Conditions::default());
        let (_router, status) = start_router(&network);
        let bus = connect(&network).await.unwrap();
        network.cut_all();
        assert!(within("the end", bus.closed()).await.is_err());
        assert_eq!(status.usage(), Default::default());
    });
}
