//! Liveness over real sockets. Rules CO-9 to CO-11. The exact times are tested in gsb-core with a test clock; here only
//! the order of events counts.

use std::time::Duration;

use bytes::BytesMut;
use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_router::RouterConfig;
use gsb_testkit::{Peer, TestRouter};

async fn router() -> TestRouter {
    TestRouter::with(RouterConfig {
        ping_timeout: Some(Duration::from_millis(500)),
        ..Default::default()
    })
    .await
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_then_closed() {
    let router = router().await;
    for framing in [Framing::Packet, Framing::Classic] {
        let mut peer = Peer::connect(&router.unix, framing).await;
        let Ping {} = peer.expect().await;
        assert!(peer.next().await.is_none());
    }
    assert_eq!(router.status.counters().closes["silent"], 2);
    router.stop().await;
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays_connected() {
    let router = router().await;
    let mut peer = Peer::connect(&router.tcp, Framing::Packet).await;
    for _ in 0..3 {
        let Ping {} = peer.expect().await;
        peer.send(Pong {}).await;
    }
    peer.expect_nothing().await;
    router.stop().await;
}

// Rules CO-1, CO-9: every byte counts, and the first five determine the framing.
#[tokio::test]
async fn a_peer_amid_a_frame_is_not_silent() {
    let router = router().await;
    for framing in [Framing::Packet, Framing::Classic] {
        let mut peer = Peer::silent(&router.tcp, framing).await;
        let mut bytes = BytesMut::new();
        let request =
            RegisterRequest { service_id: format!("/{}", "x".repeat(900)), ..Default::default() };
        assert!(request.to_frame().encode(framing, &mut bytes));
        peer.send_bytes(&bytes.split_to(5)).await;
        if framing == Framing::Packet {
            let Hello { .. } = peer.expect().await;
        }
        // For one and a half times as long as a peer may be silent.
        for piece in bytes.chunks(bytes.len().div_ceil(15)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            peer.send_bytes(piece).await;
        }
        let RegisterReply { code, .. } = peer.expect().await;
        assert_eq!(code, 0);
    }
    router.stop().await;
}

#[tokio::test]
async fn a_peer_of_unknown_framing_is_closed_without_a_ping() {
    let router = router().await;
    let mut peer = Peer::silent(&router.tcp, Framing::Packet).await;
    assert!(peer.next().await.is_none());
    router.stop().await;
}
