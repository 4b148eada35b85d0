//! The cost of a call within a process and through a router, in time and allocations: `cargo bench --bench calls`.

#![allow(clippy::unwrap_used)]

use divan::{AllocProfiler, Bencher};
use futures::FutureExt as _;
use gsb_client::{Bus, Call, Message, Registration};
use gsb_testkit::TestRouter;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A message whose reply is the same message.
#[derive(Serialize, Deserialize)]
struct Ball {
    number: u64,
    text: String,
}

impl Ball {
    fn new() -> Self {
        Ball { number: 17, text: "a few words".to_owned() }
    }
}

impl Message for Ball {
    const ID: &'static str = "ball";
    type Item = Ball;
    type Error = String;
}

/// Serves bytes and messages below `/echo`.
async fn serve(bus: &Bus) -> [Registration; 2] {
    let bytes = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await;
    let balls = bus.bind("/echo", |ball: Ball| async move { Ok(ball) }).await;
    [bytes.unwrap(), balls.unwrap()]
}

/// A call ends when it is polled for the first time, so it needs no runtime.
mod in_process {
    use super::*;

    fn start() -> (Bus, [Registration; 2]) {
        let bus = Bus::local();
        let services = serve(&bus).now_or_never().unwrap();
        (bus, services)
    }

    #[divan::bench(args = [64, 1 << 20], sample_size = 100)]
    fn bytes(bencher: Bencher<'_, '_>, payload: usize) {
        let (bus, _services) = start();
        let data = bytes::Bytes::from(vec![7; payload]);
        bencher.bench_local(|| bus.call("/echo", data.clone()).now_or_never().unwrap().unwrap());
    }

    /// As in `bytes`, each call names its address.
    #[divan::bench(sample_size = 100)]
    fn typed(bencher: Bencher<'_, '_>) {
        let (bus, _services) = start();
        bencher.with_inputs(Ball::new).bench_local_values(|ball| {
            bus.service("/echo").call(ball).now_or_never().unwrap().unwrap()
        });
    }

    #[divan::bench(sample_size = 100)]
    fn typed_with_a_service_that_is_kept(bencher: Bencher<'_, '_>) {
        let (bus, _services) = start();
        let service = bus.service("/echo");
        bencher
            .with_inputs(Ball::new)
            .bench_local_values(|ball| service.call(ball).now_or_never().unwrap().unwrap());
    }
}

/// Service, router and caller run on one thread, so that no thread switches are measured.
mod through_a_router {
    use super::*;

    struct Setting {
        runtime: Runtime,
        caller: Bus,
        _services: [Registration; 2],
        _router: TestRouter,
    }

    fn start(over_tcp: bool) -> Setting {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (router, services, caller) = runtime.block_on(async {
            let router = TestRouter::start().await;
            let address = if over_tcp { &router.tcp } else { &router.unix };
            let services = serve(&Bus::connect(address).await.unwrap()).await;
            let caller = Bus::connect(address).await.unwrap();
            (router, services, caller)
        });
        Setting { runtime, caller, _services: services, _router: router }
    }

    #[divan::bench(args = [64, 8 << 10, 1 << 20])]
    fn bytes_unix(bencher: Bencher<'_, '_>, payload: usize) {
        bytes(bencher, &start(false), payload);
    }

    #[divan::bench(args = [64, 8 << 10, 1 << 20])]
    fn bytes_tcp(bencher: Bencher<'_, '_>, payload: usize) {
        bytes(bencher, &start(true), payload);
    }

    fn bytes(bencher: Bencher<'_, '_>, setting: &Setting, payload: usize) {
        let data = bytes::Bytes::from(vec![7; payload]);
        bencher.bench_local(|| {
            let call = setting.caller.call("/echo", data.clone());
            setting.runtime.block_on(call).unwrap()
        });
    }

    #[divan::bench]
    fn typed_unix(bencher: Bencher<'_, '_>) {
        let setting = start(false);
        let service = setting.caller.service("/echo");
        bencher
            .with_inputs(Ball::new)
            .bench_local_values(|ball| setting.runtime.block_on(service.call(ball)).unwrap());
    }
}
