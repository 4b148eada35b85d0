//! A router that is restarted under load: no call fails. Rules CO-17, CO-20.
//!
//! `GSB_RESTARTS` is the number of restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use gsb_client::{Address, Bus, Call, Endpoint, Error, Failure, WeakBus};
use gsb_router::{Router, RouterConfig, ShutdownHandle};
use gsb_testkit::{RouterPlace, within};
use tokio::task::{JoinHandle, JoinSet};

const TIMEOUT: Duration = Duration::from_secs(20);

/// How many calls are made between two restarts, at least.
const CALLS: usize = 300;

async fn start(address: Address) -> (Address, ShutdownHandle, JoinHandle<()>) {
    let config = RouterConfig { listen: vec![address], ..RouterConfig::default() };
    let router = Router::bind(config).await.unwrap();
    let address = router.local_addresses()[0].clone();
    (address, router.shutdown_handle(), tokio::spawn(router.run()))
}

async fn connect(address: &Address) -> Bus {
    Bus::builder().wait_for_router(TIMEOUT).connect(address).await.unwrap()
}

fn endpoint(bus: &Bus, address: &str) -> Endpoint {
    bus.endpoint(address).wait_for_service(TIMEOUT)
}

async fn echo(call: Call) -> Result<Bytes, Failure> {
    tokio::time::sleep(Duration::from_micros(fastrand::u64(0..2000))).await;
    Ok(call.data)
}

/// Calls `/echo`, in part from other tasks.
async fn front(bus: WeakBus, call: Call) -> Result<Bytes, Failure> {
    let echo = endpoint(&bus.upgrade().ok_or("the bus has ended")?, "/echo");
    tokio::time::sleep(Duration::from_micros(fastrand::u64(0..2000))).await;
    let data = call.data.clone();
    let (own, spawned) = (echo.clone(), tokio::spawn(async move { echo.call(data).await }));
    own.call(call.data).await?;
    Ok(spawned.await??)
}

/// What the callers have done.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    calls: AtomicUsize,
}

/// Calls all services until the load is over, or a call fails.
async fn load(bus: Bus, load: Arc<Load>) -> Result<(), Error> {
    let addresses = ["/echo", "/front", "/mixed", "/two"];
    let endpoints = addresses.map(|address| endpoint(&bus, address));
    for number in 0.. {
        if load.is_over.load(Ordering::Relaxed) {
            break;
        }
        let data = number.to_string();
        let endpoint = &endpoints[number % endpoints.len()];
        if endpoint.address() == "/two" {
            let replies: Vec<_> = endpoint.stream(data.clone()).await?.try_collect().await?;
            assert_eq!(replies, [data.clone(), data]);
        } else {
            assert_eq!(endpoint.call(data.clone()).await?, data);
        }
        load.calls.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn restart_under_load(address: Address) {
    let restarts = std::env::var("GSB_RESTARTS").map_or(2, |count| count.parse().unwrap());
    let (address, mut stop, mut running) = start(address).await;
    let (service, fronts, mixed) =
        (connect(&address).await, connect(&address).await, connect(&address).await);
    let two = |call: Call| futures::stream::iter([call.data.clone(), call.data].map(Ok));
    let _services = [
        service.register("/echo", echo).await.unwrap(),
        service.register_stream("/two", two).await.unwrap(),
        fronts.register_with("/front", fronts.downgrade(), front).await.unwrap(),
        mixed.register("/mixed", echo).await.unwrap(),
    ];
    let totals = Arc::new(Load::default());
    let mut callers = JoinSet::new();
    // Two processes that only call, and one that serves, too.
    for bus in [connect(&address).await, connect(&address).await, mixed.clone()] {
        for _ in 0..4 {
            callers.spawn(load(bus.clone(), totals.clone()));
        }
    }
    for restart in 0..restarts {
        let begin = totals.calls.load(Ordering::Relaxed);
        let enough = async {
            while totals.calls.load(Ordering::Relaxed) < begin + CALLS {
                tokio::select! {
                    ended = callers.join_next() => panic!("restart {restart}: {ended:?}"),
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                }
            }
        };
        within("calls after a restart", enough).await;
        stop.shutdown();
        within("the end of the router", running).await.unwrap();
        (_, stop, running) = start(address.clone()).await;
    }
    totals.is_over.store(true, Ordering::Relaxed);
    while let Some(caller) = within("the last calls", callers.join_next()).await {
        assert_eq!(caller.unwrap(), Ok(()));
    }
    println!("{} calls, {restarts} restarts", totals.calls.load(Ordering::Relaxed));
    stop.shutdown();
    within("the end of the router", running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_over_a_unix_socket() {
    let place = RouterPlace::empty();
    restart_under_load(place.unix.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_over_tcp() {
    restart_under_load(Address::Tcp { host: "127.0.0.1".into(), port: 0 }).await;
}
