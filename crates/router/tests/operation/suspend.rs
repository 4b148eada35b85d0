//! A router that was stopped for longer than its patience lasts, as by a debugger or with a machine that
//! slept, first reads what was sent meanwhile, and disconnects nobody who did send. Rules CO-9, LI-10.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use gsb_proto::messages::*;
use gsb_proto::{Framing, MessageKind};
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// How many peers there are.
const PEERS: usize = 20;

/// More than twice the ping timeout.
const STANDSTILL: Duration = Duration::from_millis(2500);

/// Sends Pings until it is told to stop, and reads what comes; returns how many it has sent and got back.
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

/// Peers that keep sending, at a router with this ping timeout.
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

async fn stand_still(router: &RouterProcess) {
    router.process.signal("STOP").await;
    // This is about time, so it takes some.
    tokio::time::sleep(STANDSTILL).await;
    router.process.signal("CONT").await;
}

/// All are there to the end, and have been answered.
async fn end(over: watch::Sender<bool>, pinging: Pinging) {
    over.send(true).unwrap();
    for pinging in pinging {
        let (sent, answered) = pinging.await.expect("nobody was disconnected");
        assert_eq!(sent, answered, "each Ping was answered");
    }
}

#[tokio::test]
async fn those_who_keep_sending_stay() {
    let (router, over, pinging) = start(1).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    let continued = async {
        stand_still(&router).await;
        Instant::now()
    };
    let continued = background_calls.during(continued).await.elapsed();
    println!("the call that was under way ended {continued:.1?} after the standstill");
    // Twice the timeout once more: whoever is in doubt is given up by then.
    background_calls.during(tokio::time::sleep(Duration::from_secs(2))).await;
    end(over, pinging).await;
    router.stop().await;
}

// Whoever stood still may do so again at once.
#[tokio::test]
async fn once_more_at_once() {
    let (router, over, pinging) = start(1).await;
    for _ in 0..3 {
        stand_still(&router).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    end(over, pinging).await;
    router.stop().await;
}

// A timeout that is over in the middle of a standstill that is shorter, however long it is.
#[tokio::test]
#[ignore = "takes longer than ten seconds"]
async fn after_a_long_timeout() {
    let router = RouterProcess::isolated(ROUTER, ["--ping-timeout", "8"]).await;
    let mut peers = Vec::new();
    for number in 0..PEERS {
        peers.push(Peer::connect(&router.addresses[number % 2], Framing::Packet).await);
    }
    // One second before the end of their time, which they spend silent.
    tokio::time::sleep(Duration::from_secs(15)).await;
    router.process.signal("STOP").await;
    for peer in &mut peers {
        peer.send(Ping {}).await;
    }
    tokio::time::sleep(STANDSTILL).await;
    router.process.signal("CONT").await;
    for peer in &mut peers {
        while peer.next().await.expect("not the end").kind != MessageKind::Pong {}
    }
    router.stop().await;
}

// Those who say nothing are asked before they are given up, as ever.
#[tokio::test]
async fn those_who_say_nothing_are_pinged() {
    let router = RouterProcess::isolated(ROUTER, ["--ping-timeout", "1"]).await;
    let mut peers = Vec::new();
    for number in 0..PEERS {
        peers.push(Peer::connect(&router.addresses[number % 2], Framing::Packet).await);
    }
    stand_still(&router).await;
    for peer in &mut peers {
        peer.expect::<Ping>().await;
        peer.send(Pong {}).await;
    }
    for peer in &mut peers {
        peer.send(Ping {}).await;
        while peer.next().await.expect("not the end").kind != MessageKind::Pong {}
    }
    router.stop().await;
}
