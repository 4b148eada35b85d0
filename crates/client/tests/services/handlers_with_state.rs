//! Handlers with a state, and services of several messages that are registered as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::try_join_all;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{
    Announcement, Bus, Bytes, Call, Error, Failure, Message, Registering, Registration, WeakBus,
};
use gsb_testkit::{TestRouter, within};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Message)]
#[message(id = "add", item = i64)]
struct Add(i64);

#[derive(Serialize, Deserialize, Message)]
#[message(id = "total", item = i64)]
struct Total;

#[derive(Serialize, Deserialize, Message)]
#[message(id = "count", item = i64)]
struct Count;

/// The state that the handlers share.
#[derive(Default)]
struct Counter(AtomicI64);

impl Counter {
    async fn add(self: Arc<Self>, Add(amount): Add) -> Result<i64, String> {
        Ok(self.0.fetch_add(amount, Ordering::Relaxed) + amount)
    }

    async fn total(self: Arc<Self>, _: Total) -> Result<i64, String> {
        Ok(self.0.load(Ordering::Relaxed))
    }

    fn count(self: Arc<Self>, _: Count) -> impl Stream<Item = Result<i64, String>> {
        stream::iter(1..=self.0.load(Ordering::Relaxed)).map(Ok)
    }
}

/// The return type is named so that a wrong handler causes one compiler error instead of three; see `Registering`.
fn counter(bus: &Bus) -> Registering {
    bus.serve("/counter", Arc::new(Counter::default()))
        .on(Counter::add)
        .on(Counter::total)
        .on_stream(Counter::count)
        .register()
}

async fn add_twice(bus: &Bus) {
    let counter = bus.service("/counter");
    assert_eq!(counter.call(Add(1)).await.unwrap(), Ok(1));
    assert_eq!(counter.call(Add(2)).await.unwrap(), Ok(3));
    assert_eq!(counter.call(Total).await.unwrap(), Ok(3));
    let counted = counter.stream(Count).await.unwrap();
    let counted: Vec<_> = counted.try_collect().await.unwrap();
    assert_eq!(counted, [Ok(1), Ok(2), Ok(3)]);
}

async fn check_that_counting_has_no_service(bus: &Bus) {
    for address in ["/counter/add", "/counter/total", "/counter/count"] {
        let error = bus.call(address, "").await.unwrap_err();
        assert!(matches!(error, Error::NoSuchService { .. }), "{error:?}");
    }
}

/// The address for which a registration was refused.
fn refused(result: Result<Registration, Error>) -> String {
    match result.unwrap_err() {
        Error::AlreadyRegistered { service_id, .. } => service_id,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn one_registration_holds_all_messages_of_a_service() {
    let router = TestRouter::start().await;
    let local = Bus::local();
    let (here, there) =
        (Bus::connect(&router.unix).await.unwrap(), Bus::connect(&router.tcp).await.unwrap());
    for (bus, caller) in [(&local, &local), (&here, &here), (&here, &there)] {
        let registration = counter(bus).await.unwrap();
        assert_eq!(registration.service_id(), "/counter");
        add_twice(caller).await;
        registration.unregister().await.unwrap();
        check_that_counting_has_no_service(caller).await;
    }
    drop(counter(&here).await.unwrap());
    here.settled().await.unwrap();
    check_that_counting_has_no_service(&here).await;
    router.stop().await;
}

// If one name of a service is refused, no name of it stays registered.
#[tokio::test]
async fn one_refused_message_refuses_the_service() {
    let router = TestRouter::start().await;
    let (first, second) =
        (Bus::connect(&router.unix).await.unwrap(), Bus::connect(&router.tcp).await.unwrap());
    let local = Bus::local();
    for (holder, bus) in [(&first, &second), (&first, &first), (&local, &local)] {
        for taken in ["/counter/add", "/counter/total", "/counter/count"] {
            let held = holder.register(taken, |_: Call| async { Ok("") }).await.unwrap();
            assert_eq!(refused(counter(bus).await), taken);
            held.unregister().await.unwrap();
            check_that_counting_has_no_service(bus).await;
            counter(bus).await.unwrap().unregister().await.unwrap();
        }
    }
    let state = Arc::new(Counter::default());
    let twice = local.serve("/counter", state).on(Counter::add).on(Counter::add).register();
    assert_eq!(refused(twice.await), "/counter/add");
    let malformed = local.serve("", ()).on(async |(), _: Total| Ok(0)).register().await;
    assert!(malformed.is_ok(), "an empty name leaves the id of the message");
    let malformed = local.serve("/a b", ()).on(async |(), _: Total| Ok(0)).register().await;
    assert!(matches!(malformed, Err(Error::Name(_))));
    router.stop().await;
}

#[tokio::test]
async fn a_service_is_announced_when_all_its_messages_are() {
    let router = TestRouter::start().await;
    let holder = Bus::connect(&router.unix).await.unwrap();
    let held = holder.register("/counter/total", |_: Call| async { Ok("") }).await.unwrap();
    // Without a connection nothing is refused yet.
    let lazy = Bus::builder().connect_lazy(&router.tcp).unwrap();
    let registration = counter(&lazy).await.unwrap();
    assert!(matches!(registration.announcement(), Announcement::Pending));
    let mut watch = lazy.watch();
    within("the refusal", watch.wait_for(|status| !status.refused.is_empty())).await.unwrap();
    assert!(matches!(registration.announcement(), Announcement::Refused(_)));
    held.unregister().await.unwrap();
    within("the name", watch.wait_for(|status| status.is_settled && status.refused.is_empty()))
        .await
        .unwrap();
    assert!(matches!(registration.announcement(), Announcement::Confirmed));
    router.stop().await;
}

#[tokio::test]
async fn every_kind_of_handler_may_have_a_state() {
    let bus = Bus::local();
    let state = Arc::new(Counter::default());
    let _add = bus.bind_with("/one", state.clone(), Counter::add).await.unwrap();
    let _count = bus.bind_stream_with("/one", state, Counter::count).await.unwrap();
    assert_eq!(bus.service("/one").call(Add(2)).await.unwrap(), Ok(2));
    let counted = bus.service("/one").stream(Count).await.unwrap();
    assert_eq!(counted.try_collect::<Vec<_>>().await.unwrap(), [Ok(1), Ok(2)]);

    async fn relay(bus: WeakBus, call: Call) -> Result<Bytes, Failure> {
        let bus = bus.upgrade().ok_or("the bus has ended")?;
        Ok(bus.call("/greet/once", call.data).await?)
    }
    let greet = |greeting: &'static str, call: Call| async move {
        Ok(format!("{greeting}, {}", std::str::from_utf8(&call.data)?))
    };
    let _relay = bus.register_with("/relay", bus.downgrade(), relay).await.unwrap();
    let _greet = bus.register_with("/greet", "hello", greet).await.unwrap();
    assert_eq!(bus.call("/relay", "you").await.unwrap(), "hello, you");

    let words = |text: &'static str, _: Call| stream::iter(text.split(' ').map(Ok));
    let _words = bus.register_stream_with("/words", "a b", words).await.unwrap();
    let replies = bus.stream("/words", "").await.unwrap();
    assert_eq!(replies.try_collect::<Vec<_>>().await.unwrap(), ["a", "b"]);

    let (sender, mut pushed) = mpsc::unbounded_channel();
    let push = |sender: mpsc::UnboundedSender<Bytes>, call: Call| async move {
        sender.send(call.data).unwrap();
    };
    let _push = bus.register_push_with("/push", sender, push).await.unwrap();
    bus.push("/push", "note").await.unwrap();
    assert_eq!(within("the push", pushed.recv()).await.unwrap(), "note");
}

// The compiler reports a wrongly typed handler once. It would do so three times where the type of the handler is a
// part of what a method returns, as it is for an `async fn`.
#[tokio::test]
async fn no_registration_mentions_the_type_of_its_handler() {
    let bus = Bus::local();
    let items = || stream::iter([Ok(1)]);
    let registering: [Registering; 11] = [
        bus.bind("/1", async |_: Total| Ok(1)),
        bus.bind_with("/2", (), async |(), _: Total| Ok(1)),
        bus.bind_with_caller("/3", async |_: String, _: Total| Ok(1)),
        bus.bind_stream("/4", move |_: Count| items()),
        bus.bind_stream_with("/5", (), move |(), _: Count| items()),
        bus.bind_stream_with_caller("/6", move |_: String, _: Count| items()),
        bus.register("/7", async |_: Call| Ok("")),
        bus.register_with("/8", (), async |(), _: Call| Ok("")),
        bus.register_stream("/9", |_: Call| stream::iter([Ok("")])),
        bus.register_stream_with("/10", (), |(), _: Call| stream::iter([Ok("")])),
        bus.register_push("/11", async |_: Call| {}),
    ];
    try_join_all(registering).await.unwrap();
}

// The replies of a stream convert as those of one reply do.
#[tokio::test]
async fn items_of_a_stream_are_whatever_becomes_bytes() {
    let bus = Bus::local();
    let _text = bus
        .register_stream("/text", |_: Call| {
            stream::iter([Ok("one".to_owned()), Err("broke".into())])
        })
        .await
        .unwrap();
    let mut replies = bus.stream("/text", "").await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), "one");
    let error = replies.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ServiceFailure { message, .. } if message == "broke"));
    let _numbers = bus
        .register_stream("/bytes", |_: Call| stream::iter([Ok(vec![1, 2]), Ok(vec![3])]))
        .await
        .unwrap();
    let replies = bus.stream("/bytes", "").await.unwrap();
    assert_eq!(replies.try_collect::<Vec<_>>().await.unwrap(), [&[1, 2][..], &[3]]);
}
