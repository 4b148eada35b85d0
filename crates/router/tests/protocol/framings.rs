//! Peers of both framings, on both kinds of sockets, share the same services. Rules FR-1, FR-4, CO-1.

use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{Peer, TestRouter, all_kinds_of_peers};

// Rule FR-1.
#[tokio::test]
async fn peers_of_all_framings_and_sockets_call_each_other() {
    let router = TestRouter::start().await;
    let mut services = all_kinds_of_peers(&router).await;
    for (index, service) in services.iter_mut().enumerate() {
        assert_eq!(service.register(&format!("/service/{index}")).await, 0);
    }
    for mut caller in all_kinds_of_peers(&router).await {
        for (index, service) in services.iter_mut().enumerate() {
            let address = format!("/service/{index}/method");
            caller.call(&address, "7", "question").await;
            let call: CallRequest = service.expect().await;
            assert_eq!(
                (call.address.as_str(), &call.data[..]),
                (address.as_str(), &b"question"[..])
            );
            service.part(&call.request_id, "first").await;
            service.reply(&call.request_id, "last").await;
            let first: CallReply = caller.expect().await;
            assert_eq!((first.request_id.as_str(), first.reply_type), ("7", 1));
            let last: CallReply = caller.expect().await;
            assert_eq!((&last.data[..], last.reply_type), (&b"last"[..], 0));
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn events_reach_peers_of_all_framings_and_sockets() {
    let router = TestRouter::start().await;
    let mut listeners = all_kinds_of_peers(&router).await;
    for listener in &mut listeners {
        assert_eq!(listener.subscribe("news/**").await, 0);
    }
    for mut sender in all_kinds_of_peers(&router).await {
        sender.broadcast("news/today", "text").await;
        assert_eq!(sender.expect::<BroadcastReply>().await.code, 0);
        for listener in &mut listeners {
            let event: BroadcastRequest = listener.expect().await;
            assert_eq!((event.topic.as_str(), &event.data[..]), ("news/today", &b"text"[..]));
        }
    }
    router.stop().await;
}

// Rule FR-4: the first five bytes determine the framing, even if they arrive one by one.
#[tokio::test]
async fn the_framing_is_detected_byte_by_byte() {
    let router = TestRouter::start().await;
    let packet_ping: &[u8] = &[0, 0, 0, 2, 0x72, 0];
    let classic_ping: &[u8] = &[0, 0, 0, 12, 0, 0, 0, 0];
    for (framing, ping) in [(Framing::Packet, packet_ping), (Framing::Classic, classic_ping)] {
        let mut peer = Peer::silent(&router.tcp, framing).await;
        for byte in ping {
            peer.send_bytes(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        if framing == Framing::Packet {
            // Rule CO-1: it is the first message.
            let hello: Hello = peer.expect().await;
            assert_eq!(hello.name, "gsb-router");
            assert_eq!(hello.instance_id.len(), 16);
        }
        let Pong {} = peer.expect().await;
    }
    router.stop().await;
}

// Many frames in one write, and one frame in many reads.
#[tokio::test]
async fn batches_and_large_frames_pass() {
    let router = TestRouter::start().await;
    for framing in [Framing::Packet, Framing::Classic] {
        let mut service = Peer::connect(&router.unix, framing).await;
        let mut caller = Peer::connect(&router.tcp, framing).await;
        assert_eq!(service.register("/large").await, 0);
        let data = "x".repeat(5 << 20);
        for id in ["1", "2", "3"] {
            caller.call("/large", id, &data).await;
        }
        for id in ["1", "2", "3"] {
            let call: CallRequest = service.expect().await;
            assert_eq!((call.request_id.as_str(), call.data.len()), (id, data.len()));
            service.reply(id, &data).await;
        }
        for id in ["1", "2", "3"] {
            let reply: CallReply = caller.expect().await;
            assert_eq!((reply.request_id.as_str(), reply.data.len()), (id, data.len()));
        }
    }
    router.stop().await;
}
