//! The names and callers of a `ya-service-bus` service that is killed or replaced.

use std::time::{Duration, Instant};

use gsb_interop::peer::Peer;
use gsb_interop::router::OurRouter;

const YA_PEER: &str = env!("CARGO_BIN_EXE_ya-peer");

/// Below the shortest timeout of the peers, which is 3 seconds. A failure from the router takes milliseconds.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_killed_service_fails_its_callers_and_can_start_again() {
    let router = OurRouter::start().await;
    let mut caller = Peer::start(YA_PEER, &["typed"], &router.url).await;
    let mut waiting = Peer::start(YA_PEER, &["typed"], &router.url).await;
    // The second round shows whether the first one left something behind.
    for _ in 0..2 {
        let mut service = Peer::start(YA_PEER, &["typed"], &router.url).await;
        service.run("bind /golem/mortal", &["bound /golem/mortal"]).await;
        caller.run("echo /golem/mortal text", &["echoed text for ya-caller"]).await;
        waiting.tell("hang /golem/mortal").await;
        service.expect(&["hanging"]).await;

        let killed = Instant::now();
        service.kill().await;
        let failure = waiting.line().await;
        assert!(failure.starts_with("failed GSB failure: "), "{failure}");
        assert!(killed.elapsed() < AT_ONCE, "{:?}", killed.elapsed());
        let gone = caller.ask("echo /golem/mortal text").await;
        assert!(gone.starts_with("failed Bad request: "), "{gone}");
    }
    caller.took_part("killed service, waiting caller", "gsb-router");
}

#[tokio::test]
async fn a_newcomer_with_the_same_instance_id_takes_over() {
    let router = OurRouter::start().await;
    let mode = ["connection", "the-same-16-byte"];
    let mut caller = Peer::start(YA_PEER, &["connection"], &router.url).await;
    let mut old = Peer::start(YA_PEER, &mode, &router.url).await;
    old.run("bind /golem/heir", &["bound /golem/heir"]).await;
    let conflict = caller.ask("bind /golem/heir").await;
    assert!(conflict.starts_with("failed Already registered: "), "{conflict}");

    let mut new = Peer::start(YA_PEER, &mode, &router.url).await;
    new.run("bind /golem/heir", &["bound /golem/heir"]).await;
    old.expect(&["disconnected"]).await;
    caller.run("call /golem/heir text", &["reply text"]).await;
    new.expect(&["called ya-caller /golem/heir text"]).await;
    caller.took_part("replaced service, caller", "gsb-router");
}
