//! A connection that loses bytes in one or both directions, as after a cable was pulled, is closed after twice the ping
//! timeout, and its callers are answered. Rules CO-7 to CO-9.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use gsb_proto::messages::*;
use gsb_proto::{Address, Frame, Framing, MessageKind};
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// The direction whose bytes a proxy drops after it was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    ToRouter,
    FromRouter,
    Both,
}

/// A proxy between a peer and the router that drops bytes silently.
struct Proxy {
    address: Address,
    is_cut: watch::Sender<bool>,
}

impl Proxy {
    async fn start(router: &Address, lost: Lost) -> Self {
        let Address::Tcp { host, port } = router.clone() else { panic!("a port") };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let (is_cut, cut) = watch::channel(false);
        tokio::spawn(async move {
            let (peer, _) = listener.accept().await.unwrap();
            let router = TcpStream::connect((host, port)).await.unwrap();
            let (from_peer, to_peer) = peer.into_split();
            let (from_router, to_router) = router.into_split();
            tokio::spawn(pass(from_peer, to_router, cut.clone(), lost != Lost::FromRouter));
            tokio::spawn(pass(from_router, to_peer, cut, lost != Lost::ToRouter));
        });
        let address = Address::Tcp { host: local.ip().to_string(), port: local.port() };
        Proxy { address, is_cut }
    }
}

/// Forwards bytes until it is cut. Then it drops them, and the end of the connection, if they go in a lost direction.
async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    cut: watch::Receiver<bool>,
    is_lost: bool,
) {
    let mut bytes = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let is_swallowed = is_lost && *cut.borrow();
        if !is_swallowed && to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    // Stays open, since the end of the other side is lost, too.
    std::future::pending::<()>().await;
}

/// The next frame that is not a Ping. Pings are answered.
async fn next_but_pings(peer: &mut Peer) -> Frame {
    loop {
        let frame = peer.next().await.expect("an open connection");
        if frame.kind != MessageKind::Ping {
            return frame;
        }
        peer.send(Pong {}).await;
    }
}

async fn service_and_caller_behind(lost: Lost) {
    let seconds = PING_TIMEOUT.as_secs().to_string();
    let arguments = ["--ping-timeout", &seconds, "--drain-timeout", "1h"];
    let router = RouterProcess::isolated(ROUTER, arguments).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    let mut near = Peer::connect(router.unix(), Framing::Packet).await;
    assert_eq!(near.register("/near").await, 0);
    background_calls.call().await;
    let start = router.usage();

    let proxy = Proxy::start(router.tcp(), lost).await;
    let mut far = Peer::connect(&proxy.address, Framing::Packet).await;
    assert_eq!(far.register("/far").await, 0);
    far.call("/near", "far", "").await;
    let of_far: CallRequest = near.expect().await;
    near.call("/far", "near", "").await;
    let CallRequest { .. } = far.expect().await;
    proxy.is_cut.send(true).unwrap();
    let cut = Instant::now();
    // The far peer answers everything that it receives.
    let far = tokio::spawn(async move {
        while let Some(frame) = far.next().await {
            if frame.kind == MessageKind::Ping {
                far.send(Pong {}).await;
            }
        }
    });
    let answer = background_calls.during(next_but_pings(&mut near)).await;
    let reply: CallReply = answer.decode().unwrap();
    let took = cut.elapsed();
    println!("{lost:?} lost: the caller was answered after {took:?}");
    assert_eq!((reply.request_id.as_str(), reply.code), ("near", 500));
    assert_eq!(reply.reason(), CallReplyReason::ReasonServiceGone);
    // The last byte arrived before the cut, by the time of one exchange.
    assert!(took + Duration::from_millis(500) >= 2 * PING_TIMEOUT, "{took:?}");
    // The call has ended.
    near.reply(&of_far.request_id, "late").await;
    near.send(Ping {}).await;
    assert_eq!(next_but_pings(&mut near).await.kind, MessageKind::Pong);
    let heir = Peer::connect(router.unix(), Framing::Packet).await.register("/far").await;
    assert_eq!(heir, 0, "the name is free");
    router.wait_for_usage(start, 4 << 20).await;
    far.abort();
    router.stop().await;
}

#[tokio::test]
async fn closed_when_bytes_to_the_router_are_lost() {
    service_and_caller_behind(Lost::ToRouter).await;
}

#[tokio::test]
async fn closed_when_bytes_from_the_router_are_lost() {
    service_and_caller_behind(Lost::FromRouter).await;
}

#[tokio::test]
async fn closed_when_all_bytes_are_lost() {
    service_and_caller_behind(Lost::Both).await;
}
