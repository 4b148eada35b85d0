//! Requests and replies that are streams, over sockets. Rules CA-14 and CA-15.

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{Peer, TestRouter};

/// What a message of a stream costs beside its data.
const COST: i64 = 64;

/// A peer of level 1.
async fn steering(address: &Address) -> Peer {
    let mut peer = Peer::silent(address, Framing::Packet).await;
    peer.send(Hello { level: 1, ..Default::default() }).await;
    assert_eq!(peer.expect::<Hello>().await.level, 1);
    peer
}

fn call(request_id: &str) -> CallRequest {
    CallRequest { address: "/a".into(), request_id: request_id.into(), ..Default::default() }
}

fn credit(request_id: &str, bytes: u64, for_request: bool) -> StreamCredit {
    StreamCredit { request_id: request_id.into(), bytes, for_request }
}

/// A service that has more to send than the caller reads.
async fn send_as_credit_allows(
    service: &mut Peer,
    id: &str,
    credit: &mut i64,
    data: &str,
) -> usize {
    let mut sent = 0;
    while *credit > 0 {
        service.part(id, data).await;
        *credit -= data.len() as i64 + COST;
        sent += 1;
    }
    sent
}

// Rule CA-14: it stops no connection and no other call, and goes on when it is read again.
#[tokio::test]
async fn a_stream_that_is_not_read_stops_nothing_else() {
    let router = TestRouter::start().await;
    let mut service = steering(&router.unix).await;
    service.register("/a").await;
    let mut caller = steering(&router.tcp).await;
    let data = "x".repeat(10_000);
    let mut left = 1 << 20;
    caller.send(CallRequest { reply_credit: 1 << 20, ..call("stream") }).await;
    assert_eq!(service.expect::<CallRequest>().await.reply_credit, 1 << 20);
    for round in 0..3 {
        let sent = send_as_credit_allows(&mut service, "stream", &mut left, &data).await;
        // The caller has it, and grants nothing. Meanwhile others are served over the same connections.
        for _ in 0..sent {
            assert_eq!(caller.expect::<CallReply>().await.request_id, "stream");
        }
        for _ in 0..100 {
            caller.call("/a", "other", "").await;
            let CallRequest { request_id, .. } = service.expect().await;
            service.reply(&request_id, "reply").await;
            assert_eq!(caller.expect::<CallReply>().await.data, "reply");
        }
        service.expect_nothing().await;
        caller.send(credit("stream", 1 << 20, false)).await;
        assert_eq!(service.expect::<StreamCredit>().await, credit("stream", 1 << 20, false));
        left += 1 << 20;
        assert!((104..=105).contains(&sent), "{sent} in round {round}");
    }
    service.reply("stream", "end").await;
    assert_eq!(caller.expect::<CallReply>().await.data, "end");
    router.stop().await;
}

// Rule CA-15: both directions stream at once, and the data comes whole and in order.
#[tokio::test]
async fn a_request_and_its_replies_stream_at_once() {
    const COUNT: u32 = 1000;
    let router = TestRouter::start().await;
    for address in [&router.unix, &router.tcp] {
        let mut service = steering(address).await;
        service.register("/a").await;
        let mut caller = steering(address).await;
        caller.send(CallRequest { more: true, ..call("1") }).await;
        assert!(service.expect::<CallRequest>().await.more);
        let mut left = 65_536;
        for number in 0..COUNT {
            if left <= 0 {
                let StreamCredit { bytes, for_request, .. } = caller.expect().await;
                assert!(for_request);
                left += i64::try_from(bytes).expect("a small number");
            }
            let (data, end) = (vec![number as u8; 1000].into(), number + 1 == COUNT);
            left -= 1000 + COST;
            caller.send(CallData { request_id: "1".into(), data, end }).await;
            let part: CallData = service.expect().await;
            assert_eq!((part.data.len(), part.data[0], part.end), (1000, number as u8, end));
            service.part("1", &number.to_string()).await;
            assert_eq!(caller.expect::<CallReply>().await.data, number.to_string());
            if left <= 0 {
                service.send(credit("1", 65_536, true)).await;
            }
        }
        service.reply("1", "all").await;
        assert_eq!(caller.expect::<CallReply>().await.data, "all");
        // Behind the end, which the service has not seen when it is sent.
        caller.send(CallData { request_id: "1".into(), ..Default::default() }).await;
        caller.expect_nothing().await;
        service.expect_nothing().await;
    }
    assert_eq!(router.status.counters().drops["stray data"], 2);
    router.stop().await;
}

// Rules CA-14, CA-15, CO-18: peers that know nothing of it notice nothing.
#[tokio::test]
async fn peers_of_level_0_are_spared() {
    let router = TestRouter::start().await;
    let mut service = Peer::connect(&router.unix, Framing::Classic).await;
    service.register("/a").await;
    let mut caller = steering(&router.unix).await;
    caller.send(CallRequest { more: true, ..call("1") }).await;
    let reply: CallReply = caller.expect().await;
    assert_eq!((reply.code, reply.reason()), (400, CallReplyReason::ReasonUnsupported));
    caller.send(CallRequest { reply_credit: 10, ..call("2") }).await;
    caller.send(credit("2", 10, false)).await;
    assert_eq!(service.expect::<CallRequest>().await.request_id, "2");
    service.expect_nothing().await;
    service.reply("2", "reply").await;
    assert_eq!(caller.expect::<CallReply>().await.data, "reply");
    let mut old = Peer::connect(&router.unix, Framing::Packet).await;
    old.send(CallRequest { reply_credit: 10, ..call("3") }).await;
    let reply: CallReply = old.expect().await;
    assert_eq!((reply.code, reply.reason()), (400, CallReplyReason::ReasonUnsupported));
    old.send(credit("3", 10, false)).await;
    old.expect_close().await;
    router.stop().await;
}
