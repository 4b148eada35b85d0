//! A call whose future was dropped is cancelled at the router, and no longer counts towards limits. Rules CA-11, CO-18.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use gsb_client::{Bus, Connection, Error, Framing, Status};
use gsb_proto::messages::{CallRequest, CancelCall, Hello, Message, Ping, Pong};
use gsb_router::{Limits, RouterConfig};
use gsb_testkit::{FakeRouter, Peer, TestRouter, within};

/// How many dropped calls to one address may be unanswered at a router that cannot cancel them.
const SHARE: usize = 1024;

/// A router that allows few open calls, a service that does not answer, a service that does, and a caller.
async fn beside_a_dead_service(open_calls: usize) -> (TestRouter, Peer, Bus, Bus) {
    let limits = Limits { open_calls, ..Limits::default() };
    let router = TestRouter::with(RouterConfig { limits, ..RouterConfig::default() }).await;
    let mut dead = Peer::connect(&router.tcp, Framing::Packet).await;
    assert_eq!(dead.register("/dead").await, 0);
    let healthy = Bus::connect(&router.unix).await.unwrap();
    let echo = |call: gsb_client::Call| async move { Ok(call.data) };
    healthy.register("/echo", echo).await.unwrap().detach();
    let caller = Bus::connect(&router.unix).await.unwrap();
    (router, dead, healthy, caller)
}

/// Calls the other service. When the reply is there, the router has handled all frames that were sent before.
async fn echoes(caller: &Bus) {
    let reply = within("a reply", caller.call("/echo", "still here")).await.unwrap();
    assert_eq!(reply, "still here");
}

/// Polls a future once, and drops it.
async fn begin_and_drop(begun: impl Future) {
    let _ = Box::pin(begun).as_mut().now_or_never();
}

#[tokio::test]
async fn calls_that_time_out_do_not_add_up() {
    let (router, mut dead, _healthy, caller) = beside_a_dead_service(3).await;
    let endpoint = caller.endpoint("/dead").timeout(Duration::from_millis(5));
    for _ in 0..10 {
        assert!(matches!(endpoint.call("").await, Err(Error::Timeout { .. })));
        let _: CallRequest = dead.expect().await;
    }
    echoes(&caller).await;
    assert_eq!(router.status.usage().open_calls, 0);
    router.stop().await;
}

#[tokio::test]
async fn whatever_gives_a_call_up_cancels_it() {
    let (router, mut dead, _healthy, caller) = beside_a_dead_service(100).await;
    let ended = async |what: &str| {
        echoes(&caller).await;
        let usage = router.status.usage();
        assert_eq!((usage.open_calls, usage.orphaned_calls), (0, 1), "{what}");
    };
    let finish = async |dead: &mut Peer, id: &str| {
        dead.reply(id, "late").await;
        dead.expect_nothing().await;
        assert_eq!(router.status.usage().orphaned_calls, 0);
    };

    begin_and_drop(caller.call("/dead", "")).await;
    let call: CallRequest = dead.expect().await;
    ended("a dropped call").await;
    finish(&mut dead, &call.request_id).await;

    let mut replies = caller.stream("/dead", "").await.unwrap();
    let call: CallRequest = dead.expect().await;
    dead.part(&call.request_id, "one").await;
    assert_eq!(within("an item", replies.next()).await.unwrap().unwrap(), "one");
    drop(replies);
    ended("a dropped stream").await;
    finish(&mut dead, &call.request_id).await;

    let endpoint = caller.endpoint("/dead").timeout(Duration::from_millis(5));
    let mut replies = endpoint.stream("").await.unwrap();
    let call: CallRequest = dead.expect().await;
    assert!(matches!(replies.next().await, Some(Err(Error::Timeout { .. }))));
    // The stream is kept, but has ended.
    ended("a stream that timed out").await;
    finish(&mut dead, &call.request_id).await;
    drop(replies);

    let answer = tokio::spawn({
        let caller = caller.clone();
        async move { caller.call("/dead", "").await }
    });
    let call: CallRequest = dead.expect().await;
    dead.part(&call.request_id, "one of many").await;
    let error = within("the end", answer).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::IsStream { .. }), "{error}");
    ended("a stream where one reply was expected").await;
    finish(&mut dead, &call.request_id).await;
    router.stop().await;
}

#[tokio::test]
async fn a_stream_that_overflows_is_cancelled() {
    let (router, mut dead, _healthy, _caller) = beside_a_dead_service(100).await;
    let caller =
        Bus::builder().buffer_limit(200).stream_window(1).connect(&router.unix).await.unwrap();
    let mut replies = caller.stream("/dead", "").await.unwrap();
    let call: CallRequest = dead.expect().await;
    for _ in 0..5 {
        dead.part(&call.request_id, &"x".repeat(100)).await;
    }
    dead.expect_nothing().await;
    // No item was read, but the call ends when the client notices the overflow.
    let open = || router.status.usage().open_calls;
    within("the end", async {
        while open() > 0 {
            echoes(&caller).await
        }
    })
    .await;
    assert_eq!(replies.next().await.unwrap().unwrap(), "x".repeat(100));
    assert!(matches!(replies.next().await, Some(Err(Error::Overflow { .. }))));
    router.stop().await;
}

// A late reply removes the call at the router, and is dropped.
#[tokio::test]
async fn a_late_reply_does_no_harm() {
    let (router, mut dead, _healthy, caller) = beside_a_dead_service(3).await;
    for round in 0..20 {
        begin_and_drop(caller.call("/dead", "")).await;
        let first: CallRequest = dead.expect().await;
        let answer = tokio::spawn({
            let caller = caller.clone();
            async move { caller.call("/dead", "").await }
        });
        let second: CallRequest = dead.expect().await;
        dead.part(&first.request_id, "late").await;
        dead.reply(&first.request_id, "late").await;
        dead.reply(&second.request_id, &round.to_string()).await;
        let reply = within("a reply", answer).await.unwrap().unwrap();
        assert_eq!(reply, round.to_string());
    }
    assert_eq!(router.status.usage().orphaned_calls, 0);
    router.stop().await;
}

#[tokio::test]
async fn very_many_calls_are_dropped_at_once() {
    let (router, mut dead, _healthy, caller) = beside_a_dead_service(65_536).await;
    let reading = tokio::spawn(async move { while dead.next().await.is_some() {} });
    let mut calls = Vec::new();
    for _ in 0..20_000 {
        let mut call = Box::pin(caller.call("/dead", Bytes::new()));
        while call.as_mut().now_or_never().is_some() {}
        calls.push(call);
    }
    drop(calls);
    let open = || router.status.usage().open_calls;
    within("their end", async {
        while {
            echoes(&caller).await;
            open() > 0
        } {}
    })
    .await;
    drop(caller);
    router.stop().await;
    reading.abort();
}

/// Waits until the bus has a router.
async fn is_connected(bus: &Bus) {
    let is_it = |status: &Status| matches!(status.connection, Connection::Connected(_));
    within("a connection", bus.watch().wait_for(is_it)).await.unwrap();
}

/// The next frame, which is a call.
async fn next_call(peer: &mut Peer) -> CallRequest {
    let frame = peer.next().await.unwrap();
    assert_eq!(frame.kind, CallRequest::KIND, "a router of level 0 knows nothing else");
    frame.decode().unwrap()
}

// At a router that cannot cancel, the limit of one service does not affect other services.
#[tokio::test]
async fn a_router_of_level_0_is_spared() {
    let fake = FakeRouter::start().await;
    let caller = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let mut router = fake.accept().await;
    is_connected(&caller).await;
    let mut first = None;
    for _ in 0..SHARE {
        begin_and_drop(caller.call("/dead/one", "")).await;
        first.get_or_insert(next_call(&mut router).await);
    }
    let error = caller.call("/dead/one", "").await.unwrap_err();
    assert_eq!(error, Error::TooManyUnanswered { address: "/dead/one".into(), calls: SHARE });
    let text = error.to_string();
    assert!(text.contains("\"/dead/one\"") && text.contains("cannot cancel"), "{text}");
    assert!(matches!(caller.stream("/dead/one", "").await, Err(Error::TooManyUnanswered { .. })));
    // A push opens no call.
    caller.push("/dead/one", "").await.unwrap();
    assert!(next_call(&mut router).await.no_reply);

    // Calls to other services are not affected.
    let (reply, ()) = tokio::join!(caller.call("/dead/other", ""), async {
        let call = next_call(&mut router).await;
        assert_eq!(call.address, "/dead/other");
        router.reply(&call.request_id, "fine").await;
    });
    assert_eq!(reply.unwrap(), "fine");

    // A late last reply makes room for another call, an item of a stream does not.
    let first = first.unwrap();
    router.part(&first.request_id, "late").await;
    router.send(Ping {}).await;
    let Pong {} = router.expect().await;
    assert!(matches!(caller.call("/dead/one", "").await, Err(Error::TooManyUnanswered { .. })));
    router.reply(&first.request_id, "late").await;
    router.send(Ping {}).await;
    let Pong {} = router.expect().await;
    begin_and_drop(caller.call("/dead/one", "")).await;
    next_call(&mut router).await;
    assert!(matches!(caller.call("/dead/one", "").await, Err(Error::TooManyUnanswered { .. })));

    // The next connection has no open calls.
    drop(router);
    let mut router = fake.accept().await;
    is_connected(&caller).await;
    begin_and_drop(caller.call("/dead/one", "")).await;
    assert_eq!(next_call(&mut router).await.address, "/dead/one");
}

// A router of level 1 that reads and answers nothing is sent one CancelCall for each call.
#[tokio::test]
async fn each_call_is_cancelled_once_and_in_order() {
    let fake = FakeRouter::start().await;
    let caller = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let mut router = fake.accept_with(Hello { level: 1, ..Hello::default() }).await;
    is_connected(&caller).await;
    for _ in 0..2 * SHARE {
        begin_and_drop(caller.call("/dead", "")).await;
        let call: CallRequest = router.expect().await;
        let cancel: CancelCall = router.expect().await;
        assert_eq!(cancel.request_id, call.request_id);
    }
    // A call that has ended is not cancelled, either.
    let (reply, ()) = tokio::join!(caller.call("/a", ""), async {
        let call: CallRequest = router.expect().await;
        router.reply(&call.request_id, "fine").await;
    });
    assert_eq!(reply.unwrap(), "fine");
    router.expect_nothing_behind().await;
}

// A CancelCall for a call that has not begun, or has ended, affects no other call.
#[tokio::test]
async fn the_end_of_an_unknown_call_is_ignored() {
    let fake = FakeRouter::start().await;
    let service = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let mut router = fake.accept_with(Hello { level: 1, ..Hello::default() }).await;
    let echo = |call: gsb_client::Call| async move { Ok(call.data) };
    let _echo = service.register("/echo", echo).await.unwrap();
    let _: gsb_proto::messages::RegisterRequest = router.expect().await;
    router.send(gsb_proto::messages::RegisterReply::default()).await;
    router.send(CancelCall { request_id: "1".into() }).await;
    router.call("/echo", "1", "hello").await;
    let reply: gsb_proto::messages::CallReply = router.expect().await;
    assert_eq!(reply.data, "hello");
    router.send(CancelCall { request_id: "1".into() }).await;
    router.call("/echo", "1", "again").await;
    let reply: gsb_proto::messages::CallReply = router.expect().await;
    assert_eq!(reply.data, "again");
}
