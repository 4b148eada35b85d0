//! Our client and `ya-service-bus` call each other through our router. Our client sends bytes to the typed module of
//! `ya-service-bus`: flexbuffers at `{service}/{ID}`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use gsb_client::{Bus, Call, Error, Failure, Framing};
use gsb_interop::messages::{Count, Echo, Echoed, Hang, Note, Recall, Refusal};
use gsb_interop::peer::Peer;
use gsb_interop::router::OurRouter;
use gsb_interop::within;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

const YA_PEER: &str = env!("CARGO_BIN_EXE_ya-peer");

/// Below the timeout of our client, which is 60 seconds. A failure from the router takes milliseconds.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn our_client_calls_a_typed_service_of_ya() {
    let router = OurRouter::start().await;
    call_a_typed_service(&router.url, Framing::Packet).await;
}

#[tokio::test]
async fn our_classic_client_calls_a_typed_service_of_ya_over_tcp() {
    let router = OurRouter::start_on_tcp().await;
    call_a_typed_service(&router.url, Framing::Classic).await;
}

async fn call_a_typed_service(url: &str, framing: Framing) {
    let mut service = Peer::start(YA_PEER, &["typed"], url).await;
    service.run("bind /golem/typed", &["bound /golem/typed"]).await;
    let caller = connect(url, framing).await;

    let text = "żółw".to_owned();
    let echo = Echo { text: text.clone() };
    let echoed = Echoed { text, caller: "our-client".to_owned() };
    let reply = call(&caller, "/golem/typed/Echo", &echo).await.unwrap();
    assert_eq!(decoded::<Echoed>(&reply), Ok(echoed));
    let text = Echo::REFUSED.to_owned();
    let reply = call(&caller, "/golem/typed/Echo", &Echo { text }).await.unwrap();
    let refused = decoded::<Echoed>(&reply).unwrap_err();
    assert_eq!(refused.reason, "as asked");

    for numbers in [0, 1000] {
        let count = encoded(&Count { numbers });
        let replies = caller.stream("/golem/typed/Count", count).await.unwrap();
        let items: Vec<_> = within("the end of a stream", replies.collect()).await;
        let items: Vec<u32> =
            items.into_iter().map(|item| decoded(&item.unwrap()).unwrap()).collect();
        assert_eq!(items, Vec::from_iter(0..numbers));
    }
    let count = Count { numbers: 2 };
    let error = call(&caller, "/golem/typed/Count", &count).await.unwrap_err();
    assert!(matches!(error, Error::IsStream { .. }), "{error}");

    for text in ["one", "two"] {
        let note = Note { text: text.to_owned() };
        caller.push("/golem/typed/Note", encoded(&note)).await.unwrap();
    }
    service.expect(&["noted one", "noted two"]).await;
    let reply = call(&caller, "/golem/typed/Recall", &Recall {}).await.unwrap();
    let notes = vec!["one".to_owned(), "two".to_owned()];
    assert_eq!(decoded::<Vec<String>>(&reply), Ok(notes));

    let error = call(&caller, "/golem/unknown/Echo", &echo).await.unwrap_err();
    assert!(matches!(error, Error::NoSuchService { .. }), "{error}");

    service.took_part("service", &format!("gsb-client ({}) on gsb-router", framing.name()));
    let hanging = tokio::spawn({
        let caller = caller.clone();
        async move { caller.call("/golem/typed/Hang", encoded(&Hang {})).await }
    });
    service.expect(&["hanging"]).await;
    let killed = Instant::now();
    service.kill().await;
    let error = within("the failure of a call", hanging).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ServiceFailure { .. }), "{error}");
    assert!(killed.elapsed() < AT_ONCE, "{:?}", killed.elapsed());
}

#[tokio::test]
async fn ya_calls_services_of_our_client() {
    let router = OurRouter::start().await;
    serve_typed_callers(&router.url, Framing::Packet).await;
}

#[tokio::test]
async fn ya_calls_services_of_our_classic_client_over_tcp() {
    let router = OurRouter::start_on_tcp().await;
    serve_typed_callers(&router.url, Framing::Classic).await;
}

async fn serve_typed_callers(url: &str, framing: Framing) {
    let bus = connect(url, framing).await;
    let echo = |call: Call| async move {
        let Echo { text } = flexbuffers::from_slice(&call.data)?;
        if text == "fail" {
            return Err(Failure::new("as asked"));
        }
        let caller = call.caller;
        let reply: Result<Echoed, Refusal> = match text == Echo::REFUSED {
            true => Err(Refusal { reason: "as asked".to_owned() }),
            false => Ok(Echoed { text, caller }),
        };
        Ok(encoded(&reply))
    };
    let _echo = bus.register("/golem/ours/Echo", echo).await.unwrap();
    let count = |call: Call| {
        let Count { numbers } = flexbuffers::from_slice(&call.data).unwrap();
        stream::iter((0..numbers).map(|number| Ok(encoded(&Ok::<_, Refusal>(number)))))
    };
    let _count = bus.register_stream("/golem/ours/Count", count).await.unwrap();
    let (noted, mut notes) = mpsc::unbounded_channel();
    let note = move |call: Call| {
        let wants_reply = call.wants_reply();
        let Note { text } = flexbuffers::from_slice(&call.data).unwrap();
        noted.send((text, wants_reply)).unwrap();
        std::future::ready(())
    };
    let _note = bus.register_push("/golem/ours/Note", note).await.unwrap();

    let mut caller = Peer::start(YA_PEER, &["typed"], url).await;
    caller.run("echo /golem/ours żółw żółw", &["echoed żółw żółw for ya-caller"]).await;
    caller.run("echo /golem/ours refuse", &["refused as asked"]).await;
    caller.run("echo /golem/ours fail", &["failed GSB failure: as asked"]).await;
    caller.tell("count /golem/ours 1000").await;
    for number in 0..1000 {
        caller.expect(&[&format!("item {number}")]).await;
    }
    caller.expect(&["end"]).await;
    caller.run("count /golem/ours 0", &["end"]).await;
    caller.run("note /golem/ours one", &["pushed"]).await;
    caller.run("note /golem/ours two", &["pushed"]).await;
    for text in ["one", "two"] {
        let note = within("a push of ya-service-bus", notes.recv()).await;
        assert_eq!(note, Some((text.to_owned(), false)));
    }
    caller.took_part("caller", &format!("gsb-client ({}) on gsb-router", framing.name()));
}

#[tokio::test]
async fn raw_calls_in_both_directions() {
    let router = OurRouter::start().await;
    let mut peer = Peer::start(YA_PEER, &["connection"], &router.url).await;
    let bus = connect(&router.url, Framing::Packet).await;

    peer.run("bind /golem/raw", &["bound /golem/raw"]).await;
    let reply = within("a reply", bus.call("/golem/raw/below", "text")).await.unwrap();
    assert_eq!(reply, "text");
    peer.expect(&["called our-client /golem/raw/below text"]).await;
    let replies = bus.stream("/golem/raw", "one two three").await.unwrap();
    let parts: Vec<_> = within("the end of a stream", replies.collect()).await;
    let parts: Vec<Bytes> = parts.into_iter().map(Result::unwrap).collect();
    assert_eq!(parts, ["one", "two", "three"]);
    peer.expect(&["called our-client /golem/raw one two three"]).await;
    bus.push("/golem/raw", "news").await.unwrap();
    peer.expect(&["pushed our-client /golem/raw news"]).await;

    let echo = |call: Call| async move { Ok(call.data) };
    let echo = bus.register("/golem/ours/echo", echo).await.unwrap();
    let words = |call: Call| {
        let words: Vec<_> =
            call.data.split(|byte| *byte == b' ').map(Bytes::copy_from_slice).collect();
        stream::iter(words.into_iter().map(Ok))
    };
    let _words = bus.register_stream("/golem/ours/words", words).await.unwrap();
    peer.run("call /golem/ours/echo/below some text", &["reply some text"]).await;
    peer.run("stream /golem/ours/words one two", &["part one", "part two", "full "]).await;

    peer.run("unbind /golem/raw", &["unbound /golem/raw"]).await;
    let error = bus.call("/golem/raw", "text").await.unwrap_err();
    assert!(matches!(error, Error::NoSuchService { .. }), "{error}");
    echo.unregister().await.unwrap();
    let error = peer.ask("call /golem/ours/echo text").await;
    assert!(error.starts_with("failed Bad request: "), "{error}");
    peer.took_part("raw service, raw caller", "gsb-client on gsb-router");
}

async fn connect(url: &str, framing: Framing) -> Bus {
    let builder = Bus::builder().name("our-client").framing(framing);
    builder.connect(url).await.unwrap()
}

async fn call(bus: &Bus, address: &str, message: &impl Serialize) -> Result<Bytes, Error> {
    within("a reply", bus.call(address, encoded(message))).await
}

fn encoded(message: &impl Serialize) -> Bytes {
    flexbuffers::to_vec(message).unwrap().into()
}

fn decoded<T: DeserializeOwned>(reply: &[u8]) -> Result<T, Refusal> {
    flexbuffers::from_slice(reply).expect("the service answers with an encoded Result")
}
