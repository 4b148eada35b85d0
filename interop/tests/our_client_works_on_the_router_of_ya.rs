//! Our client on `ya-sb-router`, within the limits of that router: only exact topics, no failure for the callers of a
//! service that disconnects, and no text in its refusals.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use gsb_client::{Bus, Call, Error, LostReason};
use gsb_interop::peer::Peer;
use gsb_interop::router::YaRouter;
use gsb_interop::within;
use tokio::sync::mpsc;

const YA_PEER: &str = env!("CARGO_BIN_EXE_ya-peer");
const YA_ROUTER: &str = env!("CARGO_BIN_EXE_ya-router");

#[tokio::test]
async fn services_and_calls() {
    let router = YaRouter::start(YA_ROUTER).await;
    let service = connect(&router).await;
    let caller = connect(&router).await;

    let echo = |call: Call| async move { Ok(call.data) };
    let echo_registration = service.register("/golem/echo", echo).await.unwrap();
    let error = caller.register("/golem/echo", echo).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyRegistered { .. }), "{error}");
    let reply = within("a reply", caller.call("/golem/echo/below", "text")).await;
    assert_eq!(reply.unwrap(), "text");
    let large = Bytes::from(vec![7; 5 << 20]);
    let reply = within("a large reply", caller.call("/golem/echo", large.clone())).await;
    assert!(reply.unwrap() == large);

    let numbers = |_: Call| stream::iter((0..1000).map(|n: u32| Ok(n.to_string())));
    let _numbers = service.register_stream("/golem/numbers", numbers).await.unwrap();
    let replies = caller.stream("/golem/numbers", "").await.unwrap();
    let numbers: Vec<_> = within("the end of a stream", replies.collect()).await;
    let numbers: Vec<Bytes> = numbers.into_iter().map(Result::unwrap).collect();
    assert_eq!(numbers, Vec::from_iter((0..1000).map(|n| Bytes::from(n.to_string()))));

    let (noted, mut notes) = mpsc::unbounded_channel();
    let note = move |call: Call| {
        noted.send((call.caller, call.data)).unwrap();
        std::future::ready(())
    };
    let _note = service.register_push("/golem/note", note).await.unwrap();
    for text in ["one", "two"] {
        caller.push("/golem/note", text).await.unwrap();
        let note = within("a push", notes.recv()).await.unwrap();
        assert_eq!(note, ("our-client".to_owned(), Bytes::from(text)));
    }

    // The refusal has no text, so the error has none.
    let error = caller.call("/golem/unknown", "text").await.unwrap_err();
    assert!(matches!(error, Error::BadRequest { .. }), "{error}");
    within("the end of a registration", echo_registration.unregister()).await.unwrap();
    let error = caller.call("/golem/echo", "text").await.unwrap_err();
    assert!(matches!(error, Error::BadRequest { .. }), "{error}");
    let _echo = caller.register("/golem/echo", echo).await.unwrap();
    let reply = within("a reply", service.call("/golem/echo", "text")).await;
    assert_eq!(reply.unwrap(), "text");
    router.process.took_part("router", "gsb-client");
}

#[tokio::test]
async fn broadcasts_to_exact_topics() {
    let router = YaRouter::start(YA_ROUTER).await;
    let listener = connect(&router).await;
    let sender = connect(&router).await;
    let mut news = listener.subscribe("golem/news").await.unwrap();
    let mut own = sender.subscribe("golem/news").await.unwrap();
    let mut end = listener.subscribe("golem/end").await.unwrap();
    sender.broadcast("golem/unheard", "text").await.unwrap();
    sender.broadcast("golem/news", "good").await.unwrap();
    for events in [&mut news, &mut own] {
        let event = within("an event", events.next()).await.unwrap().unwrap();
        assert_eq!((event.topic.as_str(), &event.data[..]), ("golem/news", &b"good"[..]));
        assert_eq!(event.caller, "our-client");
    }
    within("the end of a subscription", news.unsubscribe()).await.unwrap();
    let mut again = listener.subscribe("golem/news").await.unwrap();
    sender.broadcast("golem/news", "better").await.unwrap();
    sender.broadcast("golem/end", "bye").await.unwrap();
    let event = within("an event", again.next()).await.unwrap().unwrap();
    assert_eq!(event.data, "better");
    let event = within("an event", end.next()).await.unwrap().unwrap();
    assert_eq!(event.data, "bye");
    router.process.took_part("router", "gsb-client");
}

#[tokio::test]
async fn with_peers_of_ya() {
    let router = YaRouter::start(YA_ROUTER).await;
    let bus = connect(&router).await;
    let mut peer = Peer::start(YA_PEER, &["connection"], &router.url).await;
    peer.run("bind /golem/raw", &["bound /golem/raw"]).await;
    let reply = within("a reply", bus.call("/golem/raw", "text")).await;
    assert_eq!(reply.unwrap(), "text");
    peer.expect(&["called our-client /golem/raw text"]).await;
    let replies = bus.stream("/golem/raw", "one two").await.unwrap();
    let parts: Vec<_> = within("the end of a stream", replies.collect()).await;
    let parts: Vec<Bytes> = parts.into_iter().map(Result::unwrap).collect();
    assert_eq!(parts, ["one", "two"]);
    peer.expect(&["called our-client /golem/raw one two"]).await;

    let echo = |call: Call| async move { Ok(call.data) };
    let _echo = bus.register("/golem/echo", echo).await.unwrap();
    peer.run("call /golem/echo text", &["reply text"]).await;

    peer.run("subscribe golem/news", &["subscribed golem/news"]).await;
    let mut events = bus.subscribe("golem/news").await.unwrap();
    bus.broadcast("golem/news", "from ours").await.unwrap();
    peer.expect(&["event our-client golem/news from ours"]).await;
    let event = "event ya-caller golem/news from ya";
    peer.tell("broadcast golem/news from ya").await;
    peer.expect_in_any_order(&["broadcast golem/news", event]).await;
    for text in ["from ours", "from ya"] {
        let event = within("an event", events.next()).await.unwrap().unwrap();
        assert_eq!(event.data, text);
    }
    let YaRouter { process, .. } = router;
    peer.took_part("service, caller", "gsb-client on ya-sb-router");
    process.took_part("router", "gsb-client and ya-service-bus");

    process.kill().await;
    let end = within("the loss of the connection", bus.closed()).await;
    assert!(matches!(end, Err(Error::ConnectionLost(LostReason::HungUp))));
}

async fn connect(router: &YaRouter) -> Bus {
    let builder = Bus::builder().name("our-client").reconnect(None);
    builder.connect(router.url.as_str()).await.unwrap()
}
