//! Subscriptions and broadcasts.

use futures::{FutureExt as _, StreamExt as _};
use gsb_client::{Bus, Call, Connection, Error, Framing, LostReason, Subscription};
use gsb_proto::messages::{BroadcastRequest, SubscribeReply, SubscribeRequest};
use gsb_router::{Limits, RouterConfig};
use gsb_testkit::{FakeRouter, TestRouter, within};

async fn next(subscription: &mut Subscription) -> (String, String) {
    let event = within("an event", subscription.next()).await.unwrap().unwrap();
    (event.topic, String::from_utf8(event.data.to_vec()).unwrap())
}

fn pair(topic: &str, data: &str) -> (String, String) {
    (topic.to_owned(), data.to_owned())
}

#[tokio::test]
async fn patterns_on_both_sides_and_both_framings() {
    let router = TestRouter::start().await;
    for framing in [Framing::Packet, Framing::Classic] {
        let builder = Bus::builder().framing(framing).name("/listener");
        let listener = builder.connect(&router.unix).await.unwrap();
        let sender = Bus::builder().name("/sender").connect(&router.tcp).await.unwrap();
        let mut one = listener.subscribe("node/*/status").await.unwrap();
        let mut all = listener.subscribe("node/**").await.unwrap();
        assert_eq!(all.topic(), "node/**");
        sender.broadcast("node/7/status", "up").await.unwrap();
        sender.broadcast("node/7", "x").await.unwrap();
        sender.broadcast("other", "y").await.unwrap();
        sender.broadcast("node/*/status", "z").await.unwrap();
        assert_eq!(next(&mut one).await, pair("node/7/status", "up"));
        assert_eq!(next(&mut one).await, pair("node/*/status", "z"));
        for (topic, data) in [("node/7/status", "up"), ("node/7", "x"), ("node/*/status", "z")] {
            assert_eq!(next(&mut all).await, pair(topic, data));
        }
        // The sender may subscribe, too, and each event names its sender.
        let mut own = sender.subscribe("own").await.unwrap();
        sender.broadcast("own", "").await.unwrap();
        let event = within("an event", own.next()).await.unwrap().unwrap();
        assert_eq!(event.caller, "/sender");
    }
    router.stop().await;
}

// A consumer that is slow while the router drops events and goes away: each gap keeps its kind and its count.
#[tokio::test]
async fn a_full_buffer_keeps_the_kinds_and_counts_of_gaps() {
    let router = FakeRouter::start().await;
    let builder = Bus::builder().buffer_limit(1000);
    let (bus, mut peer) = tokio::join!(builder.connect(&router.address), router.accept());
    let bus = bus.unwrap();
    let confirmed = async {
        let SubscribeRequest { .. } = peer.expect().await;
        peer.send(SubscribeReply::default()).await;
    };
    let (events, ()) = tokio::join!(bus.subscribe("a"), confirmed);
    let mut events = events.unwrap();
    // The first event fills the buffer. No later one fits, and each reports events that the router dropped.
    for missed in [0, 200_000, 300_000, 0, 500_000] {
        let (topic, data) = ("a".to_owned(), vec![0; 1000].into());
        peer.send(BroadcastRequest { topic, data, missed, ..Default::default() }).await;
    }
    peer.expect_nothing_behind().await;
    let mut watch = bus.watch();
    drop(peer);
    let lost = watch.wait_for(|status| matches!(status.connection, Connection::Lost { .. }));
    within("the loss", lost).await.unwrap();
    let mut peer = router.accept().await;
    let SubscribeRequest { .. } = peer.expect().await;
    peer.send(SubscribeReply::default()).await;

    let mut next = async || within("an item", events.next()).await.unwrap();
    assert_eq!(next().await.unwrap().data.len(), 1000);
    let gap = next().await.unwrap_err();
    assert!(matches!(gap, Error::Overflow { missed: 4, .. }), "{gap}");
    let gap = next().await.unwrap_err();
    assert!(matches!(gap, Error::ConnectionLost(LostReason::HungUp)), "{gap}");
    let gap = next().await.unwrap_err();
    assert!(matches!(gap, Error::Missed { count: 1_000_000 }), "{gap}");
    let (topic, data) = ("a".to_owned(), "after".into());
    peer.send(BroadcastRequest { topic, data, ..Default::default() }).await;
    assert_eq!(next().await.unwrap().data, "after");
}

// Answers have no ids, so the client also waits for the answers to requests whose futures were dropped.
#[tokio::test]
async fn a_router_that_never_answers_is_asked_for_a_bounded_number_of_things() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = tokio::join!(Bus::connect(&router.address), router.accept());
    let bus = bus.unwrap();
    let reading = tokio::spawn(async move {
        loop {
            peer.read_bytes(16 << 10).await;
        }
    });
    let topic = "t".repeat(1000);
    let mut given_up = 0;
    let error = loop {
        match bus.broadcast(&topic, "").now_or_never() {
            None => given_up += 1,
            Some(result) => break result.unwrap_err(),
        }
        assert!(given_up < 100_000, "nothing stops it");
        if given_up % 64 == 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(matches!(error, Error::NotSent(LostReason::Unanswered)), "{error}");
    let error = bus.register("/a", |_: Call| async { Ok("") }).await.unwrap_err();
    assert!(matches!(error, Error::NotSent(LostReason::Unanswered)), "{error}");
    let error = bus.flush().await.unwrap_err();
    assert!(matches!(error, Error::NotSent(LostReason::Unanswered)), "{error}");
    // A call has an id, and needs no such limit.
    assert!(bus.call("/b", "").now_or_never().is_none());
    reading.abort();
}

// Rule TO-11: events that the router dropped are reported in their place to each subscription that may have
// missed them.
#[tokio::test]
async fn events_that_the_router_dropped_are_reported() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = tokio::join!(Bus::connect(&router.address), router.accept());
    let bus = bus.unwrap();
    let mut subscriptions = Vec::new();
    for topic in ["a", "b"] {
        let subscribed = async {
            let SubscribeRequest { topic: asked } = peer.expect().await;
            assert_eq!(asked, topic);
            peer.send(SubscribeReply::default()).await;
        };
        let (subscription, ()) = tokio::join!(bus.subscribe(topic), subscribed);
        subscriptions.push(subscription.unwrap());
    }
    let mut inside = bus.in_process().subscribe("a").await.unwrap();
    for (data, missed) in [("1", 0), ("5", 3)] {
        let (topic, data) = ("a".to_owned(), data.into());
        peer.send(BroadcastRequest { topic, data, missed, ..Default::default() }).await;
    }
    let [a, b] = subscriptions.as_mut_slice() else { panic!("two") };
    assert_eq!(next(a).await, pair("a", "1"));
    for subscription in [&mut *a, b] {
        let gap = within("the gap", subscription.next()).await.unwrap().unwrap_err();
        assert!(matches!(gap, Error::Missed { count: 3 }), "{gap}");
    }
    assert_eq!(next(a).await, pair("a", "5"));
    // This subscription has missed no event.
    bus.in_process().broadcast("a", "inside").await.unwrap();
    assert_eq!(next(&mut inside).await, pair("a", "inside"));
}

// The router has a topic once per connection, but a bus may subscribe to it any number of times.
#[tokio::test]
async fn subscribers_of_one_topic_do_not_disturb_each_other() {
    let router = TestRouter::start().await;
    let sender = Bus::connect(&router.unix).await.unwrap();
    let bus = Bus::connect(&router.unix).await.unwrap();
    let (first, second) = tokio::join!(bus.subscribe("t"), bus.subscribe("t"));
    let (mut first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(router.status.usage().subscriptions, 1);
    second.unsubscribe().await.unwrap();
    sender.broadcast("t", "1").await.unwrap();
    assert_eq!(next(&mut first).await, pair("t", "1"));
    drop(first);
    let mut third = bus.subscribe("t").await.unwrap();
    sender.broadcast("t", "2").await.unwrap();
    assert_eq!(next(&mut third).await, pair("t", "2"));
    third.unsubscribe().await.unwrap();
    assert_eq!(router.status.usage().subscriptions, 0);
    router.stop().await;
}

#[tokio::test]
async fn refusals_are_errors_and_leave_nothing_behind() {
    let limits = Limits { subscriptions: 1, ..Default::default() };
    let router = TestRouter::with(RouterConfig { limits, ..Default::default() }).await;
    let sender = Bus::connect(&router.unix).await.unwrap();
    let bus = Bus::connect(&router.unix).await.unwrap();
    assert!(matches!(bus.subscribe("a b").await, Err(Error::Name(_))));
    assert!(matches!(bus.broadcast("", "").await, Err(Error::Name(_))));
    let first = bus.subscribe("a").await.unwrap();
    // Two requests wait for the same answer, and both get it.
    let (x, y) = tokio::join!(bus.subscribe("b"), bus.subscribe("b"));
    for refused in [x, y] {
        let error = refused.unwrap_err();
        assert!(
            matches!(&error, Error::NameRefused { message, .. } if message.contains("--max-subscriptions"))
        );
    }
    first.unsubscribe().await.unwrap();
    let mut second = bus.subscribe("b").await.unwrap();
    sender.broadcast("b", "now").await.unwrap();
    assert_eq!(next(&mut second).await, pair("b", "now"));
    router.stop().await;
}

#[tokio::test]
async fn a_slow_subscriber_is_told_what_it_missed() {
    let router = TestRouter::start().await;
    let sender = Bus::connect(&router.unix).await.unwrap();
    let bus = Bus::builder().buffer_limit(1000).connect(&router.unix).await.unwrap();
    let mut slow = bus.subscribe("t").await.unwrap();
    for number in 0..100 {
        sender.broadcast("t", number.to_string()).await.unwrap();
    }
    // The router sends all events before the answer to this request.
    bus.subscribe("other").await.unwrap().unsubscribe().await.unwrap();
    let mut received = 0;
    let missed = loop {
        match within("an event", slow.next()).await.unwrap() {
            Ok(event) => assert_eq!(event.data, received.to_string()),
            Err(Error::Overflow { missed, .. }) => break missed,
            Err(error) => panic!("{error}"),
        }
        received += 1;
    };
    assert!(received > 0);
    assert_eq!(received + missed, 100);
    sender.broadcast("t", "after").await.unwrap();
    assert_eq!(next(&mut slow).await, pair("t", "after"));
    router.stop().await;
}

#[tokio::test]
async fn a_lost_connection_ends_the_stream_of_events() {
    let router = TestRouter::start().await;
    let bus = Bus::builder().reconnect(None).connect(&router.unix).await.unwrap();
    let mut events = bus.subscribe("t").await.unwrap();
    router.stop().await;
    let error = within("the end", events.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost(_)));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_detached_handler_outlives_its_panics() {
    let bus = Bus::local();
    let (handled, mut seen) = tokio::sync::mpsc::unbounded_channel();
    bus.subscribe("t").await.unwrap().detach(move |event| {
        let handled = handled.clone();
        async move {
            let data = event.unwrap().data;
            assert_ne!(data, "bad", "on purpose");
            handled.send(data).unwrap();
        }
    });
    for data in ["bad", "good"] {
        bus.broadcast("t", data).await.unwrap();
    }
    assert_eq!(within("the second event", seen.recv()).await.unwrap(), "good");
    drop(bus);
    assert!(within("the end", seen.recv()).await.is_none());
}
