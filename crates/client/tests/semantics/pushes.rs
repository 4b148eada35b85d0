//! Pushes and events, which have no reply.

use futures::{StreamExt as _, stream};
use gsb_client::{Call, Error, Failure};
use gsb_testkit::within;
use tokio::sync::mpsc;

use crate::setup::{Expected, World};

cases!(
    pushes_in_order,
    push_to_no_service,
    push_whose_handler_fails,
    push_to_a_stream,
    event,
    event_headers,
    event_without_subscribers
);

async fn pushes_in_order(world: &World) {
    let (sender, mut received) = mpsc::unbounded_channel();
    let handler = move |call: Call| {
        sender.send((call.wants_reply(), call.data)).unwrap();
        async {}
    };
    let _service = world.service.register_push("/s", handler).await.unwrap();
    for number in 0..100 {
        world.caller.push("/s", number.to_string()).await.unwrap();
    }
    world.caller.flush().await.unwrap();
    for number in 0..100 {
        let (wants_reply, data) = received.recv().await.unwrap();
        assert_eq!(data, number.to_string());
        assert!(!wants_reply);
    }
}

/// A router does not report what became of a push.
const IS_REFUSED: Expected<bool> = Expected {
    in_process: true,
    router: false,
    old_caller: false,
    old_service: false,
    both_old: false,
};

async fn push_to_no_service(world: &World) {
    let pushed = world.caller.push("/s", "").await;
    match world.expect(&IS_REFUSED) {
        true => assert!(matches!(pushed, Err(Error::NoSuchService { .. }))),
        false => assert_eq!(pushed, Ok(())),
    }
}

async fn push_whose_handler_fails(world: &World) {
    let (sender, mut received) = mpsc::unbounded_channel();
    let fails = move |call: Call| {
        sender.send(call.data).unwrap();
        async { Err::<&str, _>(Failure::new("it broke")) }
    };
    let _service = world.service.register("/s", fails).await.unwrap();
    for data in ["one", "two"] {
        world.caller.push("/s", data).await.unwrap();
        assert_eq!(received.recv().await.unwrap(), data);
    }
}

async fn push_to_a_stream(world: &World) {
    let (sender, mut received) = mpsc::unbounded_channel();
    let counts = move |_: Call| {
        let sender = sender.clone();
        stream::iter(0..3).map(move |number| {
            sender.send(number).unwrap();
            Ok(number.to_string())
        })
    };
    let _service = world.service.register_stream("/s", counts).await.unwrap();
    world.caller.push("/s", "").await.unwrap();
    for number in 0..3 {
        assert_eq!(within("an item", received.recv()).await, Some(number));
    }
}

/// How many receive an event with two subscriptions. A router counts their connection, but not for a caller of level 0.
const RECEIVERS: Expected<Option<u32>> = Expected {
    in_process: Some(2),
    router: Some(1),
    old_caller: None,
    old_service: Some(1),
    both_old: None,
};

async fn event(world: &World) {
    let mut all = world.service.subscribe("node/**").await.unwrap();
    let mut one = world.service.subscribe("node/7/status").await.unwrap();
    let receivers = world.caller.broadcast("node/7/status", "up").await.unwrap();
    assert_eq!(receivers, world.expect(&RECEIVERS));
    world.caller.broadcast("node/8/status", "down").await.unwrap();
    world.caller.broadcast("node/7/status", "down").await.unwrap();
    for (subscription, expected) in [
        (&mut all, &[("7", "up"), ("8", "down"), ("7", "down")][..]),
        (&mut one, &[("7", "up"), ("7", "down")]),
    ] {
        for (node, data) in expected {
            let event = subscription.next().await.unwrap().unwrap();
            assert_eq!(
                (event.topic, &event.data),
                (format!("node/{node}/status"), &(*data).into())
            );
        }
    }
}

async fn event_headers(world: &World) {
    let mut events = world.service.subscribe("node/*").await.unwrap();
    let mut typed = world.service.topic::<u32>("typed").subscribe().await.unwrap();
    let publisher = world.caller.publisher("node/7").header("Content-Type", "text/plain");
    publisher.broadcast("up").await.unwrap();
    world.caller.broadcast("node/8", "up").await.unwrap();
    world.caller.topic("typed").header("unit", "K").broadcast(&290_u32).await.unwrap();

    let event = events.next().await.unwrap().unwrap();
    assert_eq!((&event.data[..], &event.topic[..]), (&b"up"[..], "node/7"));
    assert_eq!(event.headers, [("content-type", "text/plain")].into_iter().collect());
    assert!(events.next().await.unwrap().unwrap().headers.is_empty());
    let event = typed.next().await.unwrap().unwrap();
    assert_eq!((event.body, event.headers.text("unit")), (290, Some("K")));
}

async fn event_without_subscribers(world: &World) {
    let receivers = world.caller.broadcast("topic", "").await.unwrap();
    assert_eq!(receivers, world.expect(&RECEIVERS).map(|_| 0));
}
