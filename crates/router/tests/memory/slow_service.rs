//! Calls that wait for a service which does not read are charged to their callers, so that the router holds no more
//! than the queue limit of each. Their calls to other services go on. Rules LI-2, LI-3; how the waiting calls end:
//! flow/stalled_peers.rs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess, mebibytes};

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// `LI-2`, per connection and purpose.
const LIMIT: u64 = 16 << 20;

const MEBIBYTE: usize = 1 << 20;

fn data() -> String {
    "x".repeat(MEBIBYTE)
}

// Calls of four times the limit wait, three quarters of them at the caller.
#[tokio::test]
async fn for_two_seconds_and_no_call_is_lost() {
    let router = RouterProcess::isolated(ROUTER, ["--drain-timeout", "1h"]).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    let mut service = Peer::connect(router.unix(), Framing::Packet).await;
    let mut caller = Peer::connect(router.tcp(), Framing::Packet).await;
    assert_eq!(service.register("/slow").await, 0);
    background_calls.call().await;
    let start = router.usage();
    let calls = async {
        let data = data();
        for id in 0..64 {
            caller.call("/slow", &id.to_string(), &data).await;
        }
        for id in 0..64 {
            let reply: CallReply = caller.expect().await;
            assert_eq!((reply.request_id, reply.code), (id.to_string(), 0));
        }
    };
    let answers = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        for _ in 0..64 {
            let call: CallRequest = service.expect().await;
            assert_eq!(call.data.len(), MEBIBYTE);
            service.reply(&call.request_id, "").await;
        }
    };
    background_calls.during(async { tokio::join!(calls, answers) }).await;
    println!("64 calls of 1 MiB to one that pauses; {:?} for another call", background_calls.worst);
    // In addition, an unfinished frame.
    router.assert_memory_within(start, LIMIT + 2 * MEBIBYTE as u64);
    drop((service, caller));
    router.stop().await;
}

// With many callers, each may use its limit, and each call ends once.
#[tokio::test]
async fn for_ever_and_each_caller_pays_for_itself() {
    const CALLERS: u64 = 8;
    const QUEUE_LIMIT: u64 = 4 << 20;
    const CALLS: u64 = 12;
    let arguments = ["--queue-limit", "4MiB", "--stall-timeout", "500ms", "--drain-timeout", "1h"];
    let router = RouterProcess::isolated(ROUTER, arguments).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    let mut deaf = Peer::connect(router.unix(), Framing::Packet).await;
    let mut fine = Peer::connect(router.unix(), Framing::Packet).await;
    assert_eq!((deaf.register("/deaf").await, fine.register("/fine").await), (0, 0));
    background_calls.call().await;
    let start = router.usage();
    let data = data();
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = Peer::connect(router.unix(), Framing::Packet).await;
        // Less than the limit, so that its other calls go on.
        for id in 0..3 {
            caller.call("/deaf", &id.to_string(), &data).await;
        }
        caller.call("/fine", "fine", "").await;
        let call: CallRequest = fine.expect().await;
        fine.reply(&call.request_id, "").await;
        let mut answers = Vec::new();
        loop {
            let reply: CallReply = caller.expect().await;
            if reply.request_id == "fine" {
                break;
            }
            answers.push(reply.request_id);
        }
        callers.push((caller, answers));
    }
    // More than the limit, so its sender has to wait.
    let more = async {
        for id in 3..CALLS {
            for (caller, _) in &mut callers {
                caller.call("/deaf", &id.to_string(), &data).await;
            }
        }
    };
    background_calls.during(more).await;
    println!(
        "{CALLERS} callers with {CALLS} calls of 1 MiB each; {:?} for another",
        background_calls.worst
    );
    // In addition, one frame of each caller that waits for room.
    router.assert_memory_within(start, CALLERS * (QUEUE_LIMIT + MEBIBYTE as u64));
    // The calls in its socket buffer end with it; the others have ended before.
    drop(deaf);
    for (mut caller, mut answers) in callers {
        while answers.len() < CALLS as usize {
            let reply: CallReply = caller.expect().await;
            // 400 if the router read the call after the service had gone.
            assert_ne!(reply.code, 0);
            answers.push(reply.request_id);
        }
        caller.expect_nothing().await;
        answers.sort();
        answers.dedup();
        assert_eq!(answers.len(), CALLS as usize, "each call ends once");
    }
    router.stop().await;
}

/// Checks that as many calls of one size as the limit allows are queued, and no more.
async fn queued_calls_of(size: usize) {
    let arguments = ["--stall-timeout", "1h", "--write-timeout", "1h"];
    let router = RouterProcess::isolated(ROUTER, arguments).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    let mut deaf = Peer::connect(router.unix(), Framing::Packet).await;
    assert_eq!(deaf.register("/deaf").await, 0);
    let caller = Peer::connect(router.unix(), Framing::Packet).await;
    background_calls.call().await;
    let start = router.usage();
    let sent = Arc::new(AtomicU64::new(0));
    let flooding = tokio::spawn(flood(caller, size, sent.clone()));
    let sent = background_calls.until_stable(|| sent.load(Ordering::Relaxed)).await;
    assert!(!flooding.is_finished());
    assert!(sent > LIMIT / 2, "less than the limit was read");
    println!("calls of {size} bytes, of which {} were sent:", mebibytes(sent));
    router.assert_memory_within(start, LIMIT);
    flooding.abort();
}

async fn flood(mut caller: Peer, size: usize, sent: Arc<AtomicU64>) {
    let mut bytes = BytesMut::new();
    // More than fits into the limit and the socket buffers, however the frames are charged.
    for id in 0..(48 * MEBIBYTE / size).min(200_000) {
        let call = CallRequest {
            address: "/deaf".into(),
            request_id: id.to_string(),
            data: vec![b'x'; size].into(),
            // The number of pushes is not limited.
            no_reply: true,
            ..Default::default()
        };
        assert!(call.into_frame().encode(Framing::Packet, &mut bytes));
    }
    // With longer writes, the router receives more of them in one read.
    for chunk in bytes.chunks(256 << 10) {
        caller.send_bytes(chunk).await;
        sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_size_of_the_calls() {
    for size in [100, 15 << 10, 50 << 10, 66 << 10, 130 << 10, 1 << 20] {
        queued_calls_of(size).await;
    }
}
