//! Broadcasts between our client and `ya-service-bus`, whose `connection` module has them.

use futures::StreamExt as _;
use gsb_client::{Bus, Framing};
use gsb_interop::peer::Peer;
use gsb_interop::router::{OurRouter, YaRouter};
use gsb_interop::within;

const YA_PEER: &str = env!("CARGO_BIN_EXE_ya-peer");
const YA_ROUTER: &str = env!("CARGO_BIN_EXE_ya-router");

#[tokio::test]
async fn among_ya_peers_through_our_router() {
    let router = OurRouter::start().await;
    among_ya_peers(&router.url, "gsb-router").await;
}

#[tokio::test]
async fn among_ya_peers_through_the_router_of_ya() {
    let router = YaRouter::start(YA_ROUTER).await;
    let name = format!("{} {}", router.process.name, router.process.version);
    among_ya_peers(&router.url, &name).await;
}

async fn among_ya_peers(url: &str, router: &str) {
    let mut listener = Peer::start(YA_PEER, &["connection"], url).await;
    let mut both = Peer::start(YA_PEER, &["connection"], url).await;
    listener.run("subscribe golem/news", &["subscribed golem/news"]).await;
    listener.run("subscribe golem/end", &["subscribed golem/end"]).await;
    both.run("subscribe golem/news", &["subscribed golem/news"]).await;

    both.run("broadcast golem/unheard text", &["broadcast golem/unheard"]).await;
    both.tell("broadcast golem/news good news").await;
    let event = "event ya-caller golem/news good news";
    both.expect_in_any_order(&["broadcast golem/news", event]).await;
    listener.expect(&[event]).await;

    // A last event shows that none came before it.
    listener.run("unsubscribe golem/news", &["unsubscribed golem/news"]).await;
    both.tell("broadcast golem/news old news").await;
    let event = "event ya-caller golem/news old news";
    both.expect_in_any_order(&["broadcast golem/news", event]).await;
    both.run("broadcast golem/end bye", &["broadcast golem/end"]).await;
    listener.expect(&["event ya-caller golem/end bye"]).await;
    let twice = listener.ask("unsubscribe golem/news").await;
    assert!(twice.starts_with("failed Bad request: "), "{twice}");

    listener.took_part("subscriber, broadcaster", router);
}

#[tokio::test]
async fn between_ya_and_our_client() {
    let router = OurRouter::start().await;
    between_ya_and_ours(&router.url, Framing::Packet).await;
}

#[tokio::test]
async fn between_ya_and_our_classic_client_over_tcp() {
    let router = OurRouter::start_on_tcp().await;
    between_ya_and_ours(&router.url, Framing::Classic).await;
}

async fn between_ya_and_ours(url: &str, framing: Framing) {
    let mut ya = Peer::start(YA_PEER, &["connection"], url).await;
    let ours = Bus::builder().name("our-client").framing(framing).connect(url);
    let ours = ours.await.unwrap();
    let mut all = ours.subscribe("golem/**").await.unwrap();
    let mut exact = ours.subscribe("golem/news").await.unwrap();
    // Its own router has no wildcards; ours has.
    ya.run("subscribe golem/*/status", &["subscribed golem/*/status"]).await;
    ya.run("subscribe golem/news", &["subscribed golem/news"]).await;

    ours.broadcast("golem/7/status", "up").await.unwrap();
    ya.expect(&["event our-client golem/7/status up"]).await;
    ours.broadcast("golem/7/other", "unheard").await.unwrap();
    ours.broadcast("golem/news", "from ours").await.unwrap();
    ya.expect(&["event our-client golem/news from ours"]).await;
    ya.tell("broadcast golem/news from ya").await;
    let event = "event ya-caller golem/news from ya";
    ya.expect_in_any_order(&["broadcast golem/news", event]).await;

    let expected = [
        ("our-client", "golem/7/status", "up"),
        ("our-client", "golem/7/other", "unheard"),
        ("our-client", "golem/news", "from ours"),
        ("ya-caller", "golem/news", "from ya"),
    ];
    let received = |event: gsb_client::Broadcast| {
        let text = String::from_utf8_lossy(&event.data).into_owned();
        (event.caller, event.topic, text)
    };
    let owned = |(caller, topic, text): (&str, &str, &str)| {
        (caller.to_owned(), topic.to_owned(), text.to_owned())
    };
    for event in expected {
        let next = within("an event", all.next()).await;
        assert_eq!(received(next.unwrap().unwrap()), owned(event));
    }
    for event in &expected[2..] {
        let next = within("an event", exact.next()).await;
        assert_eq!(received(next.unwrap().unwrap()), owned(*event));
    }
    let with = format!("gsb-client ({}) on gsb-router", framing.name());
    ya.took_part("subscriber, broadcaster", &with);
}
