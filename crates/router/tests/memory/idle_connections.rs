//! An idle connection needs little memory, and does not slow down other connections.

use std::time::Duration;

use gsb_proto::Framing;
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess, raise_descriptor_limit};

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// The most memory of an idle connection in bytes: its task, timer, account and registry entries. Without optimization
/// a task needs more.
const EACH: u64 = if cfg!(debug_assertions) { 16 << 10 } else { 8 << 10 };

async fn idle_connections(count: u64) {
    raise_descriptor_limit();
    let arguments = ["--max-connections", "20000"];
    let router = RouterProcess::isolated(ROUTER, arguments).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    background_calls.call().await;
    let start = router.usage();
    let mut crowd = Vec::new();
    for number in 0..count {
        let address = &router.addresses[(number % 2) as usize];
        let framing = if number % 4 < 2 { Framing::Packet } else { Framing::Classic };
        crowd.push(Peer::connect(address, framing).await);
    }
    let each = (router.usage().resident.saturating_sub(start.resident)) / count;
    background_calls.worst = Duration::ZERO;
    for _ in 0..100 {
        background_calls.call().await;
    }
    println!(
        "{count} idle connections: {each} bytes each; a call took {:?}",
        background_calls.worst
    );
    router.assert_memory_within(start, count * EACH);
    drop(crowd);
    router.wait_for_usage(start, count * EACH).await;
}

#[tokio::test]
async fn five_hundred_connections_are_cheap() {
    idle_connections(500).await;
}

#[tokio::test]
#[ignore = "takes longer than ten seconds, and 10,000 descriptors"]
async fn ten_thousand_connections_are_cheap() {
    idle_connections(10_000).await;
}
