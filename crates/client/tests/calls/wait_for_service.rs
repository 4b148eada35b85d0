//! Calls that wait for a service. They are retried only while no service can have received them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{Bus, Call, Connection, Error, LostReason, Message, Status};
use gsb_net::memory::{Conditions, Network};
use gsb_proto::messages::{CallReply, CallReplyCode, CallReplyReason, CallRequest};
use gsb_router::{Router, RouterConfig};
use gsb_testkit::{FakeRouter, Peer, RouterPlace, TestRouter, within};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::mpsc;
use tokio::time::Instant;

const TIMEOUT: Duration = Duration::from_secs(20);

/// How often an `Order` was encoded.
static ENCODED: AtomicUsize = AtomicUsize::new(0);

#[derive(Serialize, Deserialize, Message)]
#[message(id = "count", item = u32)]
struct Count(u32);

/// A message without `Clone` that counts how often it is encoded.
#[derive(Debug, PartialEq, Deserialize, Message)]
#[message(id = "order", item = u32)]
struct Order(u32);

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::SeqCst);
        serializer.serialize_newtype_struct("Order", &self.0)
    }
}

/// A message that cannot be encoded, so it must stay in the process.
#[derive(Deserialize, Message)]
#[message(id = "secret", item = u32)]
struct Secret(u32);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it stays here"))
    }
}

fn is_missing<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::NoSuchService { .. }))
}

async fn refuse(peer: &mut Peer, request: &CallRequest, reason: CallReplyReason) {
    peer.send(CallReply {
        request_id: request.request_id.clone(),
        code: CallReplyCode::CallReplyBadRequest.into(),
        reason: reason.into(),
        ..CallReply::default()
    })
    .await;
}

// The clock is paused, and moves on only when all tasks wait for it, so a registration is not found by chance.
#[tokio::test(start_paused = true)]
async fn a_registration_here_is_found_at_once() {
    let bus = Bus::local();
    let start = Instant::now();
    let (raw, typed) = (bus.endpoint("/raw"), bus.service("/typed"));
    let (raw, typed) = (raw.wait_for_service(TIMEOUT), typed.wait_for_service(TIMEOUT));
    let (pushed, mut pushes) = mpsc::unbounded_channel();
    let register = async {
        // All the others wait by now.
        tokio::task::yield_now().await;
        let echo = bus.register("/raw", |call: Call| async move { Ok(call.data) }).await.unwrap();
        let secret = bus.bind("/typed", |Secret(number)| async move { Ok(number) }).await.unwrap();
        let orders = bus.bind_stream("/typed", |Count(to)| stream::iter((0..to).map(Ok)));
        let push = move |call: Call| {
            let _ = pushed.send(call.data);
            async {}
        };
        (echo, secret, orders.await.unwrap(), bus.register_push("/raw/push", push).await.unwrap())
    };
    let calls = async {
        tokio::join!(
            raw.call("hello"),
            typed.call(Secret(7)),
            typed.stream(Count(3)),
            raw.stream("stream"),
            typed.push(Secret(8)),
        )
    };
    let push = bus.endpoint("/raw/push").wait_for_service(TIMEOUT);
    let (services, calls, push) = tokio::join!(register, calls, push.push("push"));
    let (called, answered, answers, replies, pushed) = calls;
    assert_eq!(called.unwrap(), "hello");
    assert_eq!(answered.unwrap(), Ok(7));
    assert_eq!(answers.unwrap().try_collect::<Vec<_>>().await.unwrap(), [Ok(0), Ok(1), Ok(2)]);
    assert_eq!(replies.unwrap().try_collect::<Vec<_>>().await.unwrap(), ["stream"]);
    pushed.unwrap();
    // `/raw` was there before `/raw/push`, and takes the push.
    push.unwrap();
    assert!(pushes.try_recv().is_err());
    assert_eq!(start.elapsed(), Duration::ZERO, "it was waited for longer than necessary");
    drop(services);
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_with_the_timeout_at_the_latest() {
    let bus = Bus::local();
    let second = Duration::from_secs(1);
    for (timeout, wait, expected) in [
        (None, 0, 0),
        (None, 5, 5),
        (Some(60), 5, 5),
        (Some(2), 5, 2),
        (Some(5), u64::MAX / 2_000_000_000, 5),
    ] {
        let timeout = timeout.map(|seconds| second * seconds);
        let wait = Duration::from_secs(wait);
        let endpoint = bus.endpoint("/x").timeout(timeout).wait_for_service(wait);
        let service = bus.service("/x").timeout(timeout).wait_for_service(wait);
        let expected = second * expected;
        let start = Instant::now();
        let results = tokio::join!(
            endpoint.call(""),
            endpoint.stream(""),
            endpoint.push(""),
            service.call(Secret(1)),
            service.stream(Secret(1)),
            service.push(Secret(1)),
        );
        let (call, stream, push, answer, answers, sent) = results;
        assert!(is_missing(&call) && is_missing(&stream) && is_missing(&push));
        assert!(is_missing(&answer) && is_missing(&answers) && is_missing(&sent));
        let waited = start.elapsed();
        assert!(waited >= expected && waited < expected + second / 2, "{waited:?}, {expected:?}");
    }
}

// The wait counts towards the timeout of the call.
#[tokio::test(start_paused = true)]
async fn the_wait_counts_for_the_timeout() {
    let bus = Bus::local();
    let wait = Duration::from_secs(5);
    let endpoint = bus.endpoint("/x").timeout(wait).wait_for_service(wait);
    let service = bus.service("/x").timeout(wait).wait_for_service(wait);
    let start = Instant::now();
    let never = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        bus.bind("/x", |Secret(_)| std::future::pending()).await.unwrap().detach();
        bus.register("/x", |_: Call| std::future::pending::<Result<Bytes, _>>()).await.unwrap()
    };
    let (raw, typed, _never) = tokio::join!(endpoint.call(""), service.call(Secret(1)), never);
    assert!(matches!(raw, Err(Error::Timeout { after, .. }) if after == wait));
    assert!(matches!(typed, Err(Error::Timeout { after, .. }) if after == wait));
    let waited = start.elapsed();
    assert!(waited >= wait && waited < wait + Duration::from_millis(100), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_bus_ends_the_wait() {
    let bus = Bus::local();
    let endpoint = bus.endpoint("/x").wait_for_service(TIMEOUT);
    let start = Instant::now();
    let (call, ()) = tokio::join!(endpoint.call(""), bus.clone().close());
    assert!(matches!(call, Err(Error::ShutDown)));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_message_is_encoded_once_and_sent_while_no_service_has_seen_it() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = tokio::join!(Bus::connect(&router.address), router.accept());
    let bus = bus.unwrap();
    let service = bus.service("/far").wait_for_service(TIMEOUT);
    let answer = async {
        let mut sent = Vec::new();
        for _ in 0..5 {
            let request: CallRequest = peer.expect().await;
            refuse(&mut peer, &request, CallReplyReason::ReasonNoSuchService).await;
            sent.push(request);
        }
        let last: CallRequest = peer.expect().await;
        let data = flexbuffers::to_vec(Ok::<_, String>(7_u32)).unwrap().into();
        peer.send(CallReply { request_id: last.request_id.clone(), data, ..Default::default() })
            .await;
        sent.push(last);
        sent
    };
    let (answered, sent) = tokio::join!(service.call(Order(7)), answer);
    assert_eq!(answered.unwrap(), Ok(7));
    assert_eq!(ENCODED.load(Ordering::SeqCst), 1);
    assert!(sent.iter().all(|request| request.data == sent[0].data));
    for (index, request) in sent.iter().enumerate() {
        let ids = sent[..index].iter().map(|earlier| &earlier.request_id);
        assert!(ids.into_iter().all(|id| *id != request.request_id), "an id was used twice");
    }
}

// A call that a service may have received is never retried.
#[tokio::test]
async fn other_refusals_end_the_call() {
    let router = FakeRouter::start().await;
    let builder = Bus::builder().wait_for_router(TIMEOUT);
    let (bus, mut peer) = tokio::join!(builder.connect(&router.address), router.accept());
    let bus = bus.unwrap();
    let endpoint = bus.endpoint("/far").wait_for_service(TIMEOUT);
    let bad = CallReplyCode::CallReplyBadRequest;
    for (code, reason) in [
        (bad, CallReplyReason::ReasonUnspecified),
        (bad, CallReplyReason::ReasonBusy),
        (CallReplyCode::ServiceFailure, CallReplyReason::ReasonUnspecified),
        (CallReplyCode::ServiceFailure, CallReplyReason::ReasonBusy),
        (CallReplyCode::ServiceFailure, CallReplyReason::ReasonRouterStops),
    ] {
        let refuse = async {
            for _ in 0..2 {
                let CallRequest { request_id, .. } = peer.expect().await;
                let (code, reason) = (code.into(), reason.into());
                peer.send(CallReply { request_id, code, reason, ..Default::default() }).await;
            }
            peer.expect_nothing_behind().await;
        };
        let calls = async { (endpoint.call("").await, endpoint.stream("").await) };
        let ((call, stream), ()) = tokio::join!(calls, refuse);
        assert_eq!(call.unwrap_err(), stream.unwrap_err());
    }
}

#[tokio::test]
async fn a_service_of_another_process_is_found() {
    let router = TestRouter::start().await;
    let (here, there) =
        (Bus::connect(&router.unix).await.unwrap(), Bus::connect(&router.tcp).await.unwrap());
    let missing = here.endpoint("/x").wait_for_service(Duration::from_millis(100));
    assert!(is_missing(&missing.call("").await));
    assert!(is_missing(&missing.stream("").await));

    let register = async |bus: &Bus| {
        // The first attempts come before the service is there.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let items = |call: Call| {
            let count = call.data.len();
            stream::iter((0..count).map(|number| Ok(number.to_string())))
        };
        let items = bus.register_stream("/items", items).await.unwrap();
        let echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await.unwrap();
        let typed =
            bus.bind_stream("/typed", |Count(count)| stream::iter((0..count).map(Ok))).await;
        (items, echo, typed.unwrap())
    };
    // A service of this process is found, too, while the router is asked.
    for bus in [&there, &here] {
        let echo = here.endpoint("/echo").wait_for_service(TIMEOUT);
        let items = here.endpoint("/items").wait_for_service(TIMEOUT);
        let typed = here.service("/typed").wait_for_service(TIMEOUT);
        let calls = async {
            let (three, none) = (items.stream("abc"), items.stream(""));
            within("all calls", async {
                tokio::join!(echo.call("hello"), three, none, typed.stream(Count(2)))
            })
            .await
        };
        let ((echoed, three, none, typed), services) = tokio::join!(calls, register(bus));
        assert_eq!(echoed.unwrap(), "hello");
        assert_eq!(three.unwrap().try_collect::<Vec<_>>().await.unwrap(), ["0", "1", "2"]);
        assert!(none.unwrap().next().await.is_none());
        assert_eq!(typed.unwrap().try_collect::<Vec<_>>().await.unwrap(), [Ok(0), Ok(1)]);
        let (items, echo, typed) = services;
        for registration in [items, echo, typed] {
            registration.unregister().await.unwrap();
        }
    }
    router.stop().await;
}

// A router does not report new services, so it is asked again after random pauses, which grow up to a second.
#[tokio::test(start_paused = true)]
async fn a_router_is_asked_again_with_pauses_that_grow() {
    fastrand::seed(4);
    let network = Network::new(1, Conditions::default());
    let router = Router::bind_memory(RouterConfig::default(), network.listen().unwrap()).unwrap();
    let status = router.status();
    let running = tokio::spawn(router.run());
    let bus = Bus::builder().network(network).connect("tcp://127.0.0.1:1").await.unwrap();
    let start = Instant::now();
    let missing = bus.endpoint("/x").wait_for_service(TIMEOUT);
    assert!(is_missing(&missing.call("").await));
    assert!(start.elapsed() >= TIMEOUT);
    let attempts: u64 = status.counters().refusals.values().sum();
    assert!((20..100).contains(&attempts), "{attempts} attempts within {TIMEOUT:?}");
    running.abort();
}

// A call that a stopping router refuses was received by no service, so it is made again at the next router.
#[tokio::test]
async fn a_stopping_router_is_waited_out() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = tokio::join!(Bus::connect(&router.address), router.accept());
    let bus = bus.unwrap();
    let stop = async {
        let first: CallRequest = peer.expect().await;
        refuse(&mut peer, &first, CallReplyReason::ReasonRouterStops).await;
        drop(peer);
        let mut peer = router.accept().await;
        let CallRequest { request_id, data, .. } = peer.expect().await;
        peer.send(CallReply { request_id, data, ..Default::default() }).await;
        peer
    };
    let endpoint = bus.endpoint("/far").wait_for_router(TIMEOUT);
    let (called, mut peer) = tokio::join!(endpoint.call("hello"), stop);
    assert_eq!(called.unwrap(), "hello");

    let without_wait = bus.endpoint("/far");
    let stop = async {
        let request: CallRequest = peer.expect().await;
        refuse(&mut peer, &request, CallReplyReason::ReasonRouterStops).await;
    };
    let (called, ()) = tokio::join!(without_wait.call("hello"), stop);
    assert_eq!(called.unwrap_err(), Error::NotSent(LostReason::Stopping));
}

#[tokio::test]
async fn a_router_and_a_service_that_come_back_are_waited_for() {
    let place = RouterPlace::empty();
    let router = place.start().await;
    let caller = Bus::connect(&place.unix).await.unwrap();
    let clock = caller.endpoint("/clock").wait_for_router(TIMEOUT).wait_for_service(TIMEOUT);
    router.stop().await;
    // A call that is sent before the loss is noticed may have been handled, and is not retried.
    let is_lost = |status: &Status| !matches!(status.connection, Connection::Connected(_));
    within("the loss", caller.watch().wait_for(is_lost)).await.unwrap();
    let back = async {
        let router = place.start().await;
        let service = Bus::connect(&place.unix).await.unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let handled = count.clone();
        let handler = move |_: Call| {
            handled.fetch_add(1, Ordering::SeqCst);
            async { Ok("12:00") }
        };
        let registration = service.register("/clock", handler).await.unwrap();
        (router, registration, count)
    };
    let (time, (router, registration, count)) = tokio::join!(clock.call(""), back);
    assert_eq!(time.unwrap(), "12:00");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    drop(registration);
    router.stop().await;
}
