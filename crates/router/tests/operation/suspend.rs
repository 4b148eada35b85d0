//! A router that was suspended for longer than its timeouts, for example by a debugger or with the machine, first reads
//! what arrived meanwhile, and does not close the connections of peers that sent something. Rules CO-9, LI-10.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use gsb_proto::messages::*;
use gsb_proto::{Framing, MessageKind};
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// The number of peers.
const PEERS: usize = 20;

/// More than twice the ping timeout.
const SUSPENSION: Duration = Duration::from_millis(2500);

/// Sends Pings until `over`, and reads the answers; returns how many Pings were sent and answered.
async fn keep_pinging(mut peer: Peer, mut over: watch::Receiver<bool>) -> (usize, usize) {
    let (mut sent, mut answered) = (0, 0);
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = beat.tick(), if !*over.borrow() => {
                peer.send(Ping {}).await;
                sent += 1;
            }
            frame = peer.next_within(Duration::from_secs(20)) => {
                match frame.expect("a frame").kind {
                    MessageKind::Pong => answered += 1,
                    MessageKind::Ping => {}
                    kind => panic!("a {} instead of a Pong", kind.name()),
                }
            }
            _ = over.changed() => {}
        }
        if *over.borrow() && answered == sent {
            return (sent, answered);
        }
    }
}

type Pinging = Vec<JoinHandle<(usize, usize)>>;

/// A router with this ping timeout, and peers that keep sending.
async fn start(seconds: u32) -> (RouterProcess, watch::Sender<bool>, Pinging) {
    let arguments = ["--ping-timeout", &seconds.to_string()];
    let router = RouterProcess::isolated(ROUTER, arguments).await;
    let (over, is_over) = watch::channel(false);
    let mut pinging = Vec::new();
    for number in 0..PEERS {
        let framing = if number % 4 < 2 { Framing::Packet } else { Framing::Classic };
        let peer = Peer::connect(&router.addresses[number % 2], framing).await;
        pinging.push(tokio::spawn(keep_pinging(peer, is_over.clone())));
    }
    (router, over, pinging)
}

async fn suspend(router: &RouterProcess) {
    router.process.signal("STOP").await;
    // The passing of time is what this test is about.
    tokio::time::sleep(SUSPENSION).await;
    router.process.signal("CONT").await;
}

/// Checks that all peers are still connected, and all Pings were answered.
async fn end(over: watch::Sender<bool>, pinging: Pinging) {
    over.send(true).unwrap();
    for pinging in pinging {
        let (sent, answered) = pinging.await.expect("all peers are connected");
        assert_eq!(sent, answered, "each Ping was answered");
    }
}

#[tokio::test]
async fn peers_that_keep_sending_stay_connected() {
    let (router, over, pinging) = start(1).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    let continued = async {
        suspend(&router).await;
        Instant::now()
    };
    let continued = background_calls.during(continued).await.elapsed();
    println!("the call in flight ended {continued:.1?} after the suspension");
    // After twice the timeout, a peer that counts as silent would have been closed.
    background_calls.during(tokio::time::sleep(Duration::from_secs(2))).await;
    end(over, pinging).await;
    router.stop().await;
}

// A second suspension may follow at once.
#[tokio::test]
async fn two_suspensions_may_follow_each_other() {
    let (router, over, pinging) = start(1).await;
    for _ in 0..3 {
        suspend(&router).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    end(over, pinging).await;
    router.stop().await;
}

// A timeout that is longer than the suspension, and would end during it.
#[tokio::test]
#[ignore = "takes longer than ten seconds"]
async fn a_suspension_does_not_count_for_a_longer_timeout() {
    let router = RouterProcess::isolated(ROUTER, ["--ping-timeout", "8"]).await;
    let mut peers = Vec::new();
    for number in 0..PEERS {
        peers.push(Peer::connect(&router.addresses[number % 2], Framing::Packet).await);
    }
    // The peers are silent until one second before the timeout.
    tokio::time::sleep(Duration::from_secs(15)).await;
    router.process.signal("STOP").await;
    for peer in &mut peers {
        peer.send(Ping {}).await;
    }
    tokio::time::sleep(SUSPENSION).await;
    router.process.signal("CONT").await;
    for peer in &mut peers {
        while peer.next().await.expect("an open connection").kind != MessageKind::Pong {}
    }
    router.stop().await;
}

// A silent peer gets a Ping before it is closed, as without a suspension.
#[tokio::test]
async fn silent_peers_are_pinged() {
    let router = RouterProcess::isolated(ROUTER, ["--ping-timeout", "1"]).await;
    let mut peers = Vec::new();
    for number in 0..PEERS {
        peers.push(Peer::connect(&router.addresses[number % 2], Framing::Packet).await);
    }
    suspend(&router).await;
    for peer in &mut peers {
        peer.expect::<Ping>().await;
        peer.send(Pong {}).await;
    }
    for peer in &mut peers {
        peer.send(Ping {}).await;
        while peer.next().await.expect("an open connection").kind != MessageKind::Pong {}
    }
    router.stop().await;
}
