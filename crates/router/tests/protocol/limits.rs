//! The limits of one peer, and what happens beyond them.

use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_router::{Limits, Router, RouterConfig, SMALLEST_MAX_FRAME};
use gsb_testkit::{Peer, TestRouter, within};

#[tokio::test]
async fn connections_beyond_the_limit_are_refused() {
    let config = RouterConfig { max_connections: 2, ..Default::default() };
    let router = TestRouter::with(config).await;
    let mut first = Peer::connect(&router.unix, Framing::Packet).await;
    let mut second = Peer::connect(&router.tcp, Framing::Packet).await;
    let mut third = Peer::silent(&router.unix, Framing::Packet).await;
    third.expect_close().await;
    first.expect_nothing().await;
    // A connection that ends makes room.
    second.hang_up().await;
    second.expect_close().await;
    within("a free place", async {
        loop {
            let mut peer = Peer::silent(&router.unix, Framing::Packet).await;
            if peer.try_send(Ping {}).await.is_ok() && peer.next().await.is_some() {
                return;
            }
        }
    })
    .await;
    router.stop().await;
}

#[tokio::test]
async fn a_frame_limit_without_room_for_a_message_is_an_error() {
    for (max_frame, is_usable) in
        [(0, false), (SMALLEST_MAX_FRAME - 1, false), (SMALLEST_MAX_FRAME, true)]
    {
        let listen = vec!["127.0.0.1:0".parse().unwrap()];
        let bound = Router::bind(RouterConfig { listen, max_frame, ..Default::default() }).await;
        assert_eq!(bound.is_ok(), is_usable, "{max_frame}");
        if let Err(error) = bound {
            assert!(error.to_string().contains("at least 1024"), "{error}");
        }
    }
}

// Rule LI-1, over a socket.
#[tokio::test]
async fn counts_are_limited_per_connection() {
    let limits = Limits { services: 1, subscriptions: 1, open_calls: 1, ..Limits::default() };
    let router = TestRouter::with(RouterConfig { limits, ..Default::default() }).await;
    let mut peer = Peer::connect(&router.unix, Framing::Packet).await;
    assert_eq!((peer.register("/a").await, peer.register("/b").await), (0, 400));
    assert_eq!((peer.subscribe("a").await, peer.subscribe("b").await), (0, 400));
    let mut caller = Peer::connect(&router.unix, Framing::Packet).await;
    caller.call("/a", "1", "").await;
    caller.call("/a", "2", "").await;
    let refused: CallReply = caller.expect().await;
    assert_eq!((refused.request_id.as_str(), refused.code), ("2", 400));
    router.stop().await;
}
