//! When a connection ends for any reason, both sides notice at once, and all its memory is released.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use gsb_client::{Bus, Call, Error, Failure, LostReason};
use gsb_proto::messages::*;
use gsb_testkit::{FakeRouter, TestRouter, within};
use tokio::sync::mpsc;

/// Waits until the router holds nothing for the client any more.
async fn forgotten(router: &TestRouter) {
    within("the router to forget", async {
        while router.status.usage() != Default::default() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn closing_ends_the_connection_although_handles_exist() {
    let router = TestRouter::start().await;
    let bus = Bus::connect(&router.unix).await.unwrap();
    let registration = bus.register("/s", |_: Call| async { Ok("") }).await.unwrap();
    let subscription = bus.subscribe("t").await.unwrap();
    bus.clone().close().await;
    forgotten(&router).await;
    assert!(matches!(bus.call("/s", "").await, Err(Error::ShutDown)));
    drop((registration, subscription));
    router.stop().await;
}

// A handler that is running keeps the process's side of a call, but not the connection.
#[tokio::test]
async fn a_running_handler_does_not_hold_it_open() {
    let router = TestRouter::start().await;
    let bus = Bus::connect(&router.unix).await.unwrap();
    let (entered, mut running) = mpsc::unbounded_channel();
    let handler = move |_: Call| {
        entered.send(()).unwrap();
        std::future::pending::<Result<Bytes, Failure>>()
    };
    let registration = bus.register("/s", handler).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    let call = tokio::spawn(async move { caller.call("/s", "").await });
    within("the call", running.recv()).await.unwrap();
    drop((registration, bus));
    let error = within("the answer", call).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ServiceFailure { .. }), "{error}");
    router.stop().await;
}

/// Records that it was dropped.
struct Witness(Arc<AtomicUsize>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// Even a handler that holds its own bus is dropped.
#[tokio::test]
async fn handlers_are_let_go() {
    let dropped = Arc::new(AtomicUsize::new(0));
    for round in 1..=3 {
        let router = TestRouter::start().await;
        let bus = Bus::builder().reconnect(None).connect(&router.unix).await.unwrap();
        let (held, witness) = (bus.clone(), Witness(dropped.clone()));
        let handler = move |_: Call| {
            let _ = (&held, &witness);
            async { Ok("") }
        };
        let registration = bus.register("/s", handler).await.unwrap();
        router.stop().await;
        assert!(within("the end", bus.closed()).await.is_err());
        // Only the registration that the user holds keeps the handler.
        drop(registration);
        within("the handler to be dropped", async {
            while dropped.load(Ordering::SeqCst) < round {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_weak_handle_does_not_hold_it_open() {
    let router = TestRouter::start().await;
    let bus = Bus::connect(&router.unix).await.unwrap();
    let weak = bus.downgrade();
    assert!(weak.upgrade().is_some());
    drop(bus);
    assert!(weak.upgrade().is_none());
    forgotten(&router).await;
    router.stop().await;
}

#[test]
fn the_end_of_its_runtime_is_the_end() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (serving, first, second) = (runtime(), runtime(), runtime());
    let router = serving.block_on(TestRouter::start());
    let stop = Arc::new(AtomicBool::new(false));
    let bus = std::thread::scope(|scope| {
        scope.spawn(|| {
            serving.block_on(async {
                while !stop.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        });
        let bus = first.block_on(Bus::connect(&router.unix)).unwrap();
        stop.store(true, Ordering::SeqCst);
        bus
    });
    drop(first);
    second.block_on(async {
        let ended = within("the end", bus.closed()).await;
        assert!(matches!(ended, Err(Error::ConnectionLost(LostReason::RuntimeEnded))));
        assert!(matches!(bus.push("/s", "").await, Err(Error::NotSent(_))));
        assert!(bus.register("/s", |_: Call| async { Ok("") }).await.is_err());
    });
}

// A stream that always has an item ready does not starve other tasks, and ends when no peer can receive it any more.
#[tokio::test]
async fn an_endless_stream_ends_with_it() {
    let router = TestRouter::start().await;
    let bus = Bus::connect(&router.unix).await.unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let endless = {
        let dropped = dropped.clone();
        move |_: Call| {
            let witness = Witness(dropped.clone());
            stream::repeat_with(move || {
                let _ = &witness;
                Ok(Bytes::from_static(b"more"))
            })
        }
    };
    let _endless = bus.register_stream("/endless", endless).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    let mut replies = caller.stream("/endless", "").await.unwrap();
    within("some of it", replies.next()).await.unwrap().unwrap();
    bus.close().await;
    within("the end of the handler", async {
        while dropped.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(replies);
    router.stop().await;
}

#[tokio::test]
async fn a_router_that_breaks_the_protocol_is_left() {
    for wrong in [
        RegisterReply::default().to_frame(),
        RegisterRequest::default().to_frame(),
        gsb_proto::Frame::new(gsb_proto::MessageKind::CallReply, vec![0xff]),
    ] {
        let router = FakeRouter::start().await;
        let (bus, mut peer) =
            tokio::join!(Bus::builder().reconnect(None).connect(&router.address), router.accept());
        let bus = bus.unwrap();
        peer.send_frame(wrong).await;
        assert!(within("the end", bus.closed()).await.is_err());
        // The socket is closed, too, although a handle exists.
        assert!(peer.next().await.is_none());
    }
}

#[tokio::test]
async fn a_silent_router_is_asked_and_then_left() {
    let router = FakeRouter::start().await;
    let builder = Bus::builder().reconnect(None).ping_timeout(Duration::from_millis(300));
    let (bus, mut peer) = tokio::join!(builder.connect(&router.address), router.accept());
    let bus = bus.unwrap();
    // The connection is kept while the router answers.
    for _ in 0..2 {
        let Ping {} = peer.expect().await;
        peer.send(Pong {}).await;
    }
    let Ping {} = peer.expect().await;
    let ended = within("the end", bus.closed()).await;
    assert!(matches!(ended, Err(Error::ConnectionLost(LostReason::Silent(_)))));
    assert!(peer.next().await.is_none());
}

#[tokio::test]
async fn a_router_that_does_not_answer_is_not_waited_for_for_ever() {
    let router = FakeRouter::start().await;
    let builder = Bus::builder().request_timeout(Duration::from_millis(50));
    let (bus, mut peer) = tokio::join!(builder.connect(&router.address), router.accept());
    let bus = bus.unwrap();
    let handler = |_: Call| async { Ok("") };
    assert!(matches!(bus.register("/s", handler).await, Err(Error::Timeout { .. })));
    assert!(matches!(bus.subscribe("t").await, Err(Error::Timeout { .. })));
    assert!(matches!(bus.broadcast("t", "").await, Err(Error::Timeout { .. })));
    // A request that timed out is undone, here and at the router, which may only be late. So it can be repeated.
    assert!(matches!(bus.register("/s", handler).await, Err(Error::Timeout { .. })));
    let RegisterRequest { .. } = peer.expect().await;
    let UnregisterRequest { .. } = peer.expect().await;
    let SubscribeRequest { .. } = peer.expect().await;
    let UnsubscribeRequest { .. } = peer.expect().await;
    let BroadcastRequest { .. } = peer.expect().await;
    let RegisterRequest { .. } = peer.expect().await;
    let UnregisterRequest { .. } = peer.expect().await;
    within("the end", bus.close()).await;
}
