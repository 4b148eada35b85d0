//! One that asks and never reads the answers is not read either, once its answers have reached the limit:
//! whatever it asks, it costs the limit, and the calls of others go on. Rules LI-1 to LI-3.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{BackgroundCalls, RouterProcess, mebibytes};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// `LI-2`, per connection and purpose.
const LIMIT: u64 = 16 << 20;

/// What a name may cost that is kept, beside being in a queue: the text twice and two entries of tables that
/// have just grown. In bytes.
const NAME: u64 = 256;

/// How many names a connection may keep (`LI-1`).
const NAMES: u64 = 65_536;

/// Nobody sends so much and is read all the time, since the answer to each request is charged with 64 bytes
/// at least, and none of these requests is longer.
const ENOUGH: u64 = 256 << 20;

/// Floods a router with what `request` makes of a number, until it reads no more of it.
async fn flood<M: Message>(what: &str, kept: u64, request: impl Fn(u64) -> M + Send + 'static) {
    let router = RouterProcess::isolated(ROUTER, ["--write-timeout", "1h"]).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    background_calls.call().await;
    let start = router.usage();
    let Address::Unix(path) = router.unix().clone() else { panic!("a path") };
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let flooding = tokio::spawn(async move {
        let mut socket = UnixStream::connect(path).await.unwrap();
        let (mut number, mut bytes) = (0, BytesMut::new());
        while count.load(Ordering::Relaxed) < ENOUGH {
            while bytes.len() < 64 << 10 {
                assert!(request(number).to_frame().encode(Framing::Packet, &mut bytes));
                number += 1;
            }
            let written = socket.write_buf(&mut bytes).await.unwrap();
            count.fetch_add(written as u64, Ordering::Relaxed);
        }
    });
    // A router that still read would have read some of it between two calls.
    let sent = background_calls.until_stable(|| sent.load(Ordering::Relaxed)).await;
    assert!(sent < ENOUGH, "all was read");
    assert!(!flooding.is_finished());
    let (sent, worst) = (mebibytes(sent), background_calls.worst);
    println!("{what}: {sent} were read of a flood; the longest call beside it took {worst:?}");
    router.assert_memory_within(start, LIMIT + kept);
    flooding.abort();
    assert!(flooding.await.unwrap_err().is_cancelled());
    router.wait_for_usage(start, LIMIT + kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings() {
    flood("pings", 0, |_| Ping {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registers() {
    let request = |number| RegisterRequest { service_id: format!("/flood/{number}") };
    flood("registers", NAMES * NAME, request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribes() {
    let request = |number| SubscribeRequest { topic: format!("flood/{number}") };
    flood("subscribes", NAMES * NAME, request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasts() {
    let request = |_| BroadcastRequest { topic: "flood".into(), ..Default::default() };
    flood("broadcasts", 0, request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_nobody() {
    let request = |number: u64| CallRequest {
        address: "/nobody".into(),
        request_id: number.to_string(),
        ..Default::default()
    };
    flood("calls to nobody", 0, request).await;
}
