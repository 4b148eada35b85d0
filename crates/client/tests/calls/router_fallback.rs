//! A call without a service in this process goes to the router, unless its handle is limited to the process.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{Bus, Call, Error, Failure, Message};
use gsb_testkit::{TestRouter, within};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
struct WhoServes;

impl Message for WhoServes {
    const ID: &'static str = "who";
    type Item = String;
    type Error = String;
}

fn says(text: &'static str) -> impl Fn(Call) -> std::future::Ready<Result<Bytes, Failure>> {
    move |_| std::future::ready(Ok(Bytes::from_static(text.as_bytes())))
}

async fn pair(router: &TestRouter) -> (Bus, Bus) {
    (Bus::connect(&router.unix).await.unwrap(), Bus::connect(&router.tcp).await.unwrap())
}

#[tokio::test]
async fn of_calls_streams_and_pushes() {
    let router = TestRouter::start().await;
    let (here, there) = pair(&router).await;
    let _own = here.register("/own", says("here")).await.unwrap();
    let _reply = there.register("/reply", says("there")).await.unwrap();
    let items = |_: Call| stream::iter(["one", "two"].map(Ok));
    let _items = there.register_stream("/items", items).await.unwrap();
    let (sender, mut pushed) = mpsc::unbounded_channel();
    let push = move |call: Call| {
        sender.send(call.data).unwrap();
        async {}
    };
    let _push = there.register_push("/push", push).await.unwrap();

    assert_eq!(here.call("/own", "").await.unwrap(), "here");
    assert_eq!(here.call("/reply", "").await.unwrap(), "there");
    // An address that only begins with the letters of a name is not below the name.
    assert!(matches!(here.call("/owner", "").await, Err(Error::NoSuchService { .. })));
    let items: Vec<Bytes> = here.stream("/items", "").await.unwrap().try_collect().await.unwrap();
    assert_eq!(items, ["one", "two"]);
    here.push("/push", "line").await.unwrap();
    assert_eq!(within("the push", pushed.recv()).await.unwrap(), "line");
    // There is no service at all.
    assert!(matches!(here.call("/nowhere", "").await, Err(Error::NoSuchService { .. })));
    here.push("/nowhere", "").await.unwrap();
    let mut items = here.stream("/nowhere", "").await.unwrap();
    assert!(matches!(items.next().await, Some(Err(Error::NoSuchService { .. }))));
    router.stop().await;
}

#[tokio::test]
async fn as_soon_as_the_service_here_is_gone() {
    let router = TestRouter::start().await;
    let (here, there) = pair(&router).await;
    let other = Bus::connect(&router.unix).await.unwrap();
    let _above = there.register("/a", says("there")).await.unwrap();
    for given_back in [true, false] {
        let below = here.register("/a/b", says("here")).await.unwrap();
        assert_eq!(here.call("/a/b/c", "").await.unwrap(), "here");
        assert_eq!(other.call("/a/b/c", "").await.unwrap(), "here");
        if given_back {
            below.unregister().await.unwrap();
        } else {
            drop(below);
        }
        // In order on one connection, also if no caller has waited for the router.
        assert_eq!(here.call("/a/b/c", "").await.unwrap(), "there");
        assert_eq!(other.call("/a/b/c", "").await.unwrap(), "there");
    }
    // The longest name of this process, then the next one, then the name at the router.
    let inside = here.in_process();
    let long = inside.register("/a/b/c", says("here, below")).await.unwrap();
    let short = inside.register("/a/b", says("here")).await.unwrap();
    assert_eq!(here.call("/a/b/c", "").await.unwrap(), "here, below");
    drop(long);
    assert_eq!(here.call("/a/b/c", "").await.unwrap(), "here");
    drop(short);
    assert_eq!(here.call("/a/b/c", "").await.unwrap(), "there");
    router.stop().await;
}

#[tokio::test]
async fn of_typed_messages() {
    let router = TestRouter::start().await;
    let (here, there) = pair(&router).await;
    let answer = |name: &'static str| move |_: WhoServes| async move { Ok(name.to_owned()) };
    let _there = there.bind("/s", answer("there")).await.unwrap();
    let service = here.service("/s");
    assert_eq!(service.call(WhoServes).await.unwrap().unwrap(), "there");
    let bound = here.in_process().bind("/s", answer("here")).await.unwrap();
    assert_eq!(service.call(WhoServes).await.unwrap().unwrap(), "here");
    // A handle is not bound to the service that answered first.
    drop(bound);
    assert_eq!(service.call(WhoServes).await.unwrap().unwrap(), "there");
    let items = service.stream(WhoServes).await.unwrap();
    assert_eq!(items.try_collect::<Vec<_>>().await.unwrap(), [Ok("there".to_owned())]);
    router.stop().await;
}

#[tokio::test]
async fn but_not_with_a_handle_that_stays_in_the_process() {
    let router = TestRouter::start().await;
    let (here, there) = pair(&router).await;
    let (sender, mut called) = mpsc::unbounded_channel();
    let handler = move |call: Call| {
        sender.send(call.address).unwrap();
        async { Ok("there") }
    };
    let _there = there.register("/s", handler).await.unwrap();
    let inside = here.in_process();
    let endpoint = inside.endpoint("/s");
    for bus in [&inside, &inside.clone(), &inside.downgrade().upgrade().unwrap()] {
        assert!(matches!(bus.call("/s", "").await, Err(Error::NoSuchService { .. })));
        assert!(matches!(bus.push("/s", "").await, Err(Error::NoSuchService { .. })));
        assert!(matches!(bus.stream("/s", "").await, Err(Error::NoSuchService { .. })));
        let typed = bus.service("/s").call(WhoServes).await;
        assert!(matches!(typed, Err(Error::NoSuchService { .. })));
    }
    assert!(matches!(endpoint.call("").await, Err(Error::NoSuchService { .. })));
    // No other call has arrived.
    assert_eq!(here.call("/s/last", "").await.unwrap(), "there");
    assert_eq!(within("the call", called.recv()).await.unwrap(), "/s/last");
    // A name that this process has at the router is called within the process, too.
    let _own = here.register("/own", says("here")).await.unwrap();
    assert_eq!(inside.call("/own", "").await.unwrap(), "here");
    router.stop().await;
    // The same without the router.
    assert!(matches!(endpoint.call("").await, Err(Error::NoSuchService { .. })));
    assert_eq!(inside.call("/own", "").await.unwrap(), "here");
}
