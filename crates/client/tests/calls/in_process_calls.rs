//! A service of this process is called within the process: without the router, without encoding and without copying,
//! and with the same outcomes as over a router.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, poll, stream};
use gsb_client::{Bus, Call, Error, Failure, Message};
use gsb_testkit::{TestRouter, within};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::{Notify, mpsc};

/// A handler that answers with a fixed text.
fn says(text: &'static str) -> impl Fn(Call) -> std::future::Ready<Result<Bytes, Failure>> {
    move |_| std::future::ready(Ok(Bytes::from_static(text.as_bytes())))
}

fn address_of(data: &[u8]) -> String {
    format!("{:p}", data.as_ptr())
}

/// Waits until a counter has the expected value.
async fn becomes(counter: &AtomicUsize, expected: usize) {
    within("the counter", async {
        while counter.load(Ordering::SeqCst) != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread without a runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Counts down when dropped.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Alive(counter.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A message that cannot be encoded or decoded.
#[derive(Debug)]
struct Opaque(Vec<u8>);

impl Serialize for Opaque {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("it is encoded");
    }
}

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("it is decoded");
    }
}

impl Message for Opaque {
    const ID: &'static str = "opaque";
    type Item = Opaque;
    type Error = Opaque;
}

/// A message that can be encoded if its payload can.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Double<T>(T);

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Message for Double<T> {
    const ID: &'static str = "double";
    type Item = T;
    type Error = String;
}

#[tokio::test]
async fn the_longest_name_of_this_process_wins_over_any_elsewhere() {
    let router = TestRouter::start().await;
    let here = Bus::connect(&router.unix).await.unwrap();
    let there = Bus::connect(&router.unix).await.unwrap();
    let _short = here.register("/a", says("here")).await.unwrap();
    let _middle = here.register("/a/b", says("here, below")).await.unwrap();
    let _long = there.register("/a/b/c", says("there")).await.unwrap();
    for (address, expected) in
        [("/a", "here"), ("/a/x", "here"), ("/a/b", "here, below"), ("/a/b/c/d", "here, below")]
    {
        assert_eq!(here.call(address, "").await.unwrap(), expected, "{address}");
    }
    // A bus without a service of this name calls the service that is registered at the router.
    assert_eq!(there.call("/a/b/c/d", "").await.unwrap(), "there");
    assert_eq!(there.call("/a/b", "").await.unwrap(), "here, below");
    router.stop().await;
}

#[tokio::test]
async fn typed_messages_and_answers_move() {
    let router = TestRouter::start().await;
    for bus in [Bus::local(), Bus::connect(&router.unix).await.unwrap()] {
        let (sender, mut pushed) = mpsc::unbounded_channel();
        let _once = bus.bind("/once", |message: Opaque| async { Ok(message) }).await.unwrap();
        let fails = |message: Opaque| async { Err(message) };
        let _fails = bus.bind("/fails", fails).await.unwrap();
        let many = |message: Opaque| stream::iter([Ok(message), Ok(Opaque(Vec::new()))]);
        let _many = bus.bind_stream("/many", many).await.unwrap();
        let takes = move |message: Opaque| {
            sender.send(address_of(&message.0)).unwrap();
            async { Ok(message) }
        };
        let _takes = bus.bind("/takes", takes).await.unwrap();

        let message = || {
            let data = vec![7; 1000];
            (address_of(&data), Opaque(data))
        };
        let (place, sent) = message();
        let Ok(Opaque(back)) = bus.service("/once").call(sent).await.unwrap() else {
            panic!("not the item");
        };
        assert_eq!(address_of(&back), place, "it was copied");
        let (place, sent) = message();
        let Err(Opaque(back)) = bus.service("/fails").call(sent).await.unwrap() else {
            panic!("not the error");
        };
        assert_eq!(address_of(&back), place, "it was copied");
        for service in ["/many", "/once"] {
            let (place, sent) = message();
            let mut items = bus.service(service).stream(sent).await.unwrap();
            let Ok(Opaque(back)) = items.next().await.unwrap().unwrap() else {
                panic!("not the item");
            };
            assert_eq!(address_of(&back), place, "it was copied");
        }
        let (place, sent) = message();
        bus.service("/takes").push(sent).await.unwrap();
        assert_eq!(within("the push", pushed.recv()).await, Some(place));
    }
    router.stop().await;
}

#[tokio::test]
async fn payloads_are_not_copied() {
    let router = TestRouter::start().await;
    let bus = Bus::connect(&router.unix).await.unwrap();
    let _echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await.unwrap();
    let twice = |call: Call| stream::iter([Ok(call.data.clone()), Ok(call.data)]);
    let _twice = bus.register_stream("/twice", twice).await.unwrap();
    for length in [10, 100_000] {
        let data = Bytes::from(vec![7; length]);
        let place = address_of(&data);
        let reply = bus.call("/echo", data.clone()).await.unwrap();
        assert_eq!(address_of(&reply), place);
        for address in ["/twice", "/echo"] {
            let replies = bus.stream(address, data.clone()).await.unwrap();
            let replies: Vec<Bytes> = replies.try_collect().await.unwrap();
            assert!(replies.iter().all(|reply| address_of(reply) == place));
        }
        let mut events = bus.subscribe("t").await.unwrap();
        bus.broadcast("t", data.clone()).await.unwrap();
        let event = within("the event", events.next()).await.unwrap().unwrap();
        assert_eq!(address_of(&event.data), place);
    }
    router.stop().await;
}

#[tokio::test]
async fn in_process_services_are_invisible_to_other_processes() {
    let router = TestRouter::start().await;
    let here = Bus::connect(&router.unix).await.unwrap();
    let there = Bus::connect(&router.unix).await.unwrap();
    let inside = here.in_process();
    let _public = here.register("/a", says("public")).await.unwrap();
    let _private = inside.register("/a/b", says("private")).await.unwrap();
    let _alone = inside.register("/alone", says("alone")).await.unwrap();
    assert_eq!(router.status.usage().services, 1);

    for bus in [&here, &inside] {
        assert_eq!(bus.call("/a/b", "").await.unwrap(), "private");
        assert_eq!(bus.call("/a/b/c", "").await.unwrap(), "private");
        assert_eq!(bus.call("/alone", "").await.unwrap(), "alone");
        assert_eq!(bus.call("/a", "").await.unwrap(), "public");
    }
    for address in ["/a/b", "/a/b/c", "/a"] {
        assert_eq!(there.call(address, "").await.unwrap(), "public", "{address}");
    }
    assert!(matches!(there.call("/alone", "").await, Err(Error::NoSuchService { .. })));
    // Other processes can register the name, because it is not registered at the router.
    let _theirs = there.register("/alone", says("theirs")).await.unwrap();
    assert_eq!(here.call("/alone", "").await.unwrap(), "alone");
    router.stop().await;
}

// Two buses in one process, or one bus and its own services: no task waits for itself.
#[tokio::test]
async fn services_of_one_process_may_call_each_other_in_a_circle() {
    let router = TestRouter::start().await;
    let a = Bus::connect(&router.unix).await.unwrap();
    let b = Bus::connect(&router.unix).await.unwrap();
    for other in [&a, &b] {
        let relay = |bus: &Bus, next: &'static str| {
            let bus = bus.downgrade();
            move |call: Call| {
                let bus = bus.upgrade().unwrap();
                async move { Ok(bus.call(next, call.data).await?) }
            }
        };
        let _top = a.register("/top", relay(&a, "/middle")).await.unwrap();
        let _middle = other.register("/middle", relay(other, "/leaf")).await.unwrap();
        let _leaf = a.register("/leaf", |call: Call| async move { Ok(call.data) }).await.unwrap();
        for bus in [&a, &b] {
            let reply = within("the reply", bus.call("/top", "around")).await.unwrap();
            assert_eq!(reply, "around");
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn outcomes_are_told_apart_as_elsewhere() {
    let bus = Bus::local();
    let handler = |call: Call| {
        assert_ne!(call.address, "/s/panics-at-once", "on purpose");
        async move {
            match call.address.as_str() {
                "/s/bad" => Err(Failure::bad_request("not like this")),
                "/s/fails" => Err(Failure::new("it broke")),
                "/s/panics" => panic!("on purpose"),
                "/s/never" => std::future::pending().await,
                _ => Ok(Bytes::from_static(b"fine")),
            }
        }
    };
    let _service = bus.register("/s", handler).await.unwrap();
    let broken = |call: Call| {
        assert_ne!(call.address, "/stream/panics-at-once", "on purpose");
        stream::iter(0..2).map(|number| match number {
            0 => Ok(Bytes::from_static(b"one")),
            _ => panic!("on purpose"),
        })
    };
    let _stream = bus.register_stream("/stream", broken).await.unwrap();
    let _push = bus.register_push("/push", |_| async { panic!("on purpose") }).await.unwrap();

    let failed = async |address: &str| bus.call(address, "").await.unwrap_err();
    assert!(matches!(failed("/nowhere").await, Error::NoSuchService { .. }));
    assert!(matches!(failed("/s/bad").await, Error::BadRequest { message, .. }
        if message == "not like this"));
    assert!(matches!(failed("/s/fails").await, Error::ServiceFailure { message, .. }
        if message == "it broke"));
    for address in ["/s/panics", "/s/panics-at-once", "/stream/panics-at-once"] {
        let error = failed(address).await;
        assert!(
            matches!(&error, Error::ServiceFailure { message, .. } if message.contains("panicked")),
            "{error}"
        );
    }
    assert!(matches!(failed("/stream").await, Error::IsStream { .. }));
    assert!(matches!(failed("/push").await, Error::BadRequest { .. }));
    let short = Duration::from_millis(20);
    let timed_out = bus.endpoint("/s/never").timeout(short).call("").await;
    assert!(matches!(timed_out, Err(Error::Timeout { after, .. }) if after == short));

    let mut items = bus.stream("/stream", "").await.unwrap();
    assert_eq!(items.next().await.unwrap().unwrap(), "one");
    assert!(matches!(items.next().await, Some(Err(Error::ServiceFailure { .. }))));
    assert!(items.next().await.is_none(), "an error is the end");
    bus.push("/push", "").await.unwrap();
    // After all that, the bus still works.
    assert_eq!(bus.call("/s", "").await.unwrap(), "fine");
}

#[tokio::test]
async fn a_full_service_is_busy_for_callers_here_and_elsewhere() {
    let router = TestRouter::start().await;
    let here = Bus::connect(&router.unix).await.unwrap();
    let there = Bus::connect(&router.unix).await.unwrap();
    let gate = Arc::new(Notify::new());
    let (entered, mut running) = mpsc::unbounded_channel();
    let held = gate.clone();
    let handler = move |_: Call| {
        let (entered, held) = (entered.clone(), held.clone());
        async move {
            entered.send(()).unwrap();
            held.notified().await;
            Ok("done")
        }
    };
    let _service = here.with_max_running(1).register("/s", handler).await.unwrap();
    for first in [&here, &there] {
        let bus = first.clone();
        let call = tokio::spawn(async move { bus.call("/s", "").await });
        within("the call", running.recv()).await.unwrap();
        for bus in [&here, &there] {
            let busy = bus.call("/s", "").await.unwrap_err();
            assert!(matches!(&busy, Error::Busy { message, .. } if message.contains("1 call,")));
            let busy = match bus.stream("/s", "").await {
                Ok(mut replies) => replies.next().await.unwrap().unwrap_err(),
                Err(error) => error,
            };
            assert!(matches!(busy, Error::Busy { .. }), "{busy}");
        }
        assert!(matches!(here.push("/s", "").await, Err(Error::Busy { .. })));
        gate.notify_one();
        assert_eq!(within("the reply", call).await.unwrap().unwrap(), "done");
    }
    router.stop().await;
}

#[tokio::test]
async fn a_dropped_call_drops_its_handler_and_frees_its_place() {
    let bus = Bus::local().with_max_running(1);
    let alive = Arc::new(AtomicUsize::new(0));
    let counter = alive.clone();
    let waits = move |call: Call| {
        let witness = Alive::new(&counter);
        async move {
            let _witness = witness;
            if call.data.is_empty() {
                std::future::pending::<()>().await;
            }
            Ok(call.data)
        }
    };
    let _service = bus.register("/s", waits).await.unwrap();
    for _ in 0..3 {
        let mut call = Box::pin(bus.call("/s", ""));
        assert!(poll!(&mut call).is_pending());
        assert!(matches!(bus.call("/s", "").await, Err(Error::Busy { .. })));
        assert_eq!(alive.load(Ordering::SeqCst), 1);
        drop(call);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        assert_eq!(bus.call("/s", "free").await.unwrap(), "free");
        // A call that was made and never polled has not begun.
        drop(bus.call("/s", ""));
    }
}

#[tokio::test]
async fn types_and_bytes_meet_through_the_encoding() {
    let bus = Bus::local();
    let double = |Double(number): Double<u32>| async move {
        number.checked_mul(2).ok_or_else(|| "too large".to_owned())
    };
    let _typed = bus.bind("/typed", double).await.unwrap();
    let count = |Double(number): Double<u32>| stream::iter([Ok(number), Ok(number)]);
    let _many = bus.bind_stream("/many", count).await.unwrap();
    let raw = |call: Call| async move {
        let Double(number): Double<u32> = flexbuffers::from_slice(&call.data)?;
        Ok(flexbuffers::to_vec(Ok::<u32, String>(2 * number))?)
    };
    let _raw = bus.register("/raw", raw).await.unwrap();

    // Bytes to a service with typed messages.
    let data = flexbuffers::to_vec(Double(7_u32)).unwrap();
    let reply = bus.call("/typed/double", data.clone()).await.unwrap();
    assert_eq!(flexbuffers::from_slice(&reply), Ok(Ok::<u32, String>(14)));
    let replies: Vec<_> = bus.stream("/many/double", data).await.unwrap().collect().await;
    assert_eq!(replies.len(), 2);
    assert!(matches!(bus.call("/typed/double", "nonsense").await, Err(Error::BadRequest { .. })));
    // Typed messages to a service of bytes.
    assert_eq!(bus.service("/raw").call(Double(7_u32)).await.unwrap(), Ok(14));
    // The same message as another type of this program, as with two versions of a crate.
    assert_eq!(bus.service("/typed").call(Double(7_u64)).await.unwrap(), Ok(14));
    let items = bus.service("/many").stream(Double(7_u64)).await.unwrap();
    assert_eq!(items.try_collect::<Vec<_>>().await.unwrap(), [Ok(7), Ok(7)]);
    let text = Double("seven".to_owned());
    let error = bus.service("/typed").call(text).await.unwrap_err();
    assert!(matches!(error, Error::BadRequest { .. }), "{error}");
    // A call to a service that answers with a stream.
    let error = bus.service("/many").call(Double(7_u32)).await.unwrap_err();
    assert!(matches!(error, Error::IsStream { .. }), "{error}");
}

#[tokio::test]
async fn streams_are_made_as_they_are_read() {
    let bus = Bus::local().with_max_running(1);
    let made = Arc::new(AtomicUsize::new(0));
    let alive = Arc::new(AtomicUsize::new(0));
    let (count, held) = (made.clone(), alive.clone());
    let endless = move || {
        let (count, witness) = (count.clone(), Alive::new(&held));
        stream::repeat_with(move || {
            let _ = &witness;
            count.fetch_add(1, Ordering::SeqCst)
        })
    };
    let raw = endless.clone();
    let raw = move |_: Call| raw().map(|number| Ok(number.to_string()));
    let _raw = bus.register_stream("/raw", raw).await.unwrap();
    let typed = move |Double(_): Double<usize>| endless().map(Ok);
    let _typed = bus.bind_stream("/typed", typed).await.unwrap();

    let mut replies = bus.stream("/raw", "").await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 0, "nothing was asked for");
    for expected in 0..5 {
        assert_eq!(replies.next().await.unwrap().unwrap(), expected.to_string());
        assert_eq!(made.load(Ordering::SeqCst), expected + 1);
    }
    let busy = bus.stream("/raw", "").await.unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "{busy}");
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    drop(replies);
    assert_eq!(alive.load(Ordering::SeqCst), 0, "dropped half way");
    drop(bus.stream("/raw", "").await.unwrap());

    let mut items = bus.service("/typed").stream(Double(0_usize)).await.unwrap();
    for expected in 5..10 {
        assert_eq!(items.next().await.unwrap().unwrap(), Ok(expected));
        assert_eq!(made.load(Ordering::SeqCst), expected + 1);
    }
    drop(items);
    assert_eq!(alive.load(Ordering::SeqCst), 0, "dropped half way");
}

#[tokio::test]
async fn pushes_are_handled_behind_the_callers_back() {
    let bus = Bus::local();
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    let push = move |call: Call| {
        assert!(!call.wants_reply());
        count.fetch_add(1, Ordering::SeqCst);
        async {}
    };
    let _push = bus.register_push("/push", push).await.unwrap();
    let count = handled.clone();
    let reply = move |call: Call| {
        assert!(!call.wants_reply());
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok("dropped") }
    };
    let _reply = bus.register("/reply", reply).await.unwrap();
    let count = handled.clone();
    let items = move |_: Call| {
        let count = count.clone();
        stream::iter(0..3).map(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(Bytes::new())
        })
    };
    let _items = bus.register_stream("/items", items).await.unwrap();
    for address in ["/push", "/reply", "/items"] {
        bus.push(address, "").await.unwrap();
    }
    assert_eq!(handled.load(Ordering::SeqCst), 0, "the caller does not wait for it");
    becomes(&handled, 5).await;
    assert!(matches!(bus.push("/nowhere", "").await, Err(Error::NoSuchService { .. })));
}

#[tokio::test]
async fn events_need_no_router() {
    let bus = Bus::local();
    let mut all = bus.subscribe("node/**").await.unwrap();
    let mut one = bus.subscribe("node/*/status").await.unwrap();
    let mut typed = bus.topic::<u32>("node/7/number").subscribe().await.unwrap();
    bus.broadcast("node/7/status", "up").await.unwrap();
    bus.broadcast("other", "").await.unwrap();
    bus.broadcast("*/8/status", "down").await.unwrap();
    bus.topic("node/7/number").broadcast(&7_u32).await.unwrap();
    for expected in ["node/7/status", "*/8/status"] {
        for events in [&mut one, &mut all] {
            assert_eq!(within("an event", events.next()).await.unwrap().unwrap().topic, expected);
        }
    }
    let event = within("an event", typed.next()).await.unwrap().unwrap();
    assert_eq!((event.topic.as_str(), event.body), ("node/7/number", 7));
    assert_eq!(within("an event", all.next()).await.unwrap().unwrap().topic, "node/7/number");
    assert!(one.next().now_or_never().is_none());
    one.unsubscribe().await.unwrap();
    bus.settled().await.unwrap();
    bus.clone().close().await;
    assert!(all.next().await.is_none(), "the end, and no error before it");
    assert!(matches!(bus.broadcast("t", "").await, Err(Error::ShutDown)));
}

#[test]
fn no_runtime_is_needed_where_nothing_is_waited_for() {
    block_on(async {
        let bus = Bus::local();
        let echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await.unwrap();
        assert_eq!(bus.call("/echo", "hello").await.unwrap(), "hello");
        let double = |Double(number): Double<u32>| async move { Ok(2 * number) };
        let _double = bus.bind("/s", double).await.unwrap();
        assert_eq!(bus.service("/s").call(Double(7_u32)).await.unwrap(), Ok(14));
        let replies = bus.stream("/echo", "one").await.unwrap();
        assert_eq!(replies.try_collect::<Vec<_>>().await.unwrap(), ["one"]);
        let mut events = bus.subscribe("t").await.unwrap();
        bus.broadcast("t", "event").await.unwrap();
        assert_eq!(events.next().await.unwrap().unwrap().data, "event");

        // A wait without a timeout needs no timer, either.
        let (sender, receiver) = futures::channel::oneshot::channel::<&str>();
        let receiver = std::sync::Mutex::new(Some(receiver));
        let waits = move |_: Call| {
            let receiver = receiver.lock().unwrap().take().unwrap();
            async move { Ok(receiver.await?) }
        };
        let _waits = bus.register("/waits", waits).await.unwrap();
        let endpoint = bus.endpoint("/waits").timeout(None);
        let (reply, sent) = futures::join!(endpoint.call(""), async { sender.send("late") });
        sent.unwrap();
        assert_eq!(reply.unwrap(), "late");
        drop(echo);
        assert!(matches!(bus.call("/echo", "").await, Err(Error::NoSuchService { .. })));
    });
}

#[test]
fn no_runtime_is_needed_to_undo_it() {
    block_on(async {
        let bus = Bus::local();
        let echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await.unwrap();
        echo.unregister().await.unwrap();
        bus.subscribe("t").await.unwrap().unsubscribe().await.unwrap();
        bus.shutdown(Duration::from_secs(1)).await.unwrap();
    });
}

// A task that calls without a pause does not starve the others.
#[tokio::test]
async fn calls_give_way() {
    let bus = Bus::local();
    let _echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await.unwrap();
    let (pushed, mut pushes) = tokio::sync::mpsc::unbounded_channel();
    let log = move |_: Call| {
        let _ = pushed.send(());
        async {}
    };
    let _log = bus.register_push("/log", log).await.unwrap();
    let calling = async {
        while pushes.try_recv().is_err() {
            bus.call("/echo", "").await.unwrap();
        }
    };
    bus.push("/log", "").await.unwrap();
    within("the handler of the push", calling).await;
}
