//! A stream goes as fast as its reader: the service is ahead by no more than the window. Rules CA-14 and X4.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use gsb_client::{Bus, Call, Connection, Error, Failure, Framing, Message, ReplyStream};
use gsb_proto::MessageKind;
use gsb_proto::messages::{
    CallReply, CallReplyReason, CallReplyType, CallRequest, CancelCall, Hello, RegisterReply,
    RegisterRequest, StreamCredit,
};
use gsb_testkit::{FakeRouter, Peer, TestRouter, within};
use serde::{Deserialize, Serialize};

/// What an item takes from the credit besides its bytes.
const ITEM: usize = 64;

/// Counts the items that the stream of a handler has made.
#[derive(Clone, Default)]
struct Made(Arc<AtomicUsize>);

impl Made {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// A stream of `items` items of `length` bytes.
    fn stream(
        &self,
        items: usize,
        length: usize,
    ) -> impl Stream<Item = Result<Bytes, Failure>> + Send + use<> {
        let made = self.0.clone();
        stream::iter(0..items).map(move |item| {
            made.fetch_add(1, Ordering::SeqCst);
            let number = item.to_string();
            Ok(Bytes::from(number.clone() + &"x".repeat(length - number.len())))
        })
    }
}

/// Registers `/source`, a fast stream of `items` items of `length` bytes.
async fn source(bus: &Bus, items: usize, length: usize) -> Made {
    let made = Made::default();
    let handler = {
        let made = made.clone();
        move |_: Call| made.stream(items, length)
    };
    bus.register_stream("/source", handler).await.unwrap().detach();
    made
}

/// Reads the next `count` items, which follow `from` others.
async fn read(stream: &mut ReplyStream, from: usize, count: usize) {
    for number in from..from + count {
        let item = within("an item", stream.next()).await.unwrap().unwrap();
        let number = number.to_string();
        assert!(item.starts_with(number.as_bytes()) && item[number.len()..].starts_with(b"x"));
    }
}

/// Reads all `items` items of `length` bytes, with pauses, and checks how far the service is ahead.
async fn read_paced(bus: &Bus, made: &Made, window: usize, items: usize, length: usize) {
    let mut stream = bus.endpoint("/source").window(window).stream("").await.unwrap();
    for item in 0..items {
        if item % (items / 10) == 0 {
            // The service has sent what it may, for the reply to a later call has come.
            for _ in 0..3 {
                assert_eq!(
                    bus.call("/echo", "other calls go on").await.unwrap(),
                    "other calls go on"
                );
            }
        }
        read(&mut stream, item, 1).await;
        let ahead = (made.count() - item - 1) * (length + ITEM);
        assert!(ahead < window + length + ITEM, "{ahead} bytes ahead, item {item} of {items}");
    }
    assert!(within("the end", stream.next()).await.is_none());
    assert_eq!(made.count(), items);
}

async fn buses(router: &TestRouter) -> (Bus, Bus) {
    let service = Bus::connect(&router.unix).await.unwrap();
    service.register("/echo", |call: Call| async move { Ok(call.data) }).await.unwrap().detach();
    (service, Bus::connect(&router.unix).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_source_waits_for_a_slow_reader() {
    let router = TestRouter::start().await;
    // Small items, items as large as the window, and items that are larger.
    for (window, items, length) in [
        (1 << 20, 1000, 62_500),
        (10_000, 1000, 100),
        (10_000, 100, 9936),
        (1000, 100, 200_000),
        (1, 50, 10),
    ] {
        let (service, caller) = buses(&router).await;
        let made = source(&service, items, length).await;
        read_paced(&caller, &made, window, items, length).await;
        service.shutdown(Duration::from_secs(5)).await.unwrap();
    }
    router.stop().await;
}

#[tokio::test]
async fn a_source_of_this_process_waits_for_its_reader() {
    let bus = Bus::local();
    bus.register("/echo", |call: Call| async move { Ok(call.data) }).await.unwrap().detach();
    let made = source(&bus, 100, 1000).await;
    read_paced(&bus, &made, 1, 100, 1000).await;
}

#[tokio::test]
async fn a_reader_that_stops_stops_its_own_stream_only() {
    let router = TestRouter::start().await;
    let (service, caller) = buses(&router).await;
    // More than the queue limit of the router, and than all buffers of the client.
    let made = source(&service, 640, 100_000).await;
    let caller_of = caller.endpoint("/source");
    let mut stopped = caller_of.stream("").await.unwrap();
    read(&mut stopped, 0, 1).await;
    for _ in 0..2 {
        let mut other = caller_of.stream("").await.unwrap();
        read(&mut other, 0, 640).await;
        assert!(within("the end", other.next()).await.is_none());
        assert_eq!(within("a reply", caller.call("/echo", "echo")).await.unwrap(), "echo");
    }
    assert!(made.count() <= 2 * 640 + 12, "{}", made.count());
    read(&mut stopped, 1, 639).await;
    assert!(within("the end", stopped.next()).await.is_none());
    router.stop().await;
}

#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "lines", item = String)]
struct Lines(usize);

#[tokio::test]
async fn a_typed_stream_waits_for_its_reader() {
    let router = TestRouter::start().await;
    let (service, caller) = buses(&router).await;
    let made = Arc::new(AtomicUsize::new(0));
    let lines = {
        let made = made.clone();
        move |Lines(count)| {
            let made = made.clone();
            stream::iter(0..count).map(move |line| {
                made.fetch_add(1, Ordering::SeqCst);
                Ok(format!("{line:01000}"))
            })
        }
    };
    let _lines = service.bind_stream("/text", lines).await.unwrap();
    let text = caller.service("/text").window(10_000);
    let mut lines = text.stream(Lines(500)).await.unwrap();
    for line in 0..500 {
        if line % 100 == 0 {
            assert_eq!(caller.call("/echo", "echo").await.unwrap(), "echo");
        }
        assert_eq!(
            within("a line", lines.next()).await.unwrap().unwrap(),
            Ok(format!("{line:01000}"))
        );
        let ahead = made.load(Ordering::SeqCst) - line;
        assert!(ahead <= 11, "{ahead} lines ahead");
    }
    assert!(within("the end", lines.next()).await.is_none());
    router.stop().await;
}

// A connection of level 0 has the limit of the buffer, as before.
#[tokio::test]
async fn a_stream_of_level_0_has_a_buffer() {
    let router = TestRouter::start().await;
    let connect = async |framing| {
        Bus::builder()
            .framing(framing)
            .buffer_limit(500_000)
            .stream_window(1000)
            .connect(&router.unix)
            .await
    };
    for (of_service, of_caller) in
        [(Framing::Classic, Framing::Packet), (Framing::Packet, Framing::Classic)]
    {
        let service = connect(of_service).await.unwrap();
        service
            .register("/echo", |call: Call| async move { Ok(call.data) })
            .await
            .unwrap()
            .detach();
        let caller = connect(of_caller).await.unwrap();
        let made = source(&service, 100, 4000).await;
        let mut stream = caller.stream("/source", "").await.unwrap();
        // The service does not wait for the reader.
        within("all items", async {
            while made.count() < 100 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        read(&mut stream, 0, 100).await;
        assert!(within("the end", stream.next()).await.is_none());

        let longer = Made::default();
        let handler = move |_: Call| longer.stream(1000, 4000);
        let _longer = service.register_stream("/longer", handler).await.unwrap();
        let mut stream = caller.stream("/longer", "").await.unwrap();
        // The stream has overflowed, for the reply to a later call has come.
        within("the overflow", async {
            loop {
                assert_eq!(caller.call("/echo", "echo").await.unwrap(), "echo");
                if router.status.usage().open_calls == 0 {
                    break;
                }
            }
        })
        .await;
        read(&mut stream, 0, 500_000 / 4064).await;
        let error = within("the error", stream.next()).await.unwrap().unwrap_err();
        assert_eq!(error, Error::Overflow { limit: 500_000, missed: 1 });
        service.shutdown(Duration::from_secs(5)).await.unwrap();
    }
    router.stop().await;
}

/// A connection of level 1 to a service at a fake router.
async fn served_by(router: &FakeRouter, level: u32) -> Peer {
    let mut peer = router.accept_with(Hello { level, ..Hello::default() }).await;
    let _: RegisterRequest = peer.expect().await;
    peer.send(RegisterReply::default()).await;
    peer
}

async fn call_source(router: &mut Peer, request_id: &str, reply_credit: u64) {
    let (address, request_id) = ("/source".to_owned(), request_id.to_owned());
    router.send(CallRequest { address, request_id, reply_credit, ..CallRequest::default() }).await;
}

async fn expect_parts(router: &mut Peer, count: usize) {
    for _ in 0..count {
        let reply: CallReply = router.expect().await;
        assert_eq!(reply.reply_type(), CallReplyType::Partial);
    }
}

fn credit(request_id: &str, bytes: u64) -> StreamCredit {
    StreamCredit { request_id: request_id.to_owned(), bytes, for_request: false }
}

#[tokio::test]
async fn a_service_sends_what_its_credit_allows() {
    let fake = FakeRouter::start().await;
    let service = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let made = source(&service, 40, 36).await;
    let mut router = served_by(&fake, 1).await;

    call_source(&mut router, "a", 201).await;
    expect_parts(&mut router, 3).await;
    router.expect_nothing_behind().await;
    assert_eq!(made.count(), 3, "the stream is not polled without credit");
    // Credit for another call, and for its request, is none for its replies.
    router.send(credit("b", 1000)).await;
    router.send(StreamCredit { for_request: true, ..credit("a", 1000) }).await;
    router.send(credit("a", 99)).await;
    router.expect_nothing_behind().await;
    router.send(credit("a", 1)).await;
    expect_parts(&mut router, 1).await;
    router.expect_nothing_behind().await;
    // Sums saturate.
    router.send(credit("a", u64::MAX)).await;
    router.send(credit("a", u64::MAX)).await;
    expect_parts(&mut router, 36).await;
    let last: CallReply = router.expect().await;
    assert_eq!(last.reply_type(), CallReplyType::Full);
    // Credit for a call that has ended has no effect.
    router.send(credit("a", 1000)).await;

    // A call that is cancelled while it waits for credit.
    call_source(&mut router, "c", 1).await;
    expect_parts(&mut router, 1).await;
    router.send(CancelCall { request_id: "c".into() }).await;
    let last: CallReply = router.expect().await;
    assert_eq!(last.reason(), CallReplyReason::ReasonCancelled);

    // A call without credit is not limited.
    call_source(&mut router, "d", 0).await;
    expect_parts(&mut router, 40).await;
    let last: CallReply = router.expect().await;
    assert_eq!(last.reply_type(), CallReplyType::Full);
    router.expect_nothing_behind().await;
}

#[tokio::test]
async fn credit_means_nothing_at_a_router_of_level_0() {
    let fake = FakeRouter::start().await;
    let bus = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let _made = source(&bus, 40, 36).await;
    let mut router = served_by(&fake, 0).await;
    call_source(&mut router, "a", 1).await;
    expect_parts(&mut router, 40).await;
    let _: CallReply = router.expect().await;

    // A caller sends none.
    let mut stream = bus.endpoint("/elsewhere").window(1).stream("").await.unwrap();
    let call: CallRequest = router.expect().await;
    assert_eq!(call.reply_credit, 0);
    router.part(&call.request_id, "one").await;
    router.part(&call.request_id, "two").await;
    router.reply(&call.request_id, "three").await;
    for item in ["one", "two", "three"] {
        assert_eq!(within("an item", stream.next()).await.unwrap().unwrap(), item);
    }
    router.expect_nothing_behind().await;
}

// The level is that of the connection over which the call is sent, not of the one before.
#[tokio::test]
async fn a_stream_that_waits_for_a_router_has_its_level() {
    for levels in [[1, 0], [0, 1]] {
        let fake = FakeRouter::start().await;
        let bus = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
        drop(fake.accept_with(Hello { level: levels[0], ..Hello::default() }).await);
        let mut status = bus.watch();
        while !matches!(status.current().connection, Connection::Lost { .. }) {
            within("the loss", status.changed()).await;
        }
        let endpoint = bus.endpoint("/far").wait_for_router(Duration::from_secs(10)).window(77);
        let stream = tokio::spawn(async move { endpoint.stream("").await });
        let mut router = fake.accept_with(Hello { level: levels[1], ..Hello::default() }).await;
        let call: CallRequest = router.expect().await;
        assert_eq!(call.reply_credit, 77 * u64::from(levels[1]));
        drop(within("the stream", stream).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_caller_grants_half_of_its_window_and_nothing_after_the_end() {
    let fake = FakeRouter::start().await;
    let bus = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let mut router = fake.accept_with(Hello { level: 1, ..Hello::default() }).await;
    bus.settled().await.unwrap();
    let mut stream = bus.endpoint("/far").window(1000).stream("").await.unwrap();
    let call: CallRequest = router.expect().await;
    assert_eq!(call.reply_credit, 1000);
    let item = "x".repeat(36);
    for _ in 0..10 {
        router.part(&call.request_id, &item).await;
    }
    for read in 1..=10 {
        assert_eq!(within("an item", stream.next()).await.unwrap().unwrap(), item);
        if read % 5 == 0 {
            let granted: StreamCredit = router.expect().await;
            assert_eq!(granted, credit(&call.request_id, 500));
        }
    }
    for _ in 0..9 {
        router.part(&call.request_id, &item).await;
    }
    router.reply(&call.request_id, &item).await;
    router.expect_nothing().await;
    for _ in 0..10 {
        assert_eq!(within("an item", stream.next()).await.unwrap().unwrap(), item);
    }
    assert!(within("the end", stream.next()).await.is_none());
    router.expect_nothing_behind().await;
}

#[tokio::test]
async fn a_service_that_exceeds_its_credit_is_cancelled() {
    let fake = FakeRouter::start().await;
    let bus = Bus::builder().buffer_limit(300).connect_lazy(fake.address.clone()).unwrap();
    let mut router = fake.accept_with(Hello { level: 1, ..Hello::default() }).await;
    bus.settled().await.unwrap();
    let mut stream = bus.endpoint("/far").window(500).stream("").await.unwrap();
    let call: CallRequest = router.expect().await;
    let item = "x".repeat(136);
    for _ in 0..5 {
        router.part(&call.request_id, &item).await;
    }
    let cancelled: CancelCall = router.expect().await;
    assert_eq!(cancelled.request_id, call.request_id);
    for _ in 0..3 {
        assert_eq!(within("an item", stream.next()).await.unwrap().unwrap(), item);
    }
    let error = within("the error", stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error, Error::Overflow { limit: 500, missed: 1 });
    router.expect_nothing_behind().await;
}

// A reader that does not read keeps no shutdown of the service waiting for longer than it says.
#[tokio::test]
async fn a_shutdown_ends_a_stream_that_waits_for_its_reader() {
    let router = TestRouter::start().await;
    let (service, caller) = buses(&router).await;
    let made = source(&service, 1000, 1000).await;
    let mut stream = caller.endpoint("/source").window(1).stream("").await.unwrap();
    within("an item", async {
        while made.count() < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within("the shutdown", service.shutdown(Duration::ZERO)).await.unwrap();
    read(&mut stream, 0, 1).await;
    let error = within("the end", stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    router.stop().await;
}

#[tokio::test]
async fn a_detached_stream_ends_without_credit_when_it_is_cancelled() {
    let router = TestRouter::start().await;
    let (service, caller) = buses(&router).await;
    let made = Made::default();
    let handler = {
        let made = made.clone();
        move |call: Call| {
            call.detach();
            made.stream(100, 100)
        }
    };
    let _source = service.register_stream("/source", handler).await.unwrap();
    let mut stream = caller.endpoint("/source").window(1).stream("").await.unwrap();
    read(&mut stream, 0, 1).await;
    drop(stream);
    within("the last item", async {
        while made.count() < 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // A reader that is killed has the same effect.
    let mut reader = Peer::silent(&router.unix, Framing::Packet).await;
    reader.send(Hello { level: 1, ..Hello::default() }).await;
    assert_eq!(reader.next().await.map(|frame| frame.kind), Some(MessageKind::Hello));
    call_source(&mut reader, "1", 1).await;
    expect_parts(&mut reader, 1).await;
    drop(reader);
    within("the last item", async {
        while made.count() < 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    router.stop().await;
}
