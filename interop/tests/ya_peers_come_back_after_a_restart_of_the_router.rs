//! `ya-service-bus` reconnects and registers again when its router was replaced by another one at the same address.

use std::time::Duration;

use gsb_interop::peer::Peer;
use gsb_interop::router::OurRouter;
use gsb_interop::within;

const YA_PEER: &str = env!("CARGO_BIN_EXE_ya-peer");

#[tokio::test]
async fn a_service_registers_again_by_itself() {
    let router = OurRouter::start().await;
    let mut service = Peer::start(YA_PEER, &["typed"], &router.url).await;
    service.run("bind /golem/faithful", &["bound /golem/faithful"]).await;
    let services = router.status.usage().services;
    let mut listener = Peer::start(YA_PEER, &["connection"], &router.url).await;

    let router = router.restart().await;
    // The `connection` module reports the loss, and the `typed` module reconnects after a second.
    listener.expect(&["disconnected"]).await;
    within("the registration of a service that was there before", async {
        // Neither side reports when that is done.
        while router.status.usage().services < services {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut caller = Peer::start(YA_PEER, &["typed"], &router.url).await;
    caller.run("echo /golem/faithful text", &["echoed text for ya-caller"]).await;
    service.took_part("reconnecting service, caller", "gsb-router");
}
