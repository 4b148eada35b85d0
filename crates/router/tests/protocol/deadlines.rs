//! Deadlines of calls over sockets. Rule CA-12.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_router::RouterConfig;
use gsb_testkit::{Peer, TestRouter};

/// A call to `/a`.
fn timed(request_id: String, timeout_ms: u32) -> CallRequest {
    CallRequest { address: "/a".into(), request_id, timeout_ms, ..Default::default() }
}

/// The next reply is the router's, to a call whose deadline has passed.
async fn expect_expired(caller: &mut Peer, request_id: &str) {
    let reply: CallReply = caller.expect().await;
    assert_eq!(reply.request_id, request_id);
    assert_eq!((reply.code, reply.reply_type), (500, 0));
    assert_eq!(reply.reason(), CallReplyReason::ReasonDeadlineExceeded);
}

#[tokio::test]
async fn a_deadline_passes() {
    let router = TestRouter::start().await;
    let mut service = Peer::connect(&router.unix, Framing::Classic).await;
    service.register("/a").await;
    for (address, framing) in [(&router.tcp, Framing::Packet), (&router.unix, Framing::Classic)] {
        let mut caller = Peer::connect(address, framing).await;
        let begin = Instant::now();
        for timeout in [600, 300, 30] {
            caller.send(timed(timeout.to_string(), timeout)).await;
            let call: CallRequest = service.expect().await;
            assert_eq!(call.timeout_ms, timeout);
        }
        for timeout in [30, 300, 600] {
            expect_expired(&mut caller, &timeout.to_string()).await;
            assert!(begin.elapsed() >= Duration::from_millis(timeout), "{:?}", begin.elapsed());
        }
    }
    assert_eq!(router.status.usage().open_calls, 0);
    router.stop().await;
}

// The task that keeps the time and those that route calls run on different threads.
#[tokio::test]
async fn workers_tell_the_timer() {
    let workers = NonZeroUsize::new(2);
    let router = TestRouter::with(RouterConfig { workers, ..Default::default() }).await;
    let mut service = Peer::connect(&router.unix, Framing::Packet).await;
    service.register("/a").await;
    let mut caller = Peer::connect(&router.unix, Framing::Packet).await;
    for number in 0..2000 {
        caller.send(timed(number.to_string(), 1 + number % 50)).await;
    }
    let mut ended = Vec::new();
    for _ in 0..2000 {
        let reply: CallReply = caller.expect().await;
        assert_eq!(reply.reason(), CallReplyReason::ReasonDeadlineExceeded);
        ended.push(reply.request_id);
    }
    ended.sort();
    ended.dedup();
    assert_eq!(ended.len(), 2000);
    caller.expect_nothing().await;
    router.stop().await;
}
