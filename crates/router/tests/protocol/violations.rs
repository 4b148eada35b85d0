//! A peer that breaks the protocol loses its connection, and disturbs no other peer. Rules CO-12 to CO-14, FR-4.

#![allow(clippy::unwrap_used)]

use gsb_proto::messages::*;
use gsb_proto::{Framing, MessageKind};
use gsb_router::RouterConfig;
use gsb_testkit::{Peer, TestRouter};

fn packet(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

fn classic(kind: i32, length: u32, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), &length.to_be_bytes(), body].concat()
}

#[tokio::test]
async fn a_violation_closes_only_the_connection_of_its_peer() {
    let router = TestRouter::with(RouterConfig { max_frame: 1 << 20, ..Default::default() }).await;
    let mut service = Peer::connect(&router.unix, Framing::Packet).await;
    let mut caller = Peer::connect(&router.tcp, Framing::Classic).await;
    service.register("/a").await;
    service.subscribe("**").await;
    caller.call("/a", "1", "").await;
    let call: CallRequest = service.expect().await;

    let too_long = (1u32 << 20) + 1;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "unknown type"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "unknown framing"),
        ("neither framing", vec![0, 0, 0, 0, 0x80, 0, 0, 0], "unknown framing"),
        ("an unknown type", classic(99, 0, b""), "unknown type"),
        ("a negative type", classic(-1, 0, b""), "unknown type"),
        ("an empty packet", [packet(&[0x7a, 0]), packet(b"")].concat(), "empty packet"),
        ("half a packet", packet(&[0x7a, 0, 0x7d]), "malformed message"),
        ("unknown fields", [packet(&[0x7a, 0]), packet(&[0x92, 8, 0])].concat(), "empty packet"),
        // Rules CO-18, FR-13: a CancelCall of level 0, as the first frame, and in the classic framing.
        ("level 0", [packet(&[0x7a, 0]), packet(&[0xa2, 6, 0])].concat(), "level too low"),
        ("an extension", packet(&[0xa2, 6, 0]), "unknown framing"),
        ("a classic extension", classic(98, 0, b""), "unknown type"),
        ("a body that does not decode", packet(&[0x12, 2, 0x0a, 9]), "malformed message"),
        ("text that is not UTF-8", packet(&[0x12, 3, 0x0a, 1, 0xff]), "malformed message"),
        ("an address that is not UTF-8", packet(&[0x32, 3, 0x12, 1, 0xff]), "malformed message"),
        ("a long classic frame", classic(4, too_long, b""), "frame too large"),
        ("a router's message", classic(1, 0, b""), "wrong direction"),
        ("two Hellos", [packet(&[0x0a, 0]), packet(&[0x0a, 0])].concat(), "second hello"),
    ];
    for (name, bytes, reason) in cases {
        let closes = |reason| {
            let counters = router.status.counters();
            counters.closes.get(reason).copied().unwrap_or_default()
        };
        let before = closes(reason);
        let framing = if bytes[4] < 8 { Framing::Classic } else { Framing::Packet };
        let mut peer = Peer::silent(&router.tcp, framing).await;
        peer.send_bytes(&bytes).await;
        peer.expect_close().await;
        assert_eq!(closes(reason), before + 1, "{name}");
    }
    // Rule CO-14: the header is enough, with the packet framing, too.
    let mut peer = Peer::connect(&router.unix, Framing::Packet).await;
    peer.send_bytes(&too_long.to_be_bytes()).await;
    peer.expect_close().await;

    service.expect_nothing().await;
    caller.expect_nothing().await;
    service.reply(&call.request_id, "fine").await;
    assert_eq!(caller.expect::<CallReply>().await.data, "fine");
    router.stop().await;
}

// Frames before the violation are handled, even if they arrive in the same read.
#[tokio::test]
async fn frames_before_a_violation_are_handled() {
    let router = TestRouter::start().await;
    let mut service = Peer::connect(&router.unix, Framing::Packet).await;
    service.register("/a").await;
    let mut peer = Peer::silent(&router.unix, Framing::Classic).await;
    let call = CallRequest { address: "/a".into(), no_reply: true, ..Default::default() };
    let mut bytes = classic_frame(&call);
    bytes.extend(classic(99, 0, b""));
    peer.send_bytes(&bytes).await;
    assert_eq!(service.expect::<CallRequest>().await.address, "/a");
    peer.expect_close().await;
    router.stop().await;
}

fn classic_frame(message: &impl Message) -> Vec<u8> {
    let frame = message.to_frame();
    let body = frame.body.into_bytes();
    classic(MessageKind::classic_type(frame.kind).unwrap(), body.len() as u32, &body)
}

// Frames that were sent before a peer disconnected are handled.
#[tokio::test]
async fn frames_before_the_end_of_a_connection_are_handled() {
    let router = TestRouter::start().await;
    let mut service = Peer::connect(&router.tcp, Framing::Packet).await;
    service.register("/a").await;
    for address in [&router.unix, &router.tcp] {
        let mut peer = Peer::silent(address, Framing::Packet).await;
        for _ in 0..100 {
            let call = CallRequest { address: "/a".into(), no_reply: true, ..Default::default() };
            peer.send(call).await;
        }
        peer.hang_up().await;
        for _ in 0..100 {
            let CallRequest { .. } = service.expect().await;
        }
    }
    router.stop().await;
}
