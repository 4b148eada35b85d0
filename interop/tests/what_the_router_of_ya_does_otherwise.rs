//! Where `ya-sb-router` differs from our contract, so that our client must not rely on it. These tests fail if a later
//! version does not differ any more.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::{SinkExt as _, StreamExt as _};
use gsb_interop::router::YaRouter;
use gsb_interop::within;
use gsb_proto::codec::FrameCodec;
use gsb_proto::framing::DEFAULT_MAX_FRAME;
use gsb_proto::messages::{
    CallReply, CallReplyCode, CallRequest, Hello, Message, Ping, RegisterReply, RegisterReplyCode,
    RegisterRequest, SubscribeReply, SubscribeReplyCode, SubscribeRequest,
};
use gsb_proto::{Frame, Framing};
use tokio::net::UnixStream;
use tokio_util::codec::Framed;

const YA_ROUTER: &str = env!("CARGO_BIN_EXE_ya-router");

struct Raw(Framed<UnixStream, FrameCodec>);

impl Raw {
    /// Connects and exchanges Hellos.
    async fn connect(router: &YaRouter) -> Raw {
        let mut raw = Raw::connect_silently(router).await;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let instance_id = u128::from(number).to_be_bytes().to_vec().into();
        raw.send(Hello { instance_id, ..Hello::default() }).await;
        raw
    }

    /// Connects, and reads the Hello that the router sends unasked.
    async fn connect_silently(router: &YaRouter) -> Raw {
        let path = router.url.strip_prefix("unix:").unwrap();
        let socket = UnixStream::connect(path).await.unwrap();
        let codec = FrameCodec::new(Framing::Packet, DEFAULT_MAX_FRAME);
        let mut raw = Raw(Framed::new(socket, codec));
        let hello: Hello = raw.receive().await;
        assert_eq!(hello.name, router.process.name);
        assert_eq!(hello.instance_id.len(), 16);
        raw
    }

    async fn send(&mut self, message: impl Message) {
        self.0.send(message.to_frame()).await.unwrap();
    }

    async fn frame(&mut self) -> Frame {
        let frame = within("a frame of ya-sb-router", self.0.next()).await;
        frame.expect("ya-sb-router keeps the connection").unwrap()
    }

    async fn receive<M: Message>(&mut self) -> M {
        self.frame().await.decode().unwrap()
    }

    async fn register(&mut self, service_id: &str) -> RegisterReply {
        let service_id = service_id.to_owned();
        self.send(RegisterRequest { service_id, ..Default::default() }).await;
        self.receive().await
    }

    async fn call(&mut self, address: &str, request_id: &str) {
        self.send(CallRequest {
            address: address.to_owned(),
            request_id: request_id.to_owned(),
            ..CallRequest::default()
        })
        .await;
    }
}

#[tokio::test]
async fn a_ping_is_answered_with_a_ping() {
    let router = YaRouter::start(YA_ROUTER).await;
    let mut peer = Raw::connect(&router).await;
    peer.send(Ping {}).await;
    let Ping {} = peer.receive().await;
    router.process.took_part("router", "gsb-proto");
}

#[tokio::test]
async fn refusals_are_silent() {
    let router = YaRouter::start(YA_ROUTER).await;
    let mut peer = Raw::connect(&router).await;
    assert_eq!(peer.register("/a").await, RegisterReply::default());
    let conflict = peer.register("/a").await;
    assert_eq!(conflict.code(), RegisterReplyCode::RegisterConflict);
    assert_eq!(conflict.message, "", "no sentence");
    assert_eq!(peer.register("").await, RegisterReply::default(), "any name is taken");

    for _ in 0..2 {
        let topic = "a".to_owned();
        peer.send(SubscribeRequest { topic }).await;
        let reply: SubscribeReply = peer.receive().await;
        assert_eq!(reply.code(), SubscribeReplyCode::SubscribedOk, "also twice");
    }
    router.process.took_part("router", "gsb-proto");
}

#[tokio::test]
async fn equal_request_ids_of_two_callers_are_confused() {
    let router = YaRouter::start(YA_ROUTER).await;
    let mut service = Raw::connect(&router).await;
    let mut first = Raw::connect(&router).await;
    let mut second = Raw::connect(&router).await;
    service.register("/a").await;
    first.call("/a", "1").await;
    let _: CallRequest = service.receive().await;
    second.call("/a", "1").await;
    let _: CallRequest = service.receive().await;
    let request_id = "1".to_owned();
    service.send(CallReply { request_id, ..CallReply::default() }).await;
    let reply: CallReply = second.receive().await;
    assert_eq!(reply.request_id, "1", "the answer to the first caller's call");
    router.process.took_part("router", "gsb-proto");
}

#[tokio::test]
async fn callers_of_a_service_that_goes_are_left_waiting() {
    let router = YaRouter::start(YA_ROUTER).await;
    let mut service = Raw::connect(&router).await;
    let mut caller = Raw::connect(&router).await;
    service.register("/a").await;
    caller.call("/a", "1").await;
    let _: CallRequest = service.receive().await;
    drop(service);
    let mut heir = Raw::connect(&router).await;
    within("the name of a service that has gone", async {
        while heir.register("/a").await.code() != RegisterReplyCode::RegisteredOk {}
    })
    .await;
    // A failure would come before the answer to this request.
    caller.send(Ping {}).await;
    let Ping {} = caller.receive().await;
    router.process.took_part("router", "gsb-proto");
}

#[tokio::test]
async fn services_without_a_hello_stay_when_their_connection_goes() {
    let router = YaRouter::start(YA_ROUTER).await;
    let mut service = Raw::connect_silently(&router).await;
    let mut caller = Raw::connect(&router).await;
    service.register("/a").await;
    drop(service);
    within("the failure of a call to a connection that has gone", async {
        for number in 0.. {
            caller.call("/a", &number.to_string()).await;
            caller.send(Ping {}).await;
            let frame = caller.frame().await;
            // Before the connection has ended, the call waits and the answer to the Ping comes first.
            if let Ok(reply) = frame.decode::<CallReply>() {
                assert_eq!(reply.code(), CallReplyCode::ServiceFailure);
                break;
            }
        }
    })
    .await;
    let Ping {} = caller.receive().await;
    let conflict = caller.register("/a").await;
    assert_eq!(conflict.code(), RegisterReplyCode::RegisterConflict);
    router.process.took_part("router", "gsb-proto");
}
