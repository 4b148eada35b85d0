//! A service serves callers whose connections belong to other workers.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_router::{Router, RouterConfig};
use gsb_testkit::{Peer, within};

#[tokio::test]
async fn a_service_answers_callers_of_all_workers() {
    let directory = tempfile::tempdir().unwrap();
    let address = Address::Unix(directory.path().join("gsb.sock"));
    let listen = vec![address.clone()];
    let workers = NonZeroUsize::new(3);
    let config = RouterConfig { listen, workers, ..Default::default() };
    let router = Router::bind(config).await.unwrap();
    let handle = router.shutdown_handle();
    let running = tokio::spawn(router.run());
    let mut service = Peer::connect(&address, Framing::Packet).await;
    service.register("/a").await;
    for _ in 0..6 {
        let mut caller = Peer::connect(&address, Framing::Packet).await;
        caller.call("/a", "1", "x").await;
        let call: CallRequest = service.expect().await;
        service.reply(&call.request_id, "y").await;
        assert_eq!(caller.expect::<CallReply>().await.data, "y");
    }
    handle.shutdown();
    within("the end of the router", running).await.unwrap();
}
