//! A new connection with the instance id of a live connection. Rules CO-3, CO-4.

use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{Peer, TestRouter};

fn hello() -> Hello {
    Hello { instance_id: vec![7; 16].into(), ..Default::default() }
}

#[tokio::test]
async fn the_same_peer_takes_its_names_over() {
    let router = TestRouter::start().await;
    for address in [&router.unix, &router.tcp] {
        let mut old = Peer::connect(address, Framing::Packet).await;
        old.send(hello()).await;
        assert_eq!(old.register("/a").await, 0);
        let mut new = Peer::connect(address, Framing::Packet).await;
        // Both in one write: the name is free before the second frame is handled.
        new.send(hello()).await;
        assert_eq!(new.register("/a").await, 0);
        old.expect_close().await;
        new.hang_up().await;
        new.expect_close().await;
    }
    router.stop().await;
}

// The peer of a Unix socket is a user and that of a TCP socket is an address, so they are never the same.
#[tokio::test]
async fn another_peer_is_refused() {
    let router = TestRouter::start().await;
    let mut victim = Peer::connect(&router.unix, Framing::Packet).await;
    victim.send(hello()).await;
    assert_eq!(victim.register("/a").await, 0);
    let mut stranger = Peer::connect(&router.tcp, Framing::Packet).await;
    stranger.send(hello()).await;
    stranger.expect_close().await;
    victim.expect_nothing().await;
    router.stop().await;
}
