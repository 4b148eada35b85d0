//! CancelCall over sockets. Rules CA-11, CO-18, CO-19.

use gsb_proto::Framing;
use gsb_proto::messages::*;
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
