//! Handlers, destructors and wakers of users may panic. Nothing leaks, and the bus either works or ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use gsb_client::{Bus, Call, Error, Failure, Message};
use gsb_testkit::{TestRouter, within};
use serde::{Deserialize, Serialize};

/// Panics when it is dropped.
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        if !std::thread::panicking() {
            panic!("on purpose");
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Nothing;

impl Message for Nothing {
    const ID: &'static str = "nothing";
    type Item = ();
    type Error = ();
}

/// Panics when it is woken.
struct LoudWaker;

impl Wake for LoudWaker {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

#[tokio::test]
async fn the_payload_of_a_panic_is_dropped() {
    let router = TestRouter::start().await;
    let bus = Bus::connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    let (held, dropped) = (Arc::new(()), Arc::new(AtomicUsize::new(0)));
    let (hold, bombs) = (held.clone(), dropped.clone());
    let handler = move |call: Call| {
        let (hold, bomb) = (hold.clone(), Bomb(bombs.clone()));
        async move {
            match &*call.data {
                b"bomb" => std::panic::panic_any(bomb),
                _ => {
                    std::mem::forget(bomb);
                    std::panic::panic_any((call.data, hold))
                }
            }
            #[expect(unreachable_code, reason = "the handler needs a type")]
            Ok::<Bytes, Failure>(Bytes::new())
        }
    };
    let _service = bus.register("/s", handler).await.unwrap();
    for from in [&bus, &caller] {
        for _ in 0..10 {
            let error = from.call("/s", vec![7; 100_000]).await.unwrap_err();
            assert!(matches!(error, Error::ServiceFailure { .. }), "{error}");
            from.push("/s", vec![7; 100_000]).await.unwrap();
            let error = from.call("/s", "bomb").await.unwrap_err();
            assert!(matches!(error, Error::ServiceFailure { .. }), "{error}");
        }
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 20);
    // The handler and this test each have one handle.
    within("the end of the pushes", async {
        while Arc::strong_count(&held) > 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    router.stop().await;
}

#[tokio::test]
async fn neither_destructors_nor_wakers_keep_a_bus_from_ending() {
    let router = TestRouter::start().await;
    let bus = Bus::builder().reconnect(None).connect(&router.unix).await.unwrap();
    let other = Bus::connect(&router.tcp).await.unwrap();
    let _silent = other
        .register("/silent", |_: Call| std::future::pending::<Result<Bytes, Failure>>())
        .await
        .unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    for number in 0..3 {
        let bomb = Bomb(dropped.clone());
        let handler = move |call: Call| {
            let _bomb = &bomb;
            async { Ok(call.data) }
        };
        bus.register(&format!("/s/{number}"), handler).await.unwrap().detach();
    }
    let bomb = Bomb(dropped.clone());
    let typed = move |_: Nothing| {
        let _bomb = &bomb;
        async { Ok(()) }
    };
    bus.bind("/typed", typed).await.unwrap().detach();
    let waker = Waker::from(Arc::new(LoudWaker));
    let mut loud = Context::from_waker(&waker);
    let mut call = Box::pin(bus.call("/silent", ""));
    assert!(call.poll_unpin(&mut loud).is_pending());
    let mut stream = bus.stream("/silent", "").await.unwrap();
    assert!(stream.poll_next_unpin(&mut loud).is_pending());
    let mut events = bus.subscribe("t").await.unwrap();
    assert!(events.poll_next_unpin(&mut loud).is_pending());
    let mut watch = bus.watch();
    let mut changed = Box::pin(watch.changed());
    assert!(changed.poll_unpin(&mut loud).is_pending());
    let mut flush = Box::pin(bus.flush());
    assert!(flush.poll_unpin(&mut loud).is_pending());

    let mut loudly_closed = Box::pin(bus.closed());
    assert!(loudly_closed.poll_unpin(&mut loud).is_pending());

    // Others wait for the same behind those.
    let mut quiet_watch = bus.watch();
    let ended = tokio::spawn(async move { while quiet_watch.changed().await.is_some() {} });
    let closed = tokio::spawn({
        let bus = bus.clone();
        async move { bus.closed().await }
    });
    router.kill().await;
    let error = within("the end of the bus", closed).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost(_)), "{error}");
    within("the end of its status", ended).await.unwrap();
    within("the end of the bus", loudly_closed).await.unwrap_err();
    assert_eq!(dropped.load(Ordering::SeqCst), 4);
    assert!(matches!(within("the call", call).await, Err(Error::ConnectionLost(_))));
}

// The task of the connection may be the last owner of a handler.
#[tokio::test]
async fn a_destructor_that_panics_does_not_end_the_connection() {
    let router = TestRouter::start().await;
    let bus = Bus::connect(&router.unix).await.unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let bomb = Bomb(dropped.clone());
    let handler = move |call: Call| {
        let _bomb = &bomb;
        async { Ok(call.data) }
    };
    let registration = bus.register("/s", handler).await.unwrap();
    registration.unregister().await.unwrap();
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    let _echo = bus.register("/s", |call: Call| async { Ok(call.data) }).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    assert_eq!(caller.call("/s", "hello").await.unwrap(), "hello");
    router.stop().await;
}

/// Polls a future once with a waker that panics.
fn poll_loudly<T>(future: &mut (impl Future<Output = T> + Unpin)) {
    let waker = Waker::from(Arc::new(LoudWaker));
    assert!(future.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
}

// The task of the connection wakes all tasks that wait for the router.
#[tokio::test]
async fn a_waker_that_panics_does_not_end_the_connection() {
    let router = TestRouter::start().await;
    let bus = Bus::builder().reconnect(None).connect(&router.unix).await.unwrap();
    let other = Bus::connect(&router.tcp).await.unwrap();
    let _echo = other.register("/echo", |call: Call| async { Ok(call.data) }).await.unwrap();
    let mut events = bus.subscribe("t").await.unwrap();
    poll_loudly(&mut events.next());
    other.broadcast("t", "event").await.unwrap();
    let mut call = Box::pin(bus.call("/echo", "call"));
    poll_loudly(&mut call);
    let mut stream = bus.stream("/echo", "stream").await.unwrap();
    poll_loudly(&mut stream.next());
    let mut flush = Box::pin(bus.flush());
    poll_loudly(&mut flush);

    // All of these are answered before this one.
    assert_eq!(within("a reply", bus.call("/echo", "quiet")).await.unwrap(), "quiet");
    assert_eq!(within("an event", events.next()).await.unwrap().unwrap().data, "event");
    assert_eq!(within("a reply", call).await.unwrap(), "call");
    assert_eq!(within("an item", stream.next()).await.unwrap().unwrap(), "stream");
    assert!(within("the end of the stream", stream.next()).await.is_none());
    within("the flush", flush).await.unwrap();
    router.stop().await;
}
