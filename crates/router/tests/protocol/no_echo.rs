//! A publisher that asks not to receive its own broadcasts. Rule TO-9.

use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{Peer, TestRouter};

#[tokio::test]
async fn a_publisher_that_asks_for_no_echo_gets_none() {
    let router = TestRouter::start().await;
    let mut listener = Peer::connect(&router.tcp, Framing::Classic).await;
    assert_eq!(listener.subscribe("news").await, 0);
    for no_echo in [true, false] {
        let mut sender = Peer::silent(&router.unix, Framing::Packet).await;
        sender.send(Hello { no_echo, ..Default::default() }).await;
        // The router always announces that it supports this.
        assert!(sender.expect::<Hello>().await.no_echo);
        assert_eq!(sender.subscribe("news").await, 0);

        sender.broadcast("news", "own").await;
        assert_eq!(sender.expect::<BroadcastReply>().await.code, 0);
        if !no_echo {
            assert_eq!(sender.expect::<BroadcastRequest>().await.data, "own");
        }
        sender.expect_nothing().await;
        assert_eq!(listener.expect::<BroadcastRequest>().await.data, "own");

        listener.broadcast("news", "other").await;
        assert_eq!(listener.expect::<BroadcastReply>().await.code, 0);
        // The classic framing has no Hello to ask with.
        assert_eq!(listener.expect::<BroadcastRequest>().await.data, "other");
        assert_eq!(sender.expect::<BroadcastRequest>().await.data, "other");
    }
    router.stop().await;
}
