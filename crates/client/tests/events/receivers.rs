//! How many receive a broadcast. Rule TO-13.

use futures::StreamExt as _;
use gsb_client::{Bus, Framing};
use gsb_proto::messages::*;
use gsb_testkit::{FakeRouter, TestRouter, within};

#[tokio::test]
async fn within_a_process() {
    let bus = Bus::builder().buffer_limit(200).local();
    assert_eq!(bus.broadcast("t", "").await.unwrap(), Some(0));
    let mut one = bus.subscribe("t").await.unwrap();
    let _two = bus.in_process().subscribe("*").await.unwrap();
    let _other = bus.subscribe("x").await.unwrap();
    for _ in 0..2 {
        assert_eq!(bus.broadcast("t", "").await.unwrap(), Some(2));
        one.next().await.unwrap().unwrap();
    }
    // An event that does not fit into a buffer is not received.
    assert_eq!(bus.topic("t").broadcast(&vec![7_u8; 100]).await.unwrap(), Some(1));
    assert_eq!(bus.in_process().broadcast("t", "").await.unwrap(), Some(0));
}

#[tokio::test]
async fn over_a_router() {
    let router = TestRouter::start().await;
    let connect = async || Bus::connect(&router.unix).await.unwrap();
    let (sender, one, two) = (connect().await, connect().await, connect().await);
    assert_eq!(sender.broadcast("t", "").await.unwrap(), Some(0));
    // Another process counts once, however many subscriptions it has.
    let _others = [
        one.subscribe("t").await.unwrap(),
        one.subscribe("*").await.unwrap(),
        two.subscribe("t").await.unwrap(),
    ];
    assert_eq!(sender.broadcast("t", "").await.unwrap(), Some(2));
    let _own = [
        sender.subscribe("t").await.unwrap(),
        sender.subscribe("t").await.unwrap(),
        sender.in_process().subscribe("t").await.unwrap(),
    ];
    assert_eq!(sender.topic("t").broadcast(&1).await.unwrap(), Some(5));
    assert_eq!(sender.in_process().broadcast("t", "").await.unwrap(), Some(3));
    router.stop().await;
}

// A router of level 0 does not count, and the classic framing is of level 0.
#[tokio::test]
async fn at_level_0() {
    let router = TestRouter::start().await;
    let bus = Bus::builder().framing(Framing::Classic).connect(&router.unix).await.unwrap();
    let _own = bus.subscribe("t").await.unwrap();
    assert_eq!(bus.broadcast("t", "").await.unwrap(), None);
    router.stop().await;

    let router = FakeRouter::start().await;
    for (level, receivers, counted) in
        [(0, None, None), (0, Some(7), None), (1, Some(7), Some(7)), (1, None, None)]
    {
        let hello = Hello { level, no_echo: true, ..Hello::default() };
        let (bus, mut peer) =
            tokio::join!(Bus::connect(&router.address), router.accept_with(hello));
        let bus = bus.unwrap();
        let answer = async {
            let BroadcastRequest { .. } = peer.expect().await;
            peer.send(BroadcastReply { receivers, ..BroadcastReply::default() }).await;
        };
        let (result, ()) = tokio::join!(within("a broadcast", bus.broadcast("t", "")), answer);
        assert_eq!(result.unwrap(), counted);
    }
}
