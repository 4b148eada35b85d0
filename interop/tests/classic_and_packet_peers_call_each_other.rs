//! Peers with the classic framing, which use the codec of `ya-sb-proto` 0.1, with each other and with `ya-service-bus`,
//! which uses the packet framing.

use gsb_interop::classic::ClassicPeer;
use gsb_interop::messages::{Count, Echo, Echoed, Refusal};
use gsb_interop::peer::Peer;
use gsb_interop::router::OurRouter;
use serde::de::DeserializeOwned;
use ya_sb_proto_classic::codec::GsbMessage;
use ya_sb_proto_classic::{
    BroadcastReplyCode, BroadcastRequest, CallReplyCode, CallReplyType, Ping, RegisterReplyCode,
    RegisterRequest, SubscribeReplyCode, SubscribeRequest, UnregisterReplyCode, UnregisterRequest,
    UnsubscribeReplyCode, UnsubscribeRequest,
};

const YA_PEER: &str = env!("CARGO_BIN_EXE_ya-peer");
const OK: i32 = CallReplyCode::CallReplyOk as i32;
const FULL: i32 = CallReplyType::Full as i32;
const PARTIAL: i32 = CallReplyType::Partial as i32;

#[tokio::test]
async fn classic_peers_with_each_other() {
    let router = OurRouter::start().await;
    classic_peers(&router.url, "gsb-router").await;
}

#[tokio::test]
async fn classic_peers_with_each_other_over_tcp() {
    let router = OurRouter::start_on_tcp().await;
    classic_peers(&router.url, "gsb-router over TCP").await;
}

async fn classic_peers(url: &str, router: &str) {
    let mut service = ClassicPeer::connect(url).await;
    let mut caller = ClassicPeer::connect(url).await;
    service.register("/golem/classic").await;

    caller.call("/golem/classic/method", "id", *b"question").await;
    let call = service.receive_call().await;
    assert_eq!(call.caller, "classic-caller");
    assert_eq!(call.address, "/golem/classic/method");
    assert_eq!(call.data, b"question");
    let answers = [
        (CallReplyType::Partial, "one"),
        (CallReplyType::Partial, "two"),
        (CallReplyType::Full, "three"),
    ];
    for (kind, text) in answers {
        service.reply(&call.request_id, kind, text).await;
    }
    for (kind, text) in answers {
        let reply = caller.receive_reply("id").await;
        assert_eq!((reply.code, reply.reply_type), (OK, kind as i32));
        assert_eq!(reply.data, text.as_bytes());
    }

    caller.call("/golem/unknown", "lost", *b"question").await;
    let reply = caller.receive_reply("lost").await;
    let expected = CallReplyCode::CallReplyBadRequest as i32;
    assert_eq!((reply.code, reply.reply_type), (expected, FULL));

    caller.send(Ping {}).await;
    assert!(matches!(caller.receive().await, GsbMessage::Pong));
    let service_id = || "/golem/classic".to_owned();
    caller.send(RegisterRequest { service_id: service_id() }).await;
    match caller.receive().await {
        GsbMessage::RegisterReply(reply) => {
            assert_eq!(reply.code, RegisterReplyCode::RegisterConflict as i32);
        }
        other => panic!("instead of a RegisterReply came {other:?}"),
    }
    for code in [UnregisterReplyCode::UnregisteredOk, UnregisterReplyCode::NotRegistered] {
        service.send(UnregisterRequest { service_id: service_id() }).await;
        match service.receive().await {
            GsbMessage::UnregisterReply(reply) => assert_eq!(reply.code, code as i32),
            other => panic!("instead of an UnregisterReply came {other:?}"),
        }
    }

    caller.call("/golem/orphan", "a", *b"").await;
    caller.receive_reply("a").await;
    service.register("/golem/orphan").await;
    caller.call("/golem/orphan", "b", *b"").await;
    service.receive_call().await;
    service.took_part("classic codec: service, caller", router);
    drop(service);
    let reply = caller.receive_reply("b").await;
    let expected = CallReplyCode::ServiceFailure as i32;
    assert_eq!((reply.code, reply.reply_type), (expected, FULL));
}

#[tokio::test]
async fn a_classic_caller_of_a_packet_service() {
    let router = OurRouter::start().await;
    let mut service = Peer::start(YA_PEER, &["typed"], &router.url).await;
    service.run("bind /golem/typed", &["bound /golem/typed"]).await;
    let mut caller = ClassicPeer::connect(&router.url).await;

    let text = "żółw".to_owned();
    let body = flexbuffers::to_vec(Echo { text: text.clone() }).unwrap();
    caller.call("/golem/typed/Echo", "echo", body).await;
    let reply = caller.receive_reply("echo").await;
    assert_eq!((reply.code, reply.reply_type), (OK, FULL));
    let caller_name = "classic-caller".to_owned();
    let echoed = Echoed { text, caller: caller_name };
    assert_eq!(decoded::<Echoed>(&reply.data), Ok(echoed));

    let body = flexbuffers::to_vec(Count { numbers: 100 }).unwrap();
    caller.call("/golem/typed/Count", "count", body).await;
    for number in 0..100 {
        let reply = caller.receive_reply("count").await;
        assert_eq!((reply.code, reply.reply_type), (OK, PARTIAL));
        assert_eq!(decoded::<u32>(&reply.data), Ok(number));
    }
    let end = caller.receive_reply("count").await;
    assert_eq!((end.code, end.reply_type, &end.data[..]), (OK, FULL, &b""[..]));

    caller.took_part("classic codec: caller", "gsb-router");
    service.took_part("service of a classic caller", "gsb-router");
}

#[tokio::test]
async fn a_packet_caller_of_a_classic_service() {
    let router = OurRouter::start().await;
    let mut service = ClassicPeer::connect(&router.url).await;
    service.register("/golem/classic").await;
    let mut caller = Peer::start(YA_PEER, &["connection"], &router.url).await;

    caller.tell("call /golem/classic question").await;
    let call = service.receive_call().await;
    assert_eq!((call.caller.as_str(), &call.data[..]), ("ya-caller", &b"question"[..]));
    service.reply(&call.request_id, CallReplyType::Full, "answer").await;
    caller.expect(&["reply answer"]).await;

    caller.tell("stream /golem/classic question").await;
    let call = service.receive_call().await;
    service.reply(&call.request_id, CallReplyType::Partial, "one").await;
    service.reply(&call.request_id, CallReplyType::Partial, "two").await;
    service.reply(&call.request_id, CallReplyType::Full, "three").await;
    caller.expect(&["part one", "part two", "full three"]).await;

    // Version 0.1 does not know no_reply, so its service replies to a push, too.
    caller.run("push /golem/classic news", &["sent"]).await;
    let push = service.receive_call().await;
    assert_eq!(push.data, b"news");
    service.reply(&push.request_id, CallReplyType::Full, "thanks").await;
    caller.tell("call /golem/classic again").await;
    let call = service.receive_call().await;
    service.reply(&call.request_id, CallReplyType::Full, "still here").await;
    caller.expect(&["reply still here"]).await;

    service.took_part("classic codec: service", "gsb-router");
    caller.took_part("caller of a classic service", "gsb-router");
}

#[tokio::test]
async fn broadcasts_between_the_framings() {
    let router = OurRouter::start().await;
    let mut packet = Peer::start(YA_PEER, &["connection"], &router.url).await;
    let mut classic = ClassicPeer::connect(&router.url).await;
    let topic = || "golem/news".to_owned();
    packet.run("subscribe golem/news", &["subscribed golem/news"]).await;
    classic.send(SubscribeRequest { topic: topic() }).await;
    match classic.receive().await {
        GsbMessage::SubscribeReply(reply) => {
            assert_eq!(reply.code, SubscribeReplyCode::SubscribedOk as i32);
        }
        other => panic!("instead of a SubscribeReply came {other:?}"),
    }

    packet.tell("broadcast golem/news from packet").await;
    let event = "event ya-caller golem/news from packet";
    packet.expect_in_any_order(&["broadcast golem/news", event]).await;
    match classic.receive().await {
        GsbMessage::BroadcastRequest(event) => {
            assert_eq!((event.caller.as_str(), event.topic), ("ya-caller", topic()));
            assert_eq!(event.data, b"from packet");
        }
        other => panic!("instead of a broadcast came {other:?}"),
    }

    classic.send(UnsubscribeRequest { topic: topic() }).await;
    match classic.receive().await {
        GsbMessage::UnsubscribeReply(reply) => {
            assert_eq!(reply.code, UnsubscribeReplyCode::UnsubscribedOk as i32);
        }
        other => panic!("instead of an UnsubscribeReply came {other:?}"),
    }
    let caller = "classic-caller".to_owned();
    let data = b"from classic".to_vec();
    classic.send(BroadcastRequest { caller, data, topic: topic() }).await;
    match classic.receive().await {
        GsbMessage::BroadcastReply(reply) => {
            assert_eq!(reply.code, BroadcastReplyCode::BroadcastOk as i32);
        }
        other => panic!("instead of a BroadcastReply came {other:?}"),
    }
    packet.expect(&["event classic-caller golem/news from classic"]).await;

    classic.took_part("classic codec: subscriber, broadcaster", "gsb-router");
    packet.took_part("subscriber, broadcaster", "gsb-router");
}

fn decoded<T: DeserializeOwned>(reply: &[u8]) -> Result<T, Refusal> {
    flexbuffers::from_slice(reply).expect("the service answers with an encoded Result")
}
