//! However many connections were there and have gone, each with a name, a subscription and an open call, in
//! an orderly way or not: nothing of them stays. Rules CO-6 to CO-8.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use gsb_proto::messages::*;
use gsb_proto::{Framing, MessageKind};
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess};

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// How many are there at the same time, at most.
const CROWD: usize = 50;

/// How much memory an allocator may keep for the next time, in bytes.
const KEPT: u64 = 4 << 20;

/// Comes with all that a connection may have.
async fn come(router: &RouterProcess, number: usize) -> Peer {
    let framing = if number % 4 < 2 { Framing::Packet } else { Framing::Classic };
    let mut peer = Peer::silent(&router.addresses[number % 2], framing).await;
    let service_id = format!("/guest/{number}");
    let topic = format!("guests/{number}/*");
    // What it calls is itself, and never answers.
    let (address, request_id) = (service_id.clone(), "open".to_owned());
    peer.send(RegisterRequest { service_id }).await;
    peer.send(SubscribeRequest { topic }).await;
    peer.send(CallRequest { address, request_id, ..Default::default() }).await;
    peer
}

/// Waits until the router has done what it was asked for.
async fn arrive(peer: &mut Peer) {
    while peer.next().await.expect("not the end").kind != MessageKind::CallRequest {}
}

async fn come_and_go(count: usize) {
    let router = RouterProcess::isolated(ROUTER, ["--drain-timeout", "1h"]).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    let mut crowd = Vec::new();
    // What the first need, the others find: the start is behind them.
    for number in 0..CROWD {
        crowd.push(come(&router, number).await);
    }
    for peer in &mut crowd {
        arrive(peer).await;
    }
    crowd.clear();
    let before = background_calls.worst;
    background_calls.call().await;
    let start = router.usage();
    let mut come_so_far = CROWD;
    while come_so_far < count {
        for number in come_so_far..come_so_far + CROWD {
            crowd.push(come(&router, number).await);
        }
        come_so_far += CROWD;
        for (number, mut peer) in crowd.drain(..).enumerate() {
            match number % 3 {
                // Goes at once, with answers on their way to it.
                0 => {}
                1 => arrive(&mut peer).await,
                _ => {
                    arrive(&mut peer).await;
                    peer.hang_up().await;
                }
            }
        }
        background_calls.call().await;
    }
    println!(
        "{come_so_far} came and went; a call beside took {:?}",
        background_calls.worst.max(before)
    );
    router.wait_for_usage(start, KEPT).await;
    router.stop().await;
}

#[tokio::test]
async fn three_thousand() {
    come_and_go(3_000).await;
}

#[tokio::test]
#[ignore = "takes longer than ten seconds"]
async fn a_hundred_thousand() {
    come_and_go(100_000).await;
}
