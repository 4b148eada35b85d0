//! Many peers that read nothing, or little, together keep another connection waiting for about one stall timeout a
//! minute. Over real sockets, with short timeouts.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use gsb_proto::messages::*;
use gsb_proto::{Framing, MessageKind};
use gsb_router::{Limits, RouterConfig};
use gsb_testkit::{Peer, TestRouter, within};
use tokio::sync::oneshot;

const STALL: Duration = Duration::from_millis(500);

/// Small limits and short timeouts. Socket buffers take some hundred KiB more.
async fn router(write_timeout: Duration) -> TestRouter {
    TestRouter::with(RouterConfig {
        limits: Limits { queued_bytes: 256 << 10, ..Limits::default() },
        stall_timeout: STALL,
        write_timeout,
        ..RouterConfig::default()
    })
    .await
}

async fn peers<const COUNT: usize>(router: &TestRouter) -> [Peer; COUNT] {
    let mut peers = Vec::new();
    for _ in 0..COUNT {
        peers.push(Peer::connect(&router.unix, Framing::Packet).await);
    }
    peers.try_into().ok().unwrap()
}

fn kilobytes(count: usize) -> String {
    "x".repeat(count << 10)
}

/// The next call to a service, which answers Pings meanwhile.
async fn next_call(service: &mut Peer) -> CallRequest {
    loop {
        let frame = service.next().await.unwrap();
        if frame.kind == MessageKind::CallRequest {
            return frame.decode().unwrap();
        }
    }
}

// Rule LI-3: a call that a service reads too slowly ends, and is no longer charged to its caller. The service is read
// although the rest of the call is still queued.
#[tokio::test]
async fn a_service_that_takes_a_call_bit_by_bit() {
    let router = router(Duration::from_secs(3600)).await;
    let [mut hostile, mut service, mut caller] = peers(&router).await;
    hostile.register("/hostile").await;
    service.register("/fine").await;
    caller.call("/hostile", "before", "").await;
    let before = next_call(&mut hostile).await;
    let (stop, mut is_over) = oneshot::channel();
    let trickle = tokio::spawn(async move {
        while is_over.try_recv().is_err() {
            hostile.read_bytes(2 << 10).await;
            tokio::time::sleep(STALL / 10).await;
        }
        hostile
    });
    // It is larger than the limit, so the account of the caller is full until most of it is written.
    caller.call("/hostile", "large", &kilobytes(4 << 10)).await;
    caller.call("/fine", "small", "").await;
    let end: CallReply = caller.expect().await;
    assert_eq!(
        (end.request_id.as_str(), end.reason()),
        ("large", CallReplyReason::ReasonServiceStalled)
    );
    let call = next_call(&mut service).await;
    service.reply(&call.request_id, "").await;
    assert_eq!(caller.expect::<CallReply>().await.code, 0);
    assert_eq!(router.status.usage().connections, 3, "the rest still waits");
    stop.send(()).unwrap();
    let mut hostile = trickle.await.unwrap();
    hostile.reply(&before.request_id, "").await;
    let reply: CallReply = caller.expect().await;
    assert_eq!((reply.request_id.as_str(), reply.code), ("before", 0));
    router.stop().await;
}

// Rules LI-2, LI-3: a service streams to a slow caller at the speed of the caller, and neither is closed.
#[tokio::test]
async fn a_slow_caller_slows_its_service_down() {
    let router = router(2 * STALL).await;
    let [mut service, mut slow] = peers(&router).await;
    service.register("/s").await;
    slow.call("/s", "stream", "").await;
    let CallRequest { request_id, .. } = next_call(&mut service).await;
    let parts = 200;
    let streams = tokio::spawn(async move {
        let begin = Instant::now();
        for _ in 0..parts {
            service.part(&request_id, &kilobytes(16)).await;
        }
        service.reply(&request_id, "").await;
        (service, begin.elapsed())
    });
    for _ in 0..=parts {
        let part: CallReply = slow.expect().await;
        assert_eq!(part.code, 0, "{part:?}");
        // Four times the speed that the rule requires.
        tokio::time::sleep(STALL / 16).await;
    }
    let (_service, took) = streams.await.unwrap();
    println!("the service wrote for {took:.1?}, with a write timeout of {:?}", 2 * STALL);
    assert!(took > 4 * STALL);
    assert_eq!(router.status.counters().closes.len(), 0);
    router.stop().await;
}

// Rules LI-3, LI-4, LI-6: a peer must read while it writes. The stall and write timeouts of a service go on while it is
// not read because of a slow caller.
#[tokio::test]
async fn a_service_that_does_not_read_while_it_streams() {
    let router = router(2 * STALL).await;
    let [mut service, mut slow, mut other] = peers(&router).await;
    service.register("/s").await;
    slow.call("/s", "stream", "").await;
    let CallRequest { request_id, .. } = next_call(&mut service).await;
    let streams = tokio::spawn(async move {
        for _ in 0..1000 {
            let (request_id, data) = (request_id.clone(), kilobytes(16).into());
            let part = CallReply { request_id, data, reply_type: 1, ..Default::default() };
            if service.try_send(part).await.is_err() {
                return;
            }
        }
        panic!("it was not closed");
    });
    let reads = tokio::spawn(async move {
        while slow.next().await.is_some() {
            tokio::time::sleep(STALL / 16).await;
        }
    });
    // More than fits into its socket.
    let calls = 40;
    for id in 0..calls {
        other.call("/s", &id.to_string(), &kilobytes(16)).await;
    }
    let mut stalled = 0;
    for _ in 0..calls {
        match other.expect::<CallReply>().await.reason() {
            CallReplyReason::ReasonServiceStalled => stalled += 1,
            reason => assert_eq!(reason, CallReplyReason::ReasonServiceGone),
        }
    }
    assert!(stalled > 0);
    streams.await.unwrap();
    assert_eq!(router.status.counters().closes["not reading"], 1);
    reads.abort();
    router.stop().await;
}

// Rule LI-3: callers that never read keep their service waiting for one stall timeout, and a little for each further
// caller.
#[tokio::test]
async fn many_callers_that_never_read() {
    let router = router(Duration::from_secs(3600)).await;
    let [mut service] = peers(&router).await;
    let hostile: [Peer; 8] = peers(&router).await;
    let mut callers: [Peer; 3] = peers(&router).await;
    service.register("/s").await;
    let mut streams = Vec::new();
    let mut deaf = Vec::new();
    for mut hostile in hostile {
        hostile.call("/s", "stream", "").await;
        streams.push(next_call(&mut service).await.request_id);
        deaf.push(hostile);
    }
    for caller in &mut callers {
        for id in 0..10 {
            caller.call("/s", &id.to_string(), "").await;
        }
    }
    let begin = Instant::now();
    for stream in streams {
        // More than fits into the limit and the socket.
        for _ in 0..50 {
            service.part(&stream, &kilobytes(16)).await;
        }
    }
    for _ in 0..30 {
        let call = next_call(&mut service).await;
        service.reply(&call.request_id, "").await;
    }
    for caller in &mut callers {
        for _ in 0..10 {
            assert_eq!(caller.expect::<CallReply>().await.code, 0);
        }
    }
    let took = begin.elapsed();
    println!(
        "8 callers that never read held up a service for {took:.1?}, with a stall timeout of {STALL:?}"
    );
    assert!(took < 4 * STALL, "{took:?}");
    assert_eq!(router.status.counters().refusals["caller stalled"], 8);
    router.stop().await;
}

// A reply waits for its caller, and later its sender has to wait for its own answers. The second wait must not restore
// the first.
#[tokio::test]
async fn a_second_wait_replaces_the_first() {
    let router = router(Duration::from_secs(3600)).await;
    let [mut service, mut gone, mut deaf] = peers(&router).await;
    service.register("/s").await;
    gone.register("/gone").await;
    let open = 4000;
    for id in 0..open {
        service.call("/gone", &format!("{id} {}", "x".repeat(100)), "").await;
        next_call(&mut gone).await;
    }
    deaf.call("/s", "stream", "").await;
    let CallRequest { request_id, .. } = next_call(&mut service).await;
    within("the pause", async {
        while !router.status.counters().pauses.contains_key("replies") {
            service.part(&request_id, &kilobytes(16)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // Now more answers are queued for the service than its limit allows.
    drop(gone);
    // The wait for its own answers begins when the first wait is over.
    tokio::time::sleep(2 * STALL).await;
    let mut ended = 0;
    while ended < open {
        match service.next().await.unwrap().kind {
            MessageKind::CallReply => ended += 1,
            kind => assert_eq!(kind, MessageKind::Ping),
        }
    }
    // It has read all answers, so the router reads from it again.
    service.send(Ping {}).await;
    within("a Pong", async { while service.next().await.unwrap().kind != MessageKind::Pong {} })
        .await;
    drop(deaf);
    router.stop().await;
}
