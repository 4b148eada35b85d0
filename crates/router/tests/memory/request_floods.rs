//! The router stops reading from a peer whose unread answers have reached the limit. The peer costs no more memory than
//! the limit, and does not delay calls of others. Rules LI-1, LI-2.

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

/// The most memory of a registered name in bytes: its text twice, and two entries of tables that have just grown.
const NAME: u64 = 256;

/// The most names of a connection (`LI-1`).
const NAMES: u64 = 65_536;

/// Bytes that the router cannot read from a peer that reads no answers: each answer is charged with at least 64 bytes,
/// and no request is longer.
const ENOUGH: u64 = 256 << 20;

/// Floods a router with requests, until the router stops reading.
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
    // A router that still reads would have read some bytes between two calls.
    let sent = background_calls.until_stable(|| sent.load(Ordering::Relaxed)).await;
    assert!(sent < ENOUGH, "the router read everything");
    assert!(!flooding.is_finished());
    let (sent, worst) = (mebibytes(sent), background_calls.worst);
    println!(
        "{what}: the router read {sent} of the flood; the longest background call took {worst:?}"
    );
    router.assert_memory_within(start, LIMIT + kept);
    flooding.abort();
    assert!(flooding.await.unwrap_err().is_cancelled());
    router.wait_for_usage(start, LIMIT + kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_read_until_the_limit() {
    flood("pings", 0, |_| Ping {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_are_read_until_the_limit() {
    let request =
        |number| RegisterRequest { service_id: format!("/flood/{number}"), ..Default::default() };
    flood("registers", NAMES * NAME, request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_are_read_until_the_limit() {
    let request = |number| SubscribeRequest { topic: format!("flood/{number}") };
    flood("subscribes", NAMES * NAME, request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasts_are_read_until_the_limit() {
    let request = |_| BroadcastRequest { topic: "flood".into(), ..Default::default() };
    flood("broadcasts", 0, request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_unknown_services_are_read_until_the_limit() {
    let request = |number: u64| CallRequest {
        address: "/unknown".into(),
        request_id: number.to_string(),
        ..Default::default()
    };
    flood("calls to unknown services", 0, request).await;
}
