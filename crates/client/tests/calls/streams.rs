//! A stream delivers every reply in order. If it ends early, it ends with an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{Bus, Call, Error, Failure, Framing, ReplyStream};
use gsb_proto::messages::{
    CallReply, CallReplyCode, CallReplyReason, CallRequest, Hello, RegisterReply, RegisterRequest,
};
use gsb_testkit::{FakeRouter, Peer, TestRouter, within};
use tokio::runtime::Handle;

async fn connect(router: &TestRouter) -> Bus {
    Bus::connect(&router.unix).await.unwrap()
}

async fn collect(stream: ReplyStream) -> (Vec<Bytes>, Option<Error>) {
    let mut items = Vec::new();
    let mut stream = stream;
    while let Some(item) = within("an item", stream.next()).await {
        match item {
            Ok(data) => items.push(data),
            Err(error) => {
                assert!(stream.next().await.is_none(), "an error is the end");
                return (items, Some(error));
            }
        }
    }
    (items, None)
}

#[tokio::test]
async fn all_items_come_in_order() {
    let router = TestRouter::start().await;
    let (service, bus) = (connect(&router).await, connect(&router).await);
    let count = |call: Call| {
        let count: u32 = String::from_utf8_lossy(&call.data).parse().unwrap_or(0);
        stream::iter((0..count).map(|number| Ok(Bytes::from(number.to_string()))))
    };
    let _count = service.register_stream("/count", count).await.unwrap();
    let _once = service.register("/once", |_: Call| async { Ok("only") }).await.unwrap();
    for count in [0, 1, 5000] {
        let replies = bus.stream("/count", count.to_string()).await.unwrap();
        let (items, error) = collect(replies).await;
        assert!(error.is_none());
        let expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
        assert_eq!(items, expected);
    }
    let once = bus.stream("/once", "").await.unwrap();
    assert_eq!(once.try_collect::<Vec<_>>().await.unwrap(), ["only"]);
    assert_eq!(router.status.usage().open_calls, 0);
    router.stop().await;
}

// An empty item is an item, unless it is the last reply.
#[tokio::test]
async fn empty_items_and_a_last_item_with_data_count() {
    let router = TestRouter::start().await;
    let bus = connect(&router).await;
    let mut service = Peer::connect(&router.unix, Framing::Packet).await;
    service.register("/s").await;
    let stream = tokio::spawn(async move { collect(bus.stream("/s", "").await.unwrap()).await });
    let call: CallRequest = service.expect().await;
    service.part(&call.request_id, "").await;
    service.part(&call.request_id, "x").await;
    service.reply(&call.request_id, "last").await;
    let (items, error) = within("the stream", stream).await.unwrap();
    assert!(error.is_none());
    assert_eq!(items, ["", "x", "last"]);
    router.stop().await;
}

#[tokio::test]
async fn a_failure_is_the_last_item() {
    let router = TestRouter::start().await;
    let (service, bus) = (connect(&router).await, connect(&router).await);
    let fails =
        |_: Call| stream::iter([Ok(Bytes::from_static(b"one")), Err(Failure::new("broke"))]);
    let _fails = service.register_stream("/fails", fails).await.unwrap();
    let (items, error) = collect(bus.stream("/fails", "").await.unwrap()).await;
    assert_eq!(items, ["one"]);
    assert!(matches!(error, Some(Error::ServiceFailure { message, .. }) if message == "broke"));
    let (items, error) = collect(bus.stream("/nowhere", "").await.unwrap()).await;
    assert!(items.is_empty());
    assert!(matches!(error, Some(Error::NoSuchService { .. })));
    router.stop().await;
}

// If the service or the connection ends, the consumer gets an error.
#[tokio::test]
async fn a_cut_stream_ends_with_an_error() {
    let router = TestRouter::start().await;
    let bus = connect(&router).await;
    for cut_service in [true, false] {
        let mut service = Peer::connect(&router.unix, Framing::Packet).await;
        assert_eq!(service.register("/s").await, 0);
        let stream = bus.stream("/s", "").await.unwrap();
        let call: CallRequest = service.expect().await;
        service.part(&call.request_id, "one").await;
        if cut_service {
            drop(service);
            let (items, error) = collect(stream).await;
            assert_eq!(items, ["one"]);
            assert!(matches!(error, Some(Error::ServiceFailure { .. })), "{error:?}");
        } else {
            let mut stream = stream;
            assert_eq!(within("an item", stream.next()).await.unwrap().unwrap(), "one");
            bus.clone().close().await;
            let (items, error) = collect(stream).await;
            assert!(items.is_empty());
            assert!(matches!(error, Some(Error::ConnectionLost(_))));
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn a_stream_that_pauses_too_long_times_out() {
    let router = TestRouter::start().await;
    let (service, bus) = (connect(&router).await, connect(&router).await);
    let pauses = |_: Call| {
        stream::iter([Ok(Bytes::from_static(b"one"))]).chain(stream::once(std::future::pending()))
    };
    let _pauses = service.register_stream("/pauses", pauses).await.unwrap();
    let endpoint = bus.endpoint("/pauses").timeout(Duration::from_millis(50));
    let (items, error) = collect(endpoint.stream("").await.unwrap()).await;
    assert_eq!(items, ["one"]);
    assert!(matches!(error, Some(Error::Timeout { .. })));
    router.stop().await;
}

#[tokio::test]
async fn a_dropped_stream_is_forgotten() {
    let router = TestRouter::start().await;
    let bus = connect(&router).await;
    let mut service = Peer::connect(&router.unix, Framing::Packet).await;
    service.register("/s").await;
    let stream = bus.stream("/s", "").await.unwrap();
    let call: CallRequest = service.expect().await;
    service.part(&call.request_id, "one").await;
    drop(stream);
    service.part(&call.request_id, "two").await;
    service.send(CallReply { request_id: call.request_id, ..Default::default() }).await;
    let other = connect(&router).await;
    let _echo = other.register("/echo", |call: Call| async move { Ok(call.data) }).await.unwrap();
    assert_eq!(bus.call("/echo", "fine").await.unwrap(), "fine");
    router.stop().await;
}

// A stream that has ended no longer counts as a running call, even if its reader keeps it.
#[tokio::test]
async fn an_ended_stream_holds_nothing() {
    let bus = Bus::local();
    let fails = |_: Call| stream::iter([Ok(Bytes::new()), Err(Failure::new("it broke"))]);
    let _fails = bus.with_max_running(1).register_stream("/fails", fails).await.unwrap();
    let mut kept = bus.stream("/fails", "").await.unwrap();
    assert!(kept.next().await.unwrap().is_ok());
    assert!(matches!(bus.stream("/fails", "").await, Err(Error::Busy { .. })));
    assert!(kept.next().await.unwrap().is_err());
    let again = bus.stream("/fails", "").await.unwrap();
    assert!(kept.next().await.is_none());
    drop(again);
}

// Rule X1: a service that does not support requests that are streams says so, and its handler sees no part of one.
#[tokio::test]
async fn a_request_that_is_a_stream_is_refused() {
    let fake = FakeRouter::start().await;
    let service = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let mut router = fake.accept_with(Hello { level: 1, ..Hello::default() }).await;
    let handler = async |_: Call| -> Result<&str, Failure> { unreachable!("the call is refused") };
    let _registration = service.register("/upload", handler).await.unwrap();
    let _: RegisterRequest = router.expect().await;
    router.send(RegisterReply::default()).await;
    let (address, request_id) = ("/upload".to_owned(), "1".to_owned());
    let call = CallRequest { address, request_id, more: true, ..CallRequest::default() };
    router.send(call).await;
    let reply: CallReply = router.expect().await;
    assert_eq!(reply.code(), CallReplyCode::CallReplyBadRequest);
    assert_eq!(reply.reason(), CallReplyReason::ReasonUnsupported);
}

// Its replies are written together. The frames of other tasks must not wait for it, whatever it does between two of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_always_ready_delays_no_other_frame() {
    let router = TestRouter::start().await;
    let (service, caller) = (connect(&router).await, connect(&router).await);
    let _echo = caller.register("/echo", async |call: Call| Ok(call.data)).await.unwrap();

    // It goes on when its caller has gone, and its replies are dropped.
    let stop = Arc::new(AtomicBool::new(false));
    let ends = stop.clone();
    let detached = move |call: Call| {
        call.detach();
        let ends = ends.clone();
        let goes_on = move |_: &u64| std::future::ready(!ends.load(Ordering::SeqCst));
        stream::iter(0..).take_while(goes_on).map(|number| Ok(number.to_string()))
    };
    let _detached = service.register_stream("/detached", detached).await.unwrap();
    let mut replies = caller.stream("/detached", "").await.unwrap();
    replies.next().await.unwrap().unwrap();
    drop(replies);
    for _ in 0..20 {
        within("a call of the same bus", service.call("/echo", "x")).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);

    // It calls while it makes a reply.
    let bus = service.clone();
    let nested = move |_: Call| {
        let bus = bus.clone();
        stream::iter(0..3).map(move |_| {
            let call = bus.call("/echo", "x");
            tokio::task::block_in_place(|| Handle::current().block_on(call))
                .map_err(|error| Failure::new(error.to_string()))
        })
    };
    let _nested = service.register_stream("/nested", nested).await.unwrap();
    let replies = caller.stream("/nested", "").await.unwrap();
    let (items, error) = within("the replies", collect(replies)).await;
    assert_eq!((items.len(), error), (3, None));
    router.stop().await;
}

// A handler that yields lets other tasks run.
#[tokio::test]
async fn a_stream_can_yield() {
    let router = TestRouter::start().await;
    let (service, caller) = (connect(&router).await, connect(&router).await);
    let turns = Arc::new(AtomicUsize::new(0));
    let count = turns.clone();
    let other = tokio::spawn(async move {
        loop {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    let seen = turns.clone();
    let yielding = move |_: Call| {
        let seen = seen.clone();
        stream::iter(0..20).then(move |_| {
            let seen = seen.clone();
            async move {
                let before = seen.load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok((seen.load(Ordering::SeqCst) > before).to_string())
            }
        })
    };
    let _service = service.register_stream("/yields", yielding).await.unwrap();
    let (items, error) = collect(caller.stream("/yields", "").await.unwrap()).await;
    let yielded = items.iter().filter(|item| item[..] == b"true"[..]).count();
    assert!(error.is_none() && items.len() == 20 && yielded >= 10, "{items:?}, {error:?}");
    other.abort();
    router.stop().await;
}
