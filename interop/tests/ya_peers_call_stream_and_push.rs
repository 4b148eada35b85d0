//! Typed calls, streams and pushes between two processes of `ya-service-bus`, through our router, and through their own
//! router for comparison.

use gsb_interop::peer::Peer;
use gsb_interop::router::{OurRouter, YaRouter};

const YA_PEER: &str = env!("CARGO_BIN_EXE_ya-peer");
const YA_ROUTER: &str = env!("CARGO_BIN_EXE_ya-router");

#[tokio::test]
async fn through_our_router() {
    let router = OurRouter::start().await;
    call_stream_and_push(&router.url, "gsb-router").await;
}

#[tokio::test]
async fn through_our_router_over_tcp() {
    let router = OurRouter::start_on_tcp().await;
    call_stream_and_push(&router.url, "gsb-router over TCP").await;
}

#[tokio::test]
async fn through_the_router_of_ya() {
    let router = YaRouter::start(YA_ROUTER).await;
    let name = format!("{} {}", router.process.name, router.process.version);
    call_stream_and_push(&router.url, &name).await;
}

async fn call_stream_and_push(url: &str, router: &str) {
    let mut service = Peer::start(YA_PEER, &["typed"], url).await;
    let mut caller = Peer::start(YA_PEER, &["typed"], url).await;
    service.run("bind /golem/typed", &["bound /golem/typed"]).await;

    caller.run("echo /golem/typed żółw żółw", &["echoed żółw żółw for ya-caller"]).await;
    caller.run("echo /golem/typed refuse", &["refused as asked"]).await;

    // More than all queues on the way hold.
    caller.tell("count /golem/typed 1000").await;
    for number in 0..1000 {
        caller.expect(&[&format!("item {number}")]).await;
    }
    caller.expect(&["end"]).await;
    caller.run("count /golem/typed 0", &["end"]).await;

    for text in ["one", "two", "three"] {
        caller.run(&format!("note /golem/typed {text}"), &["pushed"]).await;
    }
    service.expect(&["noted one", "noted two", "noted three"]).await;
    caller.run("recall /golem/typed", &[r#"recalled ["one", "two", "three"]"#]).await;

    let no_such_service = caller.ask("echo /golem/unknown text").await;
    assert!(no_such_service.starts_with("failed Bad request: "), "{no_such_service}");
    caller.run("note /golem/unknown text", &["pushed"]).await;
    service.run("unbind /golem/typed", &["unbound /golem/typed"]).await;
    let gone = caller.ask("echo /golem/typed text").await;
    assert!(gone.starts_with("failed Bad request: "), "{gone}");

    caller.took_part("service, caller", router);
}
