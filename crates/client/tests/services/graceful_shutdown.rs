//! A shutdown loses no call that a handler has begun: its caller gets the reply. All other calls are refused with an error
//! that lets callers try elsewhere.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _, poll, stream};
use gsb_client::{Announcement, Bus, Call, Error, Failure};
use gsb_proto::messages::*;
use gsb_proto::{Address, MessageKind};
use gsb_testkit::{FakeRouter, TestRouter, within};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::yield_now;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A handler that reports its begin, and ends on request.
fn gated(
    entered: mpsc::UnboundedSender<()>,
    gate: Arc<Notify>,
) -> impl Fn(Call) -> futures::future::BoxFuture<'static, Result<Bytes, Failure>> {
    move |call: Call| {
        let gate = gate.clone();
        entered.send(()).unwrap();
        Box::pin(async move {
            gate.notified().await;
            Ok(call.data)
        })
    }
}

/// Callers call without a pause while the service is shut down.
async fn under_a_stream_of_calls(router: &TestRouter, address: &Address, as_stream: bool) {
    let service = Bus::connect(address).await.unwrap();
    let begun = Arc::new(Mutex::new(HashSet::new()));
    let (begin, count) = (begun.clone(), Arc::new(AtomicUsize::new(0)));
    let many = count.clone();
    let begins = move |call: &Call| {
        assert!(begin.lock().insert(call.data.clone()), "called twice");
        many.fetch_add(1, Ordering::SeqCst);
    };
    let registration = if as_stream {
        let items = move |call: Call| {
            begins(&call);
            stream::iter(0..5).then(move |_| {
                let data = call.data.clone();
                async move {
                    yield_now().await;
                    Ok(data)
                }
            })
        };
        service.register_stream("/s", items).await.unwrap()
    } else {
        let reply = move |call: Call| {
            begins(&call);
            async move {
                yield_now().await;
                Ok(call.data)
            }
        };
        service.register("/s", reply).await.unwrap()
    };
    let caller = Bus::connect(&router.unix).await.unwrap();
    let callers = (0..20).map(|task| {
        let caller = caller.clone();
        tokio::spawn(async move {
            let mut answered = HashSet::new();
            for number in 0.. {
                let data = Bytes::from(format!("{task}/{number}"));
                let outcome = if as_stream {
                    let replies = caller.stream("/s", data.clone()).await.unwrap();
                    replies.try_collect::<Vec<_>>().await.map(|replies| {
                        assert_eq!(replies, vec![data.clone(); 5]);
                    })
                } else {
                    caller.call("/s", data.clone()).await.map(|reply| assert_eq!(reply, data))
                };
                match outcome {
                    Ok(()) => assert!(answered.insert(data)),
                    Err(Error::NoSuchService { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            answered
        })
    });
    let callers: Vec<_> = callers.collect();
    within("many calls", async {
        while count.load(Ordering::SeqCst) < 500 {
            yield_now().await;
        }
    })
    .await;
    service.shutdown(TIMEOUT).await.unwrap();
    let mut answered = HashSet::new();
    for caller in callers {
        answered.extend(within("the end of a caller", caller).await.unwrap());
    }
    let begun = begun.lock();
    assert_eq!(begun.len(), answered.len());
    assert_eq!(*begun, answered);
    assert!(matches!(registration.announcement(), Announcement::Ended));
}

#[tokio::test]
async fn each_call_that_has_begun_is_answered() {
    let router = TestRouter::start().await;
    for address in [&router.unix, &router.tcp] {
        for as_stream in [false, true] {
            under_a_stream_of_calls(&router, address, as_stream).await;
        }
    }
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_that_has_begun_is_answered_on_two_threads() {
    let router = TestRouter::start().await;
    for address in [&router.unix, &router.tcp] {
        for as_stream in [false, true] {
            under_a_stream_of_calls(&router, address, as_stream).await;
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn queued_replies_are_sent_before_the_end() {
    let router = TestRouter::start().await;
    let length = 4 << 20;
    for address in [&router.unix, &router.tcp] {
        let service = Bus::builder().outbox_limit(length).connect(address).await.unwrap();
        let (entered, mut running) = mpsc::unbounded_channel();
        let large = move |_: Call| {
            entered.send(()).unwrap();
            async move { Ok(vec![7; length]) }
        };
        let _large = service.register("/large", large).await.unwrap();
        let caller = Bus::connect(address).await.unwrap();
        let calls = (0..10).map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.call("/large", "").await })
        });
        let calls: Vec<_> = calls.collect();
        for _ in 0..10 {
            within("the call", running.recv()).await.unwrap();
        }
        service.shutdown(TIMEOUT).await.unwrap();
        for call in join_all(calls).await {
            assert_eq!(call.unwrap().unwrap().len(), length);
        }
    }
    router.stop().await;
}

// Refusals wait outside of the outbox when it is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_refusals_are_sent_before_the_end() {
    const CALLS: usize = 5000;
    let fake = FakeRouter::start().await;
    for _ in 0..10 {
        let address = fake.address.clone();
        let builder = Bus::builder().outbox_limit(300);
        let connected = tokio::spawn(async move { builder.connect(&address).await });
        let mut router = fake.accept().await;
        let service = connected.await.unwrap().unwrap();
        let registered = tokio::spawn({
            let service = service.clone();
            async move { service.register_push("/p", async |_: Call| ()).await }
        });
        let RegisterRequest { .. } = router.expect().await;
        router.send(RegisterReply::default()).await;
        let _registration = registered.await.unwrap().unwrap();
        for number in 0..CALLS {
            router.call("/p", &number.to_string(), "").await;
        }
        let ended = tokio::spawn(async move { service.shutdown(TIMEOUT).await });
        let mut refused = HashSet::new();
        while let Some(frame) = router.next().await {
            match frame.kind {
                MessageKind::CallReply => {
                    let reply: CallReply = frame.decode().unwrap();
                    assert!(refused.insert(reply.request_id));
                }
                MessageKind::UnregisterRequest => router.send(UnregisterReply::default()).await,
                _ => {}
            }
        }
        drop(router);
        assert_eq!(refused.len(), CALLS);
        within("the end", ended).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn detached_handlers_that_take_too_long_are_counted() {
    let router = TestRouter::start().await;
    let service = Bus::connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    let (entered, mut running) = mpsc::unbounded_channel();
    let (gate, goes_on) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (held, done) = (gate.clone(), goes_on.clone());
    let slow = move |call: Call| {
        let (held, done) = (held.clone(), done.clone());
        call.detach();
        entered.send(()).unwrap();
        async move {
            held.notified().await;
            done.store(true, Ordering::SeqCst);
            Ok("too late")
        }
    };
    let _slow = service.register("/slow", slow).await.unwrap();
    let call = tokio::spawn({
        let caller = caller.clone();
        async move { caller.call("/slow", "").await }
    });
    within("the call", running.recv()).await.unwrap();
    let short = Duration::from_millis(50);
    match service.shutdown(short).await.unwrap_err() {
        Error::Unfinished { running, after } => assert_eq!((running, after), (1, short)),
        error => panic!("{error}"),
    }
    // The caller does not wait any longer, and the name is free.
    let error = within("the end of the call", call).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ServiceFailure { .. }), "{error}");
    let _heir = caller.register("/slow", |_: Call| async { Ok("") }).await.unwrap();
    // The bus has ended, but the handler has not.
    assert!(matches!(service.call("/slow", "").await, Err(Error::ShutDown)));
    assert!(matches!(service.settled().await, Err(Error::ShutDown)));
    service.closed().await.unwrap();
    gate.notify_one();
    within("the handler", async {
        while !goes_on.load(Ordering::SeqCst) {
            yield_now().await;
        }
    })
    .await;
    router.stop().await;
}

#[tokio::test]
async fn meanwhile_nothing_new_begins_but_calls_can_be_made() {
    let router = TestRouter::start().await;
    let service = Bus::connect(&router.unix).await.unwrap();
    let other = Bus::connect(&router.unix).await.unwrap();
    let handler = |_: Call| async { Ok("fine") };
    let _other = other.register("/other", handler).await.unwrap();
    let _own = service.register("/own", handler).await.unwrap();
    let (entered, mut running) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let held = service.register("/held", gated(entered, gate.clone())).await.unwrap();
    let mut events = service.subscribe("t").await.unwrap();
    let call = tokio::spawn({
        let other = other.clone();
        async move { other.call("/held", "accepted").await }
    });
    within("the call", running.recv()).await.unwrap();

    let mut shutdown = Box::pin(service.shutdown(TIMEOUT));
    assert!(poll!(&mut shutdown).is_pending());
    for bus in [&service, &service.in_process()] {
        assert!(matches!(bus.register("/new", handler).await, Err(Error::ShutDown)));
        assert!(matches!(bus.subscribe("new").await, Err(Error::ShutDown)));
    }
    // A running handler may need it.
    assert_eq!(service.call("/other", "").await.unwrap(), "fine");
    assert_eq!(service.call("/own", "").await.unwrap(), "fine");
    service.broadcast("t", "event").await.unwrap();
    assert_eq!(within("the event", events.next()).await.unwrap().unwrap().data, "event");
    assert!(matches!(other.call("/own", "").await, Err(Error::NoSuchService { .. })));
    let heir = other.register("/held", handler).await.unwrap();
    // Dropping a registration now does not unregister the name of its new owner.
    drop(held);
    assert_eq!(other.call("/held", "").await.unwrap(), "fine");
    assert!(poll!(&mut shutdown).is_pending());

    gate.notify_one();
    within("the shutdown", shutdown).await.unwrap();
    assert_eq!(within("the reply", call).await.unwrap().unwrap(), "accepted");
    assert_eq!(router.status.usage().connections, 1);
    // The end of the bus by this side is not a gap.
    assert!(within("the end", events.next()).await.is_none());
    heir.unregister().await.unwrap();
    // A second shutdown, by another handle, has no effect.
    service.clone().shutdown(TIMEOUT).await.unwrap();
    router.stop().await;
}

#[tokio::test]
async fn calls_within_the_process_are_waited_for() {
    let router = TestRouter::start().await;
    for bus in [Bus::local(), Bus::connect(&router.unix).await.unwrap()] {
        let (entered, mut running) = mpsc::unbounded_channel();
        let gate = Arc::new(Notify::new());
        let inside = bus.in_process();
        let _held = inside.register("/held", gated(entered, gate.clone())).await.unwrap();
        let items = |_: Call| stream::iter((0..3).map(|_| Ok(Bytes::from_static(b"item"))));
        let _items = bus.register_stream("/items", items).await.unwrap();
        let mut items = bus.stream("/items", "").await.unwrap();
        assert_eq!(items.next().await.unwrap().unwrap(), "item");
        let call = tokio::spawn({
            let bus = bus.clone();
            async move { bus.call("/held", "accepted").await }
        });
        bus.push("/held", "accepted").await.unwrap();
        for _ in 0..2 {
            within("the call", running.recv()).await.unwrap();
        }
        let shutdown = tokio::spawn({
            let bus = bus.clone();
            async move { bus.shutdown(TIMEOUT).await }
        });
        gate.notify_one();
        gate.notify_one();
        assert_eq!(within("the reply", call).await.unwrap().unwrap(), "accepted");
        gate.notify_one();
        for _ in 0..2 {
            assert!(!shutdown.is_finished(), "the stream is not read to its end");
            assert_eq!(items.next().await.unwrap().unwrap(), "item");
        }
        assert!(items.next().await.is_none());
        within("the shutdown", shutdown).await.unwrap().unwrap();
        assert!(matches!(bus.call("/held", "").await, Err(Error::ShutDown)));
    }
    router.stop().await;
}

#[tokio::test]
async fn a_router_that_says_nothing_is_not_waited_for_longer() {
    let router = FakeRouter::start().await;
    for answers in [false, true] {
        let (bus, mut peer) = tokio::join!(Bus::connect(&router.address), router.accept());
        let bus = bus.unwrap();
        let registering = bus.register("/s", |_: Call| async { Ok("") });
        let confirm = async {
            let RegisterRequest { .. } = peer.expect().await;
            peer.send(RegisterReply::default()).await;
        };
        let (registration, ()) = tokio::join!(registering, confirm);
        let shutdown = bus.shutdown(Duration::from_millis(50));
        if answers {
            // The router closes the connection instead of answering, which also frees the name.
            let (done, ()) = tokio::join!(shutdown, async {
                let UnregisterRequest { .. } = peer.expect().await;
                drop(peer);
            });
            done.unwrap();
        } else {
            let error = within("the shutdown", shutdown).await.unwrap_err();
            assert!(matches!(error, Error::Unfinished { running: 0, .. }), "{error}");
            let UnregisterRequest { .. } = peer.expect().await;
            assert!(peer.next().await.is_none());
        }
        drop(registration.unwrap());
    }
}

// Dropping the future of a shutdown does not undo it: the names are unregistered.
#[tokio::test]
async fn a_shutdown_that_is_given_up_is_the_end() {
    let bus = Bus::local();
    let handler = |_: Call| std::future::pending::<Result<Bytes, Failure>>();
    let _service = bus.register("/s", handler).await.unwrap();
    let mut call = Box::pin(bus.call("/s", ""));
    assert!(poll!(&mut call).is_pending());
    let mut watch = bus.watch();
    let mut shutdown = Box::pin(bus.shutdown(TIMEOUT));
    assert!(poll!(&mut shutdown).is_pending());
    drop(shutdown);
    assert!(matches!(bus.call("/s", "").await, Err(Error::ShutDown)));
    assert!(watch.changed().await.is_some());
    assert!(watch.changed().await.is_none());
    assert!(watch.wait_for(|status| status.is_settled).await.is_none());
}
