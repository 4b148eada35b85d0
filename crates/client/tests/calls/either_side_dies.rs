//! At whatever byte the other side ends, each request ends once and at once: with `NotSent` if it certainly was not
//! sent, with `ConnectionLost` if that is not known, and with `ServiceFailure` if a router reports the service's end.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::future::{BoxFuture, join_all};
use gsb_client::{Bus, BusBuilder, Call, Connection, Error, LostReason};
use gsb_proto::messages::*;
use gsb_proto::{Frame, Framing, MessageKind};
use gsb_testkit::{FakeRouter, Peer, TestRouter, within};
use tokio::sync::mpsc;

/// A request to a bus, and its result. No reply is empty.
type Operation = fn(Bus) -> BoxFuture<'static, Result<(), Error>>;

/// All kinds of requests. The first one is a call, the second one a stream.
const OPERATIONS: [Operation; 5] = [
    |bus| Box::pin(async move { bus.call("/s", "hello").await.map(drop) }),
    |bus| Box::pin(async move { whole(bus.stream("/s", "hello").await?).await.map(drop) }),
    |bus| Box::pin(async move { bus.broadcast("t", "hello").await.map(drop) }),
    |bus| Box::pin(async move { bus.register("/s", |_: Call| async { Ok("") }).await.map(drop) }),
    |bus| Box::pin(async move { bus.subscribe("t").await.map(drop) }),
];

/// All items of a stream, or the error that ended it. No item follows an error.
async fn whole(mut replies: gsb_client::ReplyStream) -> Result<Vec<Bytes>, Error> {
    let mut items = Vec::new();
    while let Some(item) = within("an item", replies.next()).await {
        match item {
            Ok(item) => items.push(item),
            Err(error) => {
                assert!(replies.next().await.is_none(), "an error is the end");
                return Err(error);
            }
        }
    }
    assert!(replies.next().await.is_none());
    Ok(items)
}

/// Options without timeouts, so that only the end of the connection ends a request.
fn builder() -> BusBuilder {
    Bus::builder().reconnect(None).call_timeout(None).request_timeout(Duration::from_secs(3600))
}

async fn connect(router: &FakeRouter) -> (Bus, Peer) {
    let (bus, peer) = tokio::join!(builder().connect(&router.address), router.accept());
    (bus.unwrap(), peer)
}

async fn closed(bus: &Bus) -> LostReason {
    within("the loss", bus.closed()).await.unwrap_err();
    match bus.status().connection {
        Connection::Closed(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn bytes(frame: &Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    assert!(frame.encode(Framing::Packet, &mut bytes));
    bytes
}

/// The frame that answers a request.
fn answer(request: &Frame) -> Frame {
    match request.kind {
        MessageKind::CallRequest => {
            let CallRequest { request_id, data, .. } = request.decode().unwrap();
            CallReply { request_id, data, ..Default::default() }.to_frame()
        }
        MessageKind::BroadcastRequest => BroadcastReply::default().to_frame(),
        MessageKind::RegisterRequest => RegisterReply::default().to_frame(),
        MessageKind::SubscribeRequest => SubscribeReply::default().to_frame(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn before_there_is_a_connection() {
    let router = FakeRouter::start().await;
    let hello = bytes(&Hello { name: "x".repeat(30), ..Default::default() }.to_frame());
    for operation in OPERATIONS {
        for sent in [0, 1, 4, 5, 20, hello.len() - 1] {
            let lazy = builder().wait_for_router(Duration::from_secs(3600));
            let bus = lazy.connect_lazy(&router.address).unwrap();
            let begun = tokio::spawn(operation(bus.clone()));
            let (connected, ()) = tokio::join!(builder().connect(&router.address), async {
                for _ in 0..2 {
                    let mut peer = router.accept_silently().await;
                    let Hello { .. } = peer.expect().await;
                    peer.send_bytes(&hello[..sent]).await;
                }
            });
            assert!(matches!(connected, Err(Error::Connect { .. })));
            closed(&bus).await;
            match within("the outcome", begun).await.unwrap() {
                Err(Error::NotSent(_)) => {}
                // Registering and subscribing do not wait for a connection.
                Ok(()) => {
                    let done = within("the outcome", operation(bus.clone())).await;
                    assert!(matches!(done, Err(Error::NotSent(_))), "{done:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test]
async fn before_it_is_sent() {
    let router = FakeRouter::start().await;
    for operation in OPERATIONS {
        let (bus, peer) = connect(&router).await;
        drop(peer);
        assert_eq!(closed(&bus).await, LostReason::HungUp);
        let done = within("the outcome", operation(bus)).await;
        assert!(matches!(done, Err(Error::NotSent(LostReason::HungUp))), "{done:?}");
    }
}

// The router may have read all of it, so it is not known whether the service has handled it.
#[tokio::test]
async fn while_it_is_sent() {
    let router = FakeRouter::start().await;
    for operation in OPERATIONS {
        let (bus, mut peer) = connect(&router).await;
        let begun = tokio::spawn(operation(bus));
        let length = bytes(&peer.next().await.unwrap()).len();
        begun.abort();
        // From the first byte on: before that it may not have been sent at all.
        for read in 1..=length {
            let (bus, mut peer) = connect(&router).await;
            let begun = tokio::spawn(operation(bus));
            peer.read_bytes(read).await;
            drop(peer);
            let done = within("the outcome", begun).await.unwrap();
            assert!(matches!(done, Err(Error::ConnectionLost(_))), "{read} bytes: {done:?}");
        }
    }
}

#[tokio::test]
async fn while_it_is_answered() {
    let router = FakeRouter::start().await;
    for operation in OPERATIONS {
        let mut length = usize::MAX;
        let mut sent = 0;
        while sent <= length {
            let (bus, mut peer) = connect(&router).await;
            let begun = tokio::spawn(operation(bus.clone()));
            let answer = bytes(&answer(&peer.next().await.unwrap()));
            length = answer.len();
            peer.send_bytes(&answer[..sent]).await;
            if sent == length {
                within("the outcome", begun).await.unwrap().unwrap();
            } else {
                drop(peer);
                let done = within("the outcome", begun).await.unwrap();
                assert!(
                    matches!(done, Err(Error::ConnectionLost(LostReason::HungUp))),
                    "{sent} bytes: {done:?}"
                );
            }
            sent += 1;
        }
    }
}

// The items before the cut are delivered, and the stream ends with an error wherever the cut is.
#[tokio::test]
async fn in_the_middle_of_a_stream() {
    let router = FakeRouter::start().await;
    for (parts, extra) in [(0, 0), (0, 7), (1, 0), (3, 0), (3, 7), (1000, 1)] {
        let (bus, mut peer) = connect(&router).await;
        let mut replies = bus.stream("/s", "").await.unwrap();
        let CallRequest { request_id, .. } = peer.expect().await;
        for number in 0..parts {
            peer.part(&request_id, &number.to_string()).await;
        }
        let last = CallReply { request_id, data: "last".into(), ..Default::default() };
        peer.send_bytes(&bytes(&last.to_frame())[..extra]).await;
        drop(peer);
        for number in 0..parts {
            let item = within("an item", replies.next()).await.unwrap().unwrap();
            assert_eq!(item, number.to_string());
        }
        let error = whole(replies).await.unwrap_err();
        assert!(matches!(error, Error::ConnectionLost(LostReason::HungUp)), "{error}");
    }
}

// With many requests of each kind at the same time, all of them end.
#[tokio::test]
async fn when_many_wait() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = connect(&router).await;
    let mut begun = Vec::new();
    for number in 0..100 {
        for operation in &OPERATIONS[..3] {
            begun.push(tokio::spawn(operation(bus.clone())));
        }
        let bus = bus.clone();
        // Another name than that of the calls, which would not leave the process otherwise.
        begun.push(tokio::spawn(async move {
            let handler = |_: Call| async { Ok("") };
            bus.register(&format!("/other/{number}"), handler).await.map(drop)
        }));
    }
    begun.push(tokio::spawn(OPERATIONS[4](bus.clone())));
    for _ in 0..401 {
        peer.next().await.unwrap();
    }
    drop(peer);
    for done in within("all outcomes", join_all(begun)).await {
        let done = done.unwrap();
        assert!(matches!(done, Err(Error::ConnectionLost(LostReason::HungUp))), "{done:?}");
    }
}

// A caller that waits for room in the outbox has sent nothing.
#[tokio::test]
async fn while_it_waits_for_room() {
    let router = FakeRouter::start().await;
    let builder = builder().outbox_limit(1000);
    let (bus, peer) = tokio::join!(builder.connect(&router.address), router.accept());
    let bus = bus.unwrap();
    // More than fits into the socket buffers.
    let large = Bytes::from(vec![7; 32 << 20]);
    let first = tokio::spawn({
        let (bus, large) = (bus.clone(), large.clone());
        async move { bus.call("/s", large).await }
    });
    let (begun, mut waiting) = mpsc::unbounded_channel();
    let later = (0..3).map(|_| {
        let (bus, large, begun) = (bus.clone(), large.clone(), begun.clone());
        tokio::spawn(async move {
            let mut call = Box::pin(bus.call("/s", large));
            let is_waiting = futures::poll!(&mut call).is_pending();
            begun.send(is_waiting).unwrap();
            call.await
        })
    });
    let later: Vec<_> = later.collect();
    for _ in 0..3 {
        assert_eq!(within("a call", waiting.recv()).await, Some(true));
    }
    drop(peer);
    let error = within("the outcome", first).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost(_)), "{error}");
    for call in later {
        let error = within("the outcome", call).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::NotSent(_)), "{error}");
    }
}

// With a router, which reports the end of the service.
#[tokio::test]
async fn when_only_the_service_goes() {
    let router = TestRouter::start().await;
    let bus = builder().connect(&router.unix).await.unwrap();
    for framing in [Framing::Packet, Framing::Classic] {
        for (parts, extra) in [(0, 0), (0, 7), (2, 0), (2, 7)] {
            let mut service = Peer::connect(&router.unix, framing).await;
            assert_eq!(service.register("/s").await, 0);
            let mut replies = bus.stream("/s", "").await.unwrap();
            let call = tokio::spawn({
                let bus = bus.clone();
                async move { bus.call("/s", "").await }
            });
            let request: CallRequest = service.expect().await;
            let CallRequest { .. } = service.expect().await;
            for _ in 0..parts {
                service.part(&request.request_id, "part").await;
            }
            let last = CallReply { request_id: request.request_id, ..Default::default() };
            let mut half = BytesMut::new();
            assert!(last.to_frame().encode(framing, &mut half));
            service.send_bytes(&half[..extra]).await;
            drop(service);
            for _ in 0..parts {
                assert_eq!(within("an item", replies.next()).await.unwrap().unwrap(), "part");
            }
            let error = whole(replies).await.unwrap_err();
            assert!(matches!(error, Error::ServiceFailure { .. }), "{error}");
            let error = within("the outcome", call).await.unwrap().unwrap_err();
            assert!(matches!(error, Error::ServiceFailure { .. }), "{error}");
        }
    }
    assert_eq!(router.status.usage().open_calls, 0);
    router.stop().await;
}
