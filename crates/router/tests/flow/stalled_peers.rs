//! A peer that does not read affects itself, the callers that have sent it more than their limit, and for one stall
//! timeout the service that replies to it. Over real sockets, with short timeouts.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_router::{Limits, RouterConfig};
use gsb_testkit::{Peer, TestRouter, within};

const STALL: Duration = Duration::from_millis(300);

/// Small limits and short timeouts. Socket buffers take some hundred KiB more.
fn small_limits() -> RouterConfig {
    RouterConfig {
        limits: Limits { queued_bytes: 256 << 10, ..Limits::default() },
        stall_timeout: STALL,
        write_timeout: Duration::from_secs(3600),
        ..RouterConfig::default()
    }
}

async fn peer(router: &TestRouter) -> Peer {
    Peer::connect(&router.unix, Framing::Packet).await
}

fn kilobytes(count: usize) -> String {
    "x".repeat(count << 10)
}

async fn counted(
    router: &TestRouter,
    what: &str,
    is_there: impl Fn(&gsb_router::Counters) -> bool,
) {
    within(what, async {
        while !is_there(&router.status.counters()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Calls an address and waits for the reply; skips other replies. Returns the time that it took.
async fn round_trip(caller: &mut Peer, service: &mut Peer, address: &str, id: &str) -> Duration {
    let begin = Instant::now();
    caller.call(address, id, "").await;
    let call: CallRequest = service.expect().await;
    service.reply(&call.request_id, "").await;
    loop {
        let reply: CallReply = caller.expect().await;
        if reply.request_id == id {
            assert_eq!(reply.code, 0);
            return begin.elapsed();
        }
    }
}

// Rules LI-2, LI-3, with the default limits: calls of four times the limit wait for a service that pauses, and none is
// lost.
#[tokio::test]
async fn a_service_that_pauses_loses_no_call() {
    let router = TestRouter::start().await;
    let (mut service, mut caller) = (peer(&router).await, peer(&router).await);
    service.register("/slow").await;
    let calls = async {
        let megabyte = kilobytes(1024);
        for id in 0..64 {
            caller.call("/slow", &id.to_string(), &megabyte).await;
        }
        for id in 0..64 {
            let reply: CallReply = caller.expect().await;
            assert_eq!((reply.request_id, reply.code), (id.to_string(), 0));
        }
    };
    let answers = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        for _ in 0..64 {
            let call: CallRequest = service.expect().await;
            service.reply(&call.request_id, "").await;
        }
    };
    tokio::join!(calls, answers);
    assert!(router.status.counters().pauses["calls"] > 0, "the limit was reached");
    router.stop().await;
}

// Rule LI-3: calls to a service that never reads end, and do not disturb their caller's other calls.
#[tokio::test]
async fn a_service_that_never_reads() {
    let router = TestRouter::with(small_limits()).await;
    let (mut deaf, mut service, mut caller) =
        (peer(&router).await, peer(&router).await, peer(&router).await);
    deaf.register("/deaf").await;
    service.register("/fine").await;
    // More than fits into its socket, less than the limit.
    let calls = 25;
    for id in 0..calls {
        caller.call("/deaf", &format!("deaf {id}"), &kilobytes(16)).await;
    }
    let mut worst = Duration::ZERO;
    for id in 0..20 {
        worst = worst.max(round_trip(&mut caller, &mut service, "/fine", &id.to_string()).await);
    }
    println!("the worst call beside a service that never reads: {worst:?}");
    assert!(worst < STALL, "{worst:?}");
    counted(&router, "the end of some calls", |counters| {
        counters.refusals.contains_key("service stalled")
    })
    .await;
    // The calls in the socket buffer stay open until the service is closed.
    let usage = router.status.usage();
    let stalled = router.status.counters().refusals["service stalled"] as usize;
    assert_eq!(usage.open_calls + stalled, calls, "{usage:?}");
    drop(deaf);
    counted(&router, "the end of all calls", |counters| {
        let ended = |reason| counters.refusals.get(reason).copied().unwrap_or_default();
        ended("service stalled") + ended("service gone") == calls as u64
    })
    .await;
    assert_eq!(router.status.usage().open_calls, 0);
    router.stop().await;
}

// Rule LI-3: a caller that has sent more than its limit is paused, and goes on when its calls have ended.
#[tokio::test]
async fn a_caller_that_has_sent_too_much_goes_on() {
    let router = TestRouter::with(small_limits()).await;
    let (mut deaf, mut service, mut caller) =
        (peer(&router).await, peer(&router).await, peer(&router).await);
    deaf.register("/deaf").await;
    service.register("/fine").await;
    for id in 0..60 {
        caller.call("/deaf", &format!("deaf {id}"), &kilobytes(16)).await;
    }
    let took = round_trip(&mut caller, &mut service, "/fine", "fine").await;
    println!("a call behind too many to a service that never reads: {took:?}");
    assert!(router.status.counters().pauses["calls"] > 0);
    assert_eq!(router.status.usage().connections, 3);
    router.stop().await;
}

// Rule LI-3: a caller that never reads delays the others of its service once.
#[tokio::test]
async fn a_caller_that_never_reads() {
    let router = TestRouter::with(small_limits()).await;
    let (mut service, mut deaf, mut caller) =
        (peer(&router).await, peer(&router).await, peer(&router).await);
    service.register("/s").await;
    deaf.call("/s", "stream", "").await;
    let CallRequest { request_id: stream, .. } = service.expect().await;
    let mut waits = Vec::new();
    for id in 0..40 {
        for _ in 0..4 {
            service.part(&stream, &kilobytes(16)).await;
        }
        waits.push(round_trip(&mut caller, &mut service, "/s", &id.to_string()).await);
    }
    let delayed = waits.iter().filter(|wait| **wait >= STALL / 2).count();
    println!("calls beside a stream that is not read: {delayed} of {} had to wait", waits.len());
    assert!(delayed <= 1, "{waits:?}");
    assert_eq!(router.status.counters().pauses["replies"], 1);
    assert_eq!(router.status.counters().refusals["caller stalled"], 1);
    // The stream ends with an error.
    let end = loop {
        let reply: CallReply = deaf.expect().await;
        if reply.reply_type == 0 {
            break reply;
        }
    };
    assert_eq!((end.code, end.reason()), (500, CallReplyReason::ReasonCallerStalled));
    router.stop().await;
}

// Rule LI-2: a subscriber that never reads misses the events over its limit, and no other subscriber misses any.
#[tokio::test]
async fn a_subscriber_that_never_reads() {
    let router = TestRouter::with(small_limits()).await;
    let (mut deaf, mut healthy, mut sender) =
        (peer(&router).await, peer(&router).await, peer(&router).await);
    deaf.subscribe("news").await;
    healthy.subscribe("news").await;
    for number in 0..100 {
        sender.broadcast("news", &format!("{number} {}", kilobytes(16))).await;
        let BroadcastReply { code: 0, .. } = sender.expect().await else {
            panic!("refused");
        };
        let event: BroadcastRequest = healthy.expect().await;
        assert!(event.data.starts_with(format!("{number} ").as_bytes()));
    }
    let counters = router.status.counters();
    let dropped = counters.drops["slow subscriber"];
    assert!((50..90).contains(&dropped), "{dropped}");
    assert_eq!(counters.deliveries, 200 - dropped);
    router.stop().await;
}

// Rule LI-2: the router does not read from a peer that floods it with requests and reads no answers. It reads from
// others.
#[tokio::test]
async fn a_flood_of_questions() {
    let router = TestRouter::with(small_limits()).await;
    let (mut service, mut caller, mut flood) =
        (peer(&router).await, peer(&router).await, peer(&router).await);
    service.register("/s").await;
    let mut pings = bytes::BytesMut::new();
    for _ in 0..10_000 {
        assert!(Ping {}.to_frame().encode(Framing::Packet, &mut pings));
    }
    // Until the socket is full: then the router does not read.
    let sent = async {
        loop {
            flood.send_bytes(&pings).await;
        }
    };
    let stopped = counted(&router, "a pause", |counters| counters.pauses.contains_key("answers"));
    tokio::select! {
        () = sent => {}
        () = stopped => {}
    }
    for id in 0..20 {
        round_trip(&mut caller, &mut service, "/s", &id.to_string()).await;
    }
    assert_eq!(router.status.usage().connections, 3);
    router.stop().await;
}

// Rule LI-4: a peer that reads nothing for the write timeout is closed; a slow peer is not.
#[tokio::test]
async fn a_peer_that_reads_nothing_is_closed() {
    let write_timeout = Duration::from_millis(500);
    let router = TestRouter::with(RouterConfig { write_timeout, ..small_limits() }).await;
    let (mut deaf, mut slow, mut sender) =
        (peer(&router).await, peer(&router).await, peer(&router).await);
    deaf.subscribe("news").await;
    slow.subscribe("news").await;
    for _ in 0..100 {
        sender.broadcast("news", &kilobytes(8)).await;
        let BroadcastReply { .. } = sender.expect().await;
        // There is always something to read, because the socket buffer is large.
        slow.next_within(Duration::from_millis(10)).await;
    }
    counted(&router, "the end of the deaf one", |counters| {
        counters.closes.get("not reading") == Some(&1)
    })
    .await;
    assert_eq!(router.status.usage().connections, 2);
    slow.send(Ping {}).await;
    router.stop().await;
}

// Rule LI-4: a peer that reads slowly takes enough, although its socket rarely becomes writable.
#[tokio::test]
async fn a_peer_that_reads_slowly_stays() {
    let write_timeout = Duration::from_millis(500);
    let limits = Limits { queued_bytes: 1 << 20, ..Limits::default() };
    let router = TestRouter::with(RouterConfig { write_timeout, limits, ..small_limits() }).await;
    let (mut slow, mut sender) = (peer(&router).await, peer(&router).await);
    slow.subscribe("news").await;
    for _ in 0..120 {
        sender.broadcast("news", &kilobytes(8)).await;
        let BroadcastReply { .. } = sender.expect().await;
    }
    let begin = Instant::now();
    while begin.elapsed() < 4 * write_timeout {
        slow.read_bytes(6 << 10).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(router.status.counters().closes.len(), 0);
    router.stop().await;
}

// Rule LI-8: a connection is closed if its unfinished frame gets no further byte. A slow frame is no reason.
#[tokio::test]
async fn a_frame_that_does_not_go_on() {
    let frame_timeout = Duration::from_millis(300);
    let config = RouterConfig { frame_timeout, ..RouterConfig::default() };
    let router = TestRouter::with(config).await;
    let (mut idle, mut stuck, mut slow) =
        (peer(&router).await, peer(&router).await, peer(&router).await);
    let mut frame = bytes::BytesMut::new();
    let register = RegisterRequest { service_id: "/slow".into(), ..Default::default() }.to_frame();
    assert!(register.encode(Framing::Packet, &mut frame));
    stuck.send_bytes(&frame[..frame.len() - 1]).await;
    for byte in &frame[..] {
        tokio::time::sleep(frame_timeout / 4).await;
        slow.send_bytes(&[*byte]).await;
    }
    let RegisterReply { code: 0, .. } = slow.expect().await else {
        panic!("refused");
    };
    stuck.expect_close().await;
    assert_eq!(router.status.counters().closes["unfinished frame"], 1);
    idle.expect_nothing().await;
    router.stop().await;
}

// Rule LI-5: when peers that send large messages exceed the memory limit together, the one with the largest unfinished
// message is closed, and the others are served.
#[tokio::test]
async fn the_largest_unfinished_message_goes_when_memory_is_short() {
    let memory_limit = Some(8 << 20);
    let router = TestRouter::with(RouterConfig { memory_limit, ..RouterConfig::default() }).await;
    let (mut service, mut small) = (peer(&router).await, peer(&router).await);
    service.register("/s").await;
    let call = CallRequest {
        address: "/s".into(),
        data: vec![7; 32 << 20].into(),
        ..CallRequest::default()
    };
    let mut frame = bytes::BytesMut::new();
    assert!(call.to_frame().encode(Framing::Packet, &mut frame));
    small.send_bytes(&frame[..1 << 20]).await;
    let mut large = peer(&router).await;
    for part in frame.chunks(64 << 10) {
        if router.status.counters().closes.contains_key("memory limit") {
            break;
        }
        large.send_bytes(part).await;
    }
    large.expect_close().await;
    assert_eq!(router.status.counters().closes["memory limit"], 1);
    let mut caller = peer(&router).await;
    round_trip(&mut caller, &mut service, "/s", "fine").await;
    assert_eq!(router.status.usage().connections, 3);
    router.stop().await;
}
