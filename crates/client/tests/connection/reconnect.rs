//! After a restart of the router services are called and events are received as before. Requests that waited when the
//! router ended fail at once.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use gsb_client::{
    Announcement, Bus, BusBuilder, Call, Connection, Error, Failure, LostReason, Reconnect, Status,
    Subscription,
};
use gsb_proto::messages::*;
use gsb_testkit::{FakeRouter, RouterPlace, within};
use tokio::sync::mpsc;

/// Reconnects soon, also after many failures.
fn eager() -> BusBuilder {
    let reconnect = Reconnect::default()
        .first_delay(Duration::from_millis(20))
        .longest_delay(Duration::from_millis(20));
    Bus::builder().reconnect(reconnect)
}

async fn echo(call: Call) -> Result<Bytes, Failure> {
    Ok(call.data)
}

fn is_connected(status: &Status) -> bool {
    matches!(status.connection, Connection::Connected(_))
}

async fn until_lost(bus: &Bus) {
    within("the loss", bus.watch().wait_for(|status| !is_connected(status))).await.unwrap();
}

async fn settled(bus: &Bus) {
    within("everything to be restored", bus.settled()).await.unwrap();
}

async fn next(events: &mut Subscription) -> Result<String, Error> {
    let event = within("an event", events.next()).await.unwrap()?;
    Ok(String::from_utf8(event.data.to_vec()).unwrap())
}

#[tokio::test]
async fn services_and_subscriptions() {
    let place = RouterPlace::empty();
    let mut router = place.start().await;
    let bus = eager().connect(&place.unix).await.unwrap();
    let caller = eager().connect(&place.unix).await.unwrap();
    let echo = bus.register("/echo", echo).await.unwrap();
    let gone = bus.register("/gone", |_: Call| async { Ok("") }).await.unwrap();
    let mut events = bus.subscribe("node/*").await.unwrap();
    let mut inside = bus.in_process().subscribe("node/*").await.unwrap();
    let unwanted = bus.subscribe("unwanted").await.unwrap();
    gone.unregister().await.unwrap();
    unwanted.unsubscribe().await.unwrap();
    for round in 0..3 {
        // With and without an ordered shutdown of the router.
        if round % 2 == 0 {
            router.kill().await;
        } else {
            router.stop().await;
        }
        until_lost(&bus).await;
        until_lost(&caller).await;
        assert!(matches!(echo.announcement(), Announcement::Pending));
        router = place.start().await;
        settled(&bus).await;
        settled(&caller).await;
        let usage = router.status.usage();
        assert_eq!((usage.services, usage.subscriptions), (1, 1));
        assert!(matches!(echo.announcement(), Announcement::Confirmed));
        assert_eq!(caller.call("/echo", "again").await.unwrap(), "again");
        caller.broadcast("node/7", round.to_string()).await.unwrap();
        assert!(matches!(next(&mut events).await, Err(Error::ConnectionLost(_))), "a gap");
        assert_eq!(next(&mut events).await.unwrap(), round.to_string());
        // A subscription within the process has no gap.
        bus.in_process().broadcast("node/7", "inside").await.unwrap();
        assert_eq!(next(&mut events).await.unwrap(), "inside");
        assert_eq!(next(&mut inside).await.unwrap(), "inside");
    }
    router.stop().await;
}

#[tokio::test]
async fn requests_without_a_connection_fail_at_once_or_wait() {
    let place = RouterPlace::empty();
    let router = place.start().await;
    let service = eager().connect(&place.unix).await.unwrap();
    let _echo = service.register("/echo", echo).await.unwrap();
    let bus = eager().connect(&place.unix).await.unwrap();
    router.stop().await;
    until_lost(&bus).await;

    // None of these requests waits.
    let unsent = [
        bus.call("/echo", "").now_or_never().unwrap().unwrap_err(),
        bus.stream("/echo", "").now_or_never().unwrap().unwrap_err(),
        bus.push("/echo", "").now_or_never().unwrap().unwrap_err(),
        bus.broadcast("t", "").now_or_never().unwrap().unwrap_err(),
    ];
    for error in unsent {
        assert!(matches!(error, Error::NotSent(_)), "{error}");
    }
    let endpoint = bus.endpoint("/echo").wait_for_router(Duration::from_millis(30));
    let error = within("the end of the wait", endpoint.call("")).await.unwrap_err();
    assert!(matches!(error, Error::NotSent(_)), "{error}");
    // The wait counts towards the timeout, and the error still says that no service has received the call.
    let endpoint = bus
        .endpoint("/echo")
        .wait_for_router(Duration::from_secs(3600))
        .timeout(Duration::from_millis(30));
    let error = within("the timeout", endpoint.call("")).await.unwrap_err();
    assert!(matches!(error, Error::NotSent(_)), "{error}");

    // The service may come back after the caller, so that only the first attempt is sure to wait.
    let wait = Duration::from_secs(3600);
    let (endpoint, pushes) = (bus.endpoint("/echo").wait_for_router(wait), bus.endpoint("/push"));
    let pushes = pushes.wait_for_router(wait);
    let mut waiting = Box::pin(endpoint.call("late"));
    let mut pushing = Box::pin(pushes.push(""));
    assert!(futures::poll!(&mut waiting).is_pending());
    assert!(futures::poll!(&mut pushing).is_pending());
    let router = place.start().await;
    within("the push", pushing).await.unwrap();
    match within("the reply", waiting).await {
        Ok(reply) => assert_eq!(reply, "late"),
        Err(Error::NoSuchService { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    settled(&service).await;
    assert_eq!(endpoint.call("after").await.unwrap(), "after");
    router.stop().await;
}

#[tokio::test]
async fn open_requests_end_with_the_connection() {
    let place = RouterPlace::empty();
    let router = place.start().await;
    let service = eager().connect(&place.unix).await.unwrap();
    let (entered, mut running) = mpsc::unbounded_channel();
    let never = move |_: Call| {
        entered.send(()).unwrap();
        std::future::pending::<Result<Bytes, Failure>>()
    };
    let _never = service.register("/never", never).await.unwrap();
    let bus = eager().connect(&place.unix).await.unwrap();
    let endpoint = bus.endpoint("/never").timeout(None).wait_for_router(Duration::from_secs(3600));
    let mut stream = endpoint.stream("").await.unwrap();
    let call = tokio::spawn(async move { endpoint.call("").await });
    for _ in 0..2 {
        within("the call", running.recv()).await.unwrap();
    }
    router.kill().await;
    // Not sent again: it may have been handled.
    let error = within("the end of the call", call).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost(LostReason::HungUp)), "{error}");
    let error = within("the end of the stream", stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost(LostReason::HungUp)), "{error}");
    assert!(stream.next().await.is_none());
    let router = place.start().await;
    settled(&service).await;
    assert!(running.recv().now_or_never().is_none());
    router.stop().await;
}

#[tokio::test]
async fn names_registered_without_a_connection_are_announced_later() {
    let place = RouterPlace::empty();
    let bus = eager().connect_lazy(&place.unix).unwrap();
    assert!(matches!(bus.status().connection, Connection::Connecting { failures: 0 }));
    for round in 0..2 {
        let (service, pattern) = (format!("/s/{round}"), format!("node/{round}/*"));
        let registration = bus.register(&service, echo).now_or_never().unwrap().unwrap();
        let mut events = bus.subscribe(&pattern).now_or_never().unwrap().unwrap();
        let undone = bus.register("/undone", echo).now_or_never().unwrap().unwrap();
        undone.unregister().now_or_never().unwrap().unwrap();
        let undone = bus.subscribe("undone").now_or_never().unwrap().unwrap();
        undone.unsubscribe().now_or_never().unwrap().unwrap();
        assert!(matches!(registration.announcement(), Announcement::Pending));
        assert!(matches!(events.announcement(), Announcement::Pending));
        assert!(!bus.status().is_settled);
        // Within this process, all names can be used already.
        assert_eq!(bus.call(&service, "here").await.unwrap(), "here");

        let router = place.start().await;
        settled(&bus).await;
        assert!(matches!(registration.announcement(), Announcement::Confirmed));
        assert!(matches!(events.announcement(), Announcement::Confirmed));
        let usage = router.status.usage();
        assert_eq!((usage.services, usage.subscriptions), (1, 1));
        let other = Bus::connect(&place.unix).await.unwrap();
        assert_eq!(other.call(&service, "there").await.unwrap(), "there");
        other.broadcast(&format!("node/{round}/x"), "event").await.unwrap();
        assert_eq!(next(&mut events).await.unwrap(), "event");
        router.stop().await;
        until_lost(&bus).await;
    }
}

// The router may have handled a registration that it has not answered: the name is kept, and restored.
#[tokio::test]
async fn a_request_whose_answer_is_lost_is_made_again() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = tokio::join!(eager().connect(&router.address), router.accept());
    let bus = bus.unwrap();
    let registering = tokio::spawn({
        let bus = bus.clone();
        async move { bus.register("/s", echo).await }
    });
    let RegisterRequest { .. } = peer.expect().await;
    drop(peer);
    let registration = within("the end of the request", registering).await.unwrap().unwrap();
    assert!(matches!(registration.announcement(), Announcement::Pending));
    let mut peer = router.accept().await;
    assert_eq!(peer.expect::<RegisterRequest>().await.service_id, "/s");
    peer.send(RegisterReply::default()).await;
    settled(&bus).await;
    assert!(matches!(registration.announcement(), Announcement::Confirmed));
}

#[tokio::test]
async fn a_bus_that_does_not_reconnect_ends() {
    let place = RouterPlace::empty();
    let router = place.start().await;
    let bus = Bus::builder().reconnect(None).connect(&place.unix).await.unwrap();
    let registration = bus.register("/s", echo).await.unwrap();
    let mut events = bus.subscribe("t").await.unwrap();
    router.stop().await;
    let ended = within("the end", bus.closed()).await;
    assert!(matches!(ended, Err(Error::ConnectionLost(LostReason::Stopping))), "{ended:?}");
    assert_eq!(bus.status().connection, Connection::Closed(LostReason::Stopping));
    assert!(matches!(bus.settled().await, Err(Error::NotSent(LostReason::Stopping))));
    assert!(matches!(next(&mut events).await, Err(Error::ConnectionLost(_))));
    assert!(events.next().await.is_none());
    assert!(matches!(registration.announcement(), Announcement::Ended));
    assert!(matches!(bus.call("/s", "").await, Err(Error::NotSent(_))));

    // A bus that was never connected gives up after the first failure.
    let bus = Bus::builder().reconnect(None).connect_lazy(&place.unix).unwrap();
    let ended = within("the end", bus.closed()).await;
    assert!(
        matches!(ended, Err(Error::ConnectionLost(LostReason::Unreachable { .. }))),
        "{ended:?}"
    );
}

#[tokio::test]
async fn attempts_may_be_limited() {
    let place = RouterPlace::empty();
    let router = place.start().await;
    let reconnect = Reconnect::default().first_delay(Duration::from_millis(5)).attempts(3);
    let connected = Bus::builder().reconnect(reconnect.clone()).connect(&place.unix).await.unwrap();
    router.stop().await;
    let lazy = Bus::builder().reconnect(reconnect).connect_lazy(&place.unix).unwrap();
    for bus in [connected, lazy] {
        until_lost(&bus).await;
        let endpoint = bus.endpoint("/s").wait_for_router(Duration::from_secs(3600));
        let error = within("the end of the call", endpoint.call("")).await.unwrap_err();
        assert!(matches!(error, Error::NotSent(LostReason::Unreachable { .. })), "{error}");
        let ended = within("the end", bus.closed()).await;
        assert!(
            matches!(ended, Err(Error::ConnectionLost(LostReason::Unreachable { .. }))),
            "{ended:?}"
        );
        assert!(matches!(
            bus.status().connection,
            Connection::Closed(LostReason::Unreachable { .. })
        ));
        // Not by itself, at least.
        let error = bus.register("/s", echo).await.unwrap_err();
        assert!(matches!(error, Error::NotSent(_)), "{error}");
    }
}

#[tokio::test]
async fn watchers_see_each_change_of_the_status() {
    // With this seed the pauses are the same in each run, and so long that no change is missed.
    fastrand::seed(4);
    let place = RouterPlace::empty();
    let router = place.start().await;
    let reconnect = Reconnect::default().longest_delay(Duration::from_millis(100));
    let bus = Bus::builder().reconnect(reconnect).connect(&place.unix).await.unwrap();
    let mut watch = bus.watch();
    let Connection::Connected(first) = watch.current().connection else {
        panic!("not connected");
    };
    assert_eq!(first.name, "gsb-router");
    assert!(!first.version.is_empty());
    let mut seen = async || within("a change", watch.changed()).await.unwrap().connection;
    router.stop().await;
    match seen().await {
        Connection::Lost { reason: LostReason::Stopping, retry_in } => {
            assert!(retry_in <= Duration::from_millis(100));
        }
        other => panic!("{other:?}"),
    }
    // An attempt that fails at once may be over before it is seen.
    let failed = |seen: &Connection| {
        matches!(
            seen,
            Connection::Lost { reason: LostReason::Unreachable { .. }, .. }
                | Connection::Connecting { .. }
        )
    };
    for _ in 0..4 {
        let connection = seen().await;
        assert!(failed(&connection), "{connection:?}");
    }
    let router = place.start().await;
    let mut before = Vec::new();
    let second = loop {
        match seen().await {
            Connection::Connected(router) => break router,
            other => before.push(other),
        }
    };
    assert!(before.iter().all(failed), "{before:?}");
    assert!(matches!(before.last(), Some(Connection::Connecting { failures }) if *failures >= 2));
    assert_eq!(second.name, "gsb-router");
    assert_ne!(second.instance_id, first.instance_id, "another run of the router");
    bus.close().await;
    assert_eq!(seen().await, Connection::Closed(LostReason::Closed));
    router.stop().await;
    assert!(watch.changed().await.is_none(), "the bus is gone");
}
