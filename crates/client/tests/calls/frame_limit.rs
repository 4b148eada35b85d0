//! A message that is larger than the router accepts fails, and has no effect on other messages. Rule CO-19.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use gsb_client::{Bus, Call, Connection, Error, Failure, Framing, Status};
use gsb_proto::messages::{CallRequest, Hello, RegisterReply, RegisterRequest};
use gsb_router::RouterConfig;
use gsb_testkit::{FakeRouter, TestRouter, within};
use tokio::sync::Notify;

const LIMIT: usize = 1 << 20;

fn large() -> Bytes {
    vec![7; 2 * LIMIT].into()
}

fn check(error: Error, expected: usize) {
    match error {
        Error::TooLarge { length, limit } => {
            assert!((2 * LIMIT..2 * LIMIT + 1000).contains(&length), "{length}");
            assert_eq!(limit, expected);
        }
        other => panic!("{other}"),
    }
}

/// Waits until the bus has a router.
async fn is_connected(bus: &Bus) {
    let is_it = |status: &Status| matches!(status.connection, Connection::Connected(_));
    within("a connection", bus.watch().wait_for(is_it)).await.unwrap();
}

#[tokio::test]
async fn one_message_fails_and_everything_else_goes_on() {
    let config = RouterConfig { max_frame: LIMIT, ..RouterConfig::default() };
    let router = TestRouter::with(config).await;
    let service = Bus::connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.tcp).await.unwrap();
    let release = Arc::new(Notify::new());
    let handler = {
        let release = release.clone();
        move |call: Call| {
            let release = release.clone();
            async move {
                match call.address.as_str() {
                    "/s/large" => return Ok(large()),
                    "/s/failure" => return Err(Failure::new("x".repeat(2 * LIMIT))),
                    "/s/slow" => release.notified().await,
                    _ => {}
                }
                Ok(call.data)
            }
        }
    };
    let _s = service.register("/s", handler).await.unwrap();
    let items =
        |_: Call| stream::iter([Ok(Bytes::from_static(b"small")), Ok(large()), Ok(Bytes::new())]);
    let _items = service.register_stream("/items", items).await.unwrap();
    let mut events = service.subscribe("/topic").await.unwrap();

    // These stay open during the test; they would end with either connection.
    let slow = |from: &Bus| {
        let from = from.clone();
        tokio::spawn(async move { from.call("/s/slow", "slow").await })
    };
    let in_other_process = Bus::connect(&router.unix).await.unwrap();
    let open = [slow(&caller), slow(&in_other_process)];
    within("both", async {
        while router.status.usage().open_calls < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    check(caller.call("/s", large()).await.unwrap_err(), LIMIT);
    check(caller.push("/s", large()).await.unwrap_err(), LIMIT);
    check(caller.stream("/items", large()).await.unwrap_err(), LIMIT);
    check(caller.broadcast("/topic", large()).await.unwrap_err(), LIMIT);
    for address in ["/s/large", "/s/failure"] {
        match caller.call(address, "").await.unwrap_err() {
            Error::ServiceFailure { message, .. } => {
                let names = message.contains("2097") && message.contains(&LIMIT.to_string());
                assert!(names, "{message}");
            }
            other => panic!("{other}"),
        }
    }
    let mut replies = caller.stream("/items", "").await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), "small");
    let error = replies.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ServiceFailure { .. }), "{error}");
    assert!(replies.next().await.is_none());

    // A message of exactly the limit is sent.
    let fits = Bytes::from(vec![7; LIMIT - 200]);
    assert_eq!(caller.call("/s", fits.clone()).await.unwrap(), fits);
    caller.broadcast("/topic", fits.clone()).await.unwrap();
    let event = within("the event", events.next()).await.unwrap().unwrap();
    assert_eq!(event.data, fits, "an event that was too large was announced here or there");
    release.notify_waiters();
    for call in open {
        assert_eq!(within("a reply", call).await.unwrap().unwrap(), "slow");
    }
    let closes = router.status.counters().closes;
    assert!(!closes.contains_key("frame too large"), "{closes:?}");
    router.stop().await;
}

// The bus may have a lower limit of its own. With the classic framing it is the only one.
#[tokio::test]
async fn the_lower_limit_holds() {
    let config = RouterConfig { max_frame: LIMIT, ..RouterConfig::default() };
    let router = TestRouter::with(config).await;
    let small = Bus::builder().max_frame(1 << 16).connect(&router.unix).await.unwrap();
    check(small.push("/s", large()).await.unwrap_err(), 1 << 16);
    let classic = Bus::builder().framing(Framing::Classic).max_frame(LIMIT);
    let classic = classic.connect(&router.unix).await.unwrap();
    check(classic.push("/s", large()).await.unwrap_err(), LIMIT);
    router.stop().await;
}

// If the router does not state its limit, only the limit of the bus applies.
#[tokio::test]
async fn nothing_is_refused_beforehand_where_the_router_says_nothing() {
    let fake = FakeRouter::start().await;
    let bus = Bus::builder().max_frame(100 << 20).connect_lazy(fake.address.clone()).unwrap();
    let mut router = fake.accept().await;
    is_connected(&bus).await;
    let large = Bytes::from(vec![7; 70 << 20]);
    let (pushed, call) =
        tokio::join!(bus.push("/s", large.clone()), router.expect::<CallRequest>());
    pushed.unwrap();
    assert_eq!(call.data.len(), large.len());
}

// The limit belongs to the connection: the next router may have another.
#[tokio::test]
async fn a_name_that_does_not_fit_is_refused_here() {
    let fake = FakeRouter::start().await;
    let bus = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let small = Hello { max_frame: 500, level: 1, ..Hello::default() };
    let long = "x".repeat(1000);
    let echo = |call: Call| async move { Ok(call.data) };
    // Kept until the bus is connected.
    let _kept = bus.register(&format!("kept/{long}"), echo).await.unwrap();
    let mut router = fake.accept_with(small.clone()).await;
    is_connected(&bus).await;
    let refused = bus.status().refused;
    let errors: Vec<_> = refused.iter().map(|name| &name.error).collect();
    assert!(matches!(errors[..], [Error::TooLarge { limit: 500, .. }]), "{errors:?}");
    let error = bus.register(&long, echo).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 500, .. }), "{error}");
    let error = bus.subscribe(&long).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 500, .. }), "{error}");
    assert!(matches!(bus.status().connection, Connection::Connected(_)));
    // Only the message that fits reaches the router.
    let (short, ()) = tokio::join!(bus.register("short", echo), async {
        assert_eq!(router.expect::<RegisterRequest>().await.service_id, "short");
        router.send(RegisterReply::default()).await;
    });
    let _short = short.unwrap();
    drop(router);
    let mut router = fake.accept().await;
    for name in [format!("kept/{long}"), "short".to_owned()] {
        assert_eq!(router.expect::<RegisterRequest>().await.service_id, name);
        router.send(RegisterReply::default()).await;
    }
    within("all names", bus.settled()).await.unwrap();
    assert!(bus.status().refused.is_empty());
}
