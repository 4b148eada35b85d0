//! A connection with a name, a subscription and an open call leaves nothing behind, whether it ends properly or not.
//! Rules CO-6 to CO-8.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use gsb_proto::messages::*;
use gsb_proto::{Framing, MessageKind};
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess};

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// The most connections at the same time.
const CROWD: usize = 50;

/// Memory in bytes that an allocator may keep after it was freed.
const KEPT: u64 = 4 << 20;

/// Makes a connection with everything that it can have.
async fn connect(router: &RouterProcess, number: usize) -> Peer {
    let framing = if number % 4 < 2 { Framing::Packet } else { Framing::Classic };
    let mut peer = Peer::silent(&router.addresses[number % 2], framing).await;
    let service_id = format!("/guest/{number}");
    let topic = format!("guests/{number}/*");
    // It calls itself, and never answers.
    let (address, request_id) = (service_id.clone(), "open".to_owned());
    peer.send(RegisterRequest { service_id, ..Default::default() }).await;
    peer.send(SubscribeRequest { topic }).await;
    peer.send(CallRequest { address, request_id, ..Default::default() }).await;
    peer
}

/// Waits until the router has handled all requests.
async fn wait_until_handled(peer: &mut Peer) {
    while peer.next().await.expect("an open connection").kind != MessageKind::CallRequest {}
}

async fn connect_and_end(count: usize) {
    let router = RouterProcess::isolated(ROUTER, ["--drain-timeout", "1h"]).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    let mut crowd = Vec::new();
    // The first connections make the router allocate what the others use again.
    for number in 0..CROWD {
        crowd.push(connect(&router, number).await);
    }
    for peer in &mut crowd {
        wait_until_handled(peer).await;
    }
    crowd.clear();
    let before = background_calls.worst;
    background_calls.call().await;
    let start = router.usage();
    let mut come_so_far = CROWD;
    while come_so_far < count {
        for number in come_so_far..come_so_far + CROWD {
            crowd.push(connect(&router, number).await);
        }
        come_so_far += CROWD;
        for (number, mut peer) in crowd.drain(..).enumerate() {
            match number % 3 {
                // Ends at once, with answers on their way to it.
                0 => {}
                1 => wait_until_handled(&mut peer).await,
                _ => {
                    wait_until_handled(&mut peer).await;
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
async fn three_thousand_connections_leave_nothing() {
    connect_and_end(3_000).await;
}

#[tokio::test]
#[ignore = "takes longer than ten seconds"]
async fn a_hundred_thousand_connections_leave_nothing() {
    connect_and_end(100_000).await;
}
