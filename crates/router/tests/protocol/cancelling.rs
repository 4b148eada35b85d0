//! CancelCall over sockets. Rules CA-11, CA-13, CO-18, CO-19.

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_router::RouterConfig;
use gsb_testkit::{Peer, TestRouter};

#[tokio::test]
async fn a_caller_cancels_its_call() {
    let router = TestRouter::with(RouterConfig { max_frame: 1 << 20, ..Default::default() }).await;
    let mut service = Peer::connect(&router.tcp, Framing::Classic).await;
    service.register("/a").await;
    for address in [&router.unix, &router.tcp] {
        let mut caller = Peer::silent(address, Framing::Packet).await;
        caller.send(Hello { level: 1, ..Default::default() }).await;
        let hello: Hello = caller.expect().await;
        assert_eq!((hello.level, hello.max_frame), (1, 1 << 20));
        caller.call("/a", "1", "").await;
        let call: CallRequest = service.expect().await;
        service.part(&call.request_id, "part").await;
        assert_eq!(caller.expect::<CallReply>().await.data, "part");
        caller.send(CancelCall { request_id: "1".into() }).await;
        let reply: CallReply = caller.expect().await;
        assert_eq!((reply.code, reply.reply_type), (500, 0));
        assert_eq!(reply.reason(), CallReplyReason::ReasonCancelled);
        service.part(&call.request_id, "late").await;
        service.reply(&call.request_id, "late").await;
        service.expect_nothing().await;
        // The call has ended, so that cancelling it again has no effect.
        caller.send(CancelCall { request_id: "1".into() }).await;
        caller.expect_nothing().await;
    }
    router.stop().await;
}

/// A peer of level 1.
async fn steering(address: &Address) -> Peer {
    let mut peer = Peer::silent(address, Framing::Packet).await;
    peer.send(Hello { level: 1, ..Default::default() }).await;
    assert_eq!(peer.expect::<Hello>().await.level, 1);
    peer
}

#[tokio::test]
async fn a_service_hears_that_no_caller_waits() {
    let router = TestRouter::start().await;
    let mut service = steering(&router.unix).await;
    service.register("/a").await;
    for address in [&router.unix, &router.tcp] {
        let mut caller = steering(address).await;
        let mut classic = Peer::connect(address, Framing::Classic).await;
        for (id, timeout_ms) in [("cancelled", 0), ("abandoned", 0), ("late", 50)] {
            let (address, request_id) = ("/a".into(), id.into());
            caller
                .send(CallRequest { address, request_id, timeout_ms, ..Default::default() })
                .await;
            let call: CallRequest = service.expect().await;
            assert_eq!(call.request_id, id);
        }
        classic.call("/a", "classic", "").await;
        let _: CallRequest = service.expect().await;
        assert_eq!(service.expect::<CancelCall>().await.request_id, "late");
        caller.send(CancelCall { request_id: "cancelled".into() }).await;
        assert_eq!(service.expect::<CancelCall>().await.request_id, "cancelled");
        drop(caller);
        assert_eq!(service.expect::<CancelCall>().await.request_id, "abandoned");
        drop(classic);
        assert_eq!(service.expect::<CancelCall>().await.request_id, "classic");
        for id in ["classic", "abandoned", "late", "cancelled"] {
            service.part(id, "on its way").await;
            service.reply(id, "the end").await;
        }
        service.expect_nothing().await;
        assert_eq!(router.status.usage().orphaned_calls, 0);
    }
    router.stop().await;
}
