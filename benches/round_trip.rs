//! What a call through a router costs: `cargo bench --bench round_trip`.

#![allow(clippy::unwrap_used)]

use divan::Bencher;
use gsb_client::{Bus, Call};
use gsb_testkit::TestRouter;
use tokio::runtime::{Builder, Runtime};

fn main() {
    divan::main();
}

/// Service, router and caller on one thread: no switches between threads are measured.
fn start(over_tcp: bool) -> (Runtime, TestRouter, Bus, Bus) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (router, service, caller) = runtime.block_on(async {
        let router = TestRouter::start().await;
        let address = if over_tcp { &router.tcp } else { &router.unix };
        let service = Bus::connect(address).await.unwrap();
        let echo = |call: Call| async move { Ok(call.data) };
        service.register("/echo", echo).await.unwrap().detach();
        let caller = Bus::connect(address).await.unwrap();
        (router, service, caller)
    });
    (runtime, router, service, caller)
}

#[divan::bench(args = [64, 8 << 10, 1 << 20])]
fn unix(bencher: Bencher<'_, '_>, payload: usize) {
    round_trip(bencher, false, payload);
}

#[divan::bench(args = [64, 8 << 10, 1 << 20])]
fn tcp(bencher: Bencher<'_, '_>, payload: usize) {
    round_trip(bencher, true, payload);
}

fn round_trip(bencher: Bencher<'_, '_>, over_tcp: bool, payload: usize) {
    let (runtime, _router, _service, caller) = start(over_tcp);
    let data = bytes::Bytes::from(vec![7; payload]);
    bencher.bench_local(|| {
        runtime.block_on(caller.call("/echo", data.clone())).unwrap();
    });
}
