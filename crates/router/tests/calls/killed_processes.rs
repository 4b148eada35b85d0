//! A process that is killed amid a thousand calls leaves nothing in the router: each call to it ends once, its own
//! calls are removed, and its memory and descriptors are freed. Rules CO-6 to CO-8, CA-7. A service that has just begun
//! to answer: killed_service.rs.
//!
//! The processes that are killed run this test program.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::HashSet;

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess, Spawned};
use tokio::process::Command;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");
const BUS: &str = "TEST_KILLED_BUS";

/// Open calls.
const CALLS: usize = 1000;

/// Memory in bytes that an allocator may keep after it was freed.
const KEPT: u64 = 4 << 20;

fn bus() -> Option<Address> {
    Some(std::env::var(BUS).ok()?.parse().unwrap())
}

/// Not a test: answers each call with a stream that does not end.
#[tokio::test]
#[ignore = "a process that the tests kill"]
async fn service() {
    let Some(address) = bus() else { return };
    let mut peer = Peer::connect(&address, Framing::Packet).await;
    assert_eq!(peer.register("/killed").await, 0);
    println!("\nready");
    let mut open = Vec::new();
    while open.len() < CALLS {
        open.push(peer.expect::<CallRequest>().await.request_id);
    }
    println!("\nall are open");
    loop {
        for id in &open {
            peer.part(id, "x").await;
        }
    }
}

/// Not a test: makes calls, and reads a part of each stream.
#[tokio::test]
#[ignore = "a process that the tests kill"]
async fn caller() {
    let Some(address) = bus() else { return };
    let mut peer = Peer::connect(&address, Framing::Packet).await;
    for id in 0..CALLS {
        peer.call("/stays", &id.to_string(), "").await;
    }
    for read in 1.. {
        let CallReply { .. } = peer.expect().await;
        if read == CALLS {
            println!("\nall are open");
        }
    }
}

fn start(test: &str, address: &Address) -> Spawned {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args([test, "--exact", "--ignored", "--nocapture"]).env(BUS, address.to_string());
    Spawned::start(&mut command)
}

async fn router() -> (RouterProcess, BackgroundCalls) {
    let router = RouterProcess::isolated(ROUTER, ["--drain-timeout", "1h"]).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    background_calls.call().await;
    (router, background_calls)
}

#[tokio::test]
async fn each_call_to_a_killed_service_ends_once() {
    let (router, mut background_calls) = router().await;
    let start_usage = router.usage();
    for address in &router.addresses {
        let mut service = start("killed_processes::service", address);
        service.line_with("ready").await;
        let mut caller = Peer::connect(router.unix(), Framing::Packet).await;
        for id in 0..CALLS {
            caller.call("/killed", &id.to_string(), "").await;
        }
        service.line_with("all are open").await;
        // In the middle of its streams.
        let CallReply { .. } = caller.expect().await;
        service.kill().await;
        let mut ended = HashSet::new();
        let mut parts = 1;
        while ended.len() < CALLS {
            let reply: CallReply = caller.expect().await;
            if reply.reply_type == 0 {
                assert_eq!((reply.code, reply.reason()), (500, CallReplyReason::ReasonServiceGone));
                assert!(ended.insert(reply.request_id), "each ends once");
            } else {
                assert!(!ended.contains(&reply.request_id), "nothing follows the end");
                parts += 1;
            }
        }
        caller.expect_nothing().await;
        println!("{CALLS} calls ended behind {parts} replies of their streams");
        let mut successor = Peer::connect(router.unix(), Framing::Packet).await;
        assert_eq!(successor.register("/killed").await, 0, "the name is free");
        background_calls.call().await;
    }
    router.wait_for_usage(start_usage, KEPT).await;
    router.stop().await;
}

#[tokio::test]
async fn the_calls_of_a_killed_caller_are_removed() {
    let (router, mut background_calls) = router().await;
    let mut service = Peer::connect(router.unix(), Framing::Packet).await;
    assert_eq!(service.register("/stays").await, 0);
    let start_usage = router.usage();
    for address in &router.addresses {
        let mut caller = start("killed_processes::caller", address);
        let mut open = Vec::new();
        while open.len() < CALLS {
            open.push(service.expect::<CallRequest>().await.request_id);
        }
        let stream = async {
            for id in open.iter().cycle().take(5 * CALLS) {
                service.part(id, "x").await;
            }
            caller.line_with("all are open").await;
            caller.kill().await;
            // The reply for the killed caller.
            for id in open.iter().cycle().take(5 * CALLS) {
                service.part(id, "x").await;
            }
            for id in &open {
                service.reply(id, "").await;
            }
            service.expect_nothing().await;
        };
        background_calls.during(stream).await;
        // A new caller with the same ids gets its own replies.
        let mut newcomer = Peer::connect(address, Framing::Packet).await;
        newcomer.call("/stays", "0", "").await;
        let call: CallRequest = service.expect().await;
        service.reply(&call.request_id, "new").await;
        assert_eq!(newcomer.expect::<CallReply>().await.data, "new");
    }
    router.wait_for_usage(start_usage, KEPT).await;
    router.stop().await;
}
