//! However many work together at reading nothing, or little now and then: others wait for about two stall
//! timeouts at most, and nobody is blamed for what others do. Over real sockets, with short timeouts.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use gsb_proto::messages::*;
use gsb_proto::{Framing, MessageKind};
use gsb_router::{Limits, RouterConfig};
use gsb_testkit::{Peer, TestRouter, within};
use tokio::sync::oneshot;

const STALL: Duration = Duration::from_millis(500);

/// Limits that are reached at once, and timeouts that are soon over. Sockets take some hundred KiB more.
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

// Rule LI-4: a call that a service takes bit by bit ends, and is not at its caller's cost from then on. The
// service is read, whatever it has not taken yet.
#[tokio::test]
async fn a_service_that_takes_a_call_bit_by_bit() {
    let router = router(2 * STALL).await;
    let [mut hostile, mut service, mut caller] = peers(&router).await;
    hostile.register("/hostile").await;
    service.register("/fine").await;
    caller.call("/hostile", "before", "").await;
    let before = next_call(&mut hostile).await;
    let (stop, mut is_over) = oneshot::channel();
    let trickle = tokio::spawn(async move {
        while is_over.try_recv().is_err() {
            hostile.read_bytes(8 << 10).await;
            tokio::time::sleep(STALL / 10).await;
        }
        hostile
    });
    // It is alone in the budget, which is used up until it has left.
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

// Rules LI-5, LI-7, LI-9: a service that does one thing at a time takes nothing while it streams to somebody who
// reads slowly. It is not closed for that, however long it takes.
#[tokio::test]
async fn a_service_that_streams_to_a_slow_caller() {
    let router = router(2 * STALL).await;
    let [mut service, mut slow, mut other] = peers(&router).await;
    service.register("/s").await;
    service.subscribe("news").await;
    slow.call("/s", "stream", "").await;
    let CallRequest { request_id, .. } = next_call(&mut service).await;
    let parts = 200;
    let streams = tokio::spawn(async move {
        let begin = Instant::now();
        for _ in 0..parts {
            service.part(&request_id, &kilobytes(16)).await;
        }
        let took = begin.elapsed();
        service.reply(&request_id, "").await;
        let mut taken = 0;
        loop {
            let frame = service.next().await.unwrap();
            match frame.kind {
                MessageKind::CallRequest => {
                    let call: CallRequest = frame.decode().unwrap();
                    service.reply(&call.request_id, "").await;
                    taken += 1;
                }
                MessageKind::BroadcastRequest => break,
                kind => assert_eq!(kind, MessageKind::Ping),
            }
        }
        (service, taken, took)
    });
    // More than its socket takes. The calls that it does not take end, for nobody else has to wait for them.
    let calls = 24;
    for id in 0..calls {
        other.call("/s", &id.to_string(), &kilobytes(16)).await;
    }
    other.broadcast("news", "behind all this").await;
    assert_eq!(other.expect::<BroadcastReply>().await.code, 0);
    for _ in 0..=parts {
        let part: CallReply = slow.expect().await;
        assert_eq!(part.code, 0, "{part:?}");
        // Twice as fast as it must.
        tokio::time::sleep(STALL / 16).await;
    }
    let (_service, taken, took) = streams.await.unwrap();
    println!("the service wrote for {took:.1?}, with a write timeout of {:?}", 2 * STALL);
    assert!(took > 4 * STALL);
    let mut ended = 0;
    for _ in 0..calls {
        match other.expect::<CallReply>().await.reason() {
            CallReplyReason::ReasonServiceStalled => ended += 1,
            reason => assert_eq!(reason, CallReplyReason::default()),
        }
    }
    // But for one that it has the whole of when it is too late.
    assert!(ended > 0 && (calls..=calls + 1).contains(&(taken + ended)), "{taken} {ended}");
    assert_eq!(router.status.counters().closes.len(), 0);
    router.stop().await;
}

// Rules LI-4, LI-5, LI-7, LI-9: a service that does one thing at a time cannot read while it has to wait for
// callers that do not read. It is neither held up by each of them for as long, nor blamed.
#[tokio::test]
async fn many_callers_that_never_read() {
    let router = router(2 * STALL).await;
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
    // More than its socket takes, so that the service is one that takes nothing.
    for caller in &mut callers {
        for id in 0..10 {
            caller.call("/s", &id.to_string(), &kilobytes(16)).await;
        }
    }
    let begin = Instant::now();
    for stream in streams {
        // What fits into nobody's budget and socket.
        for _ in 0..50 {
            service.part(&stream, &kilobytes(16)).await;
        }
    }
    service.send(Ping {}).await;
    let mut answered = 0;
    while answered < 30 {
        let call = next_call(&mut service).await;
        service.reply(&call.request_id, "").await;
        answered += 1;
    }
    let took = begin.elapsed();
    println!(
        "8 callers that never read held up a service for {took:.1?}, with a stall timeout of {STALL:?}"
    );
    for caller in &mut callers {
        for _ in 0..10 {
            assert_eq!(caller.expect::<CallReply>().await.code, 0);
        }
    }
    assert!(took < 4 * STALL, "{took:?}");
    assert_eq!(router.status.counters().refusals["caller stalled"], 8);
    router.stop().await;
}

// Rules LI-4, LI-7, LI-9: a caller that does one thing at a time takes nothing while its calls are not taken. It is not
// closed for that, however many they are.
#[tokio::test]
async fn a_caller_whose_calls_are_not_taken() {
    let router = router(2 * STALL).await;
    let [mut hostile, mut caller, mut sender] = peers(&router).await;
    hostile.register("/hostile").await;
    caller.subscribe("news").await;
    // Enough not to be taken for one that reads nothing.
    let trickle = tokio::spawn(async move {
        loop {
            hostile.read_bytes(8 << 10).await;
            tokio::time::sleep(STALL / 5).await;
        }
    });
    // More than its socket takes.
    for _ in 0..40 {
        sender.broadcast("news", &kilobytes(8)).await;
        assert_eq!(sender.expect::<BroadcastReply>().await.code, 0);
    }
    let begin = Instant::now();
    let calls = 120;
    for id in 0..calls {
        caller.call("/hostile", &id.to_string(), &kilobytes(16)).await;
    }
    let took = begin.elapsed();
    println!("the caller wrote for {took:.1?}, with a write timeout of {:?}", 2 * STALL);
    assert!(took > 3 * STALL);
    caller.send(Ping {}).await;
    let is_pong = async { while caller.next().await.unwrap().kind != MessageKind::Pong {} };
    within("a Pong", is_pong).await;
    assert_eq!(router.status.counters().closes.len(), 0);
    trickle.abort();
    router.stop().await;
}

// A reply that waits for room of its caller's, and is then let wait for room of its sender's own, must not go
// on waiting for the first.
#[tokio::test]
async fn who_waits_for_one_and_then_for_another() {
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
    // Now the service is due more answers than it may have waiting.
    drop(gone);
    // Only when the first wait is over does it want room of its own.
    tokio::time::sleep(2 * STALL).await;
    let mut ended = 0;
    while ended < open {
        match service.next().await.unwrap().kind {
            MessageKind::CallReply => ended += 1,
            kind => assert_eq!(kind, MessageKind::Ping),
        }
    }
    // It has read all, and so it is read, too.
    service.send(Ping {}).await;
    within("a Pong", async { while service.next().await.unwrap().kind != MessageKind::Pong {} })
        .await;
    drop(deaf);
    router.stop().await;
}
