//! Memory grows with received bytes and not with announced bytes, and a peer with another protocol disturbs no other
//! peer. Rules CO-12 to CO-14, FR-4.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use bytes::BytesMut;
use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess, raise_descriptor_limit};

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// Connections at the same time.
const CROWD: u64 = 1000;

/// The memory of a connection with the smallest buffer, in bytes.
const EACH: u64 = 16 << 10;

async fn start() -> (RouterProcess, BackgroundCalls) {
    raise_descriptor_limit();
    let router = RouterProcess::isolated(ROUTER, [""; 0]).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    background_calls.call().await;
    (router, background_calls)
}

/// Makes many connections, half of them on each kind of socket, and sends the same bytes on all.
async fn crowd(router: &RouterProcess, framing: Framing, bytes: &[u8]) -> Vec<Peer> {
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let address = &router.addresses[(number % 2) as usize];
        let mut peer = Peer::silent(address, framing).await;
        peer.send_bytes(bytes).await;
        crowd.push(peer);
    }
    crowd
}

/// A Ping, which determines the framing.
fn ping(framing: Framing) -> BytesMut {
    let mut bytes = BytesMut::new();
    assert!(Ping {}.to_frame().encode(framing, &mut bytes));
    bytes
}

#[tokio::test]
async fn a_frame_above_the_limit_is_a_violation() {
    let (router, mut background_calls) = start().await;
    let start = router.usage();
    for framing in [Framing::Packet, Framing::Classic] {
        let mut bytes = ping(framing);
        match framing {
            Framing::Packet => bytes.extend([0xff; 4]),
            Framing::Classic => bytes.extend([0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]),
        }
        let closed = async {
            for mut peer in crowd(&router, framing, &bytes).await {
                peer.expect_close().await;
            }
        };
        background_calls.during(closed).await;
    }
    println!("{CROWD} connections that announce 4 GiB, in either framing:");
    router.assert_memory_within(start, CROWD * EACH);
    router.wait_for_usage(start, CROWD * EACH).await;
}

#[tokio::test]
async fn announced_bytes_take_no_memory() {
    let (router, mut background_calls) = start().await;
    let start = router.usage();
    for framing in [Framing::Packet, Framing::Classic] {
        let mut bytes = ping(framing);
        match framing {
            Framing::Packet => bytes.extend([1, 0, 0, 0, 0x32]),
            Framing::Classic => bytes.extend([0, 0, 0, 4, 1, 0, 0, 0, 0x12]),
        }
        let announced = async {
            let mut peers = crowd(&router, framing, &bytes).await;
            // All are still connected, and the router has read their bytes.
            for peer in &mut peers {
                if framing == Framing::Packet {
                    let Hello { .. } = peer.expect().await;
                }
                let Pong {} = peer.expect().await;
            }
            peers
        };
        let peers = background_calls.during(announced).await;
        println!("{CROWD} connections that announce 16 MiB and send a byte of it:");
        router.assert_memory_within(start, CROWD * EACH);
        drop(peers);
        router.wait_for_usage(start, CROWD * EACH).await;
    }
}

// The counters: protocol/violations.rs.
#[tokio::test]
async fn other_protocols_are_closed() {
    let (router, mut background_calls) = start().await;
    let start = router.usage();
    let mut client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    client_hello.resize(517, 0x5a);
    for bytes in [&client_hello[..], b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let closed = async {
            for mut peer in crowd(&router, Framing::Classic, bytes).await {
                peer.expect_close().await;
            }
        };
        background_calls.during(closed).await;
    }
    println!("{CROWD} connections with a TLS ClientHello, and as many with an HTTP request:");
    router.assert_memory_within(start, CROWD * EACH);
    router.wait_for_usage(start, CROWD * EACH).await;
}

#[tokio::test]
async fn a_peer_that_writes_byte_by_byte_is_served() {
    let (router, mut background_calls) = start().await;
    let start = router.usage();
    let writers = async {
        let mut writers = Vec::new();
        for number in 0..20 {
            let address = router.addresses[number % 2].clone();
            let framing = if number % 4 < 2 { Framing::Packet } else { Framing::Classic };
            writers.push(tokio::spawn(async move {
                let mut peer = Peer::silent(&address, framing).await;
                let service_id = format!("/slow/{number}");
                let mut bytes = BytesMut::new();
                assert!(
                    RegisterRequest { service_id, ..Default::default() }
                        .to_frame()
                        .encode(framing, &mut bytes)
                );
                for byte in bytes {
                    peer.send_bytes(&[byte]).await;
                    // Lets the other peers and the router run.
                    tokio::task::yield_now().await;
                }
                if framing == Framing::Packet {
                    let Hello { .. } = peer.expect().await;
                }
                assert_eq!(peer.expect::<RegisterReply>().await.code, 0);
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
    };
    background_calls.during(writers).await;
    router.assert_memory_within(start, 0);
}

// Rule CO-10.
#[tokio::test]
async fn a_peer_that_sends_nothing_is_closed() {
    raise_descriptor_limit();
    let router = RouterProcess::isolated(ROUTER, ["--ping-timeout", "1s"]).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    background_calls.call().await;
    let start = router.usage();
    let closed = async {
        for mut peer in crowd(&router, Framing::Packet, b"").await {
            assert!(peer.next().await.is_none(), "the router sends nothing to a silent peer");
        }
    };
    background_calls.during(closed).await;
    println!("{CROWD} connections that send nothing:");
    router.assert_memory_within(start, CROWD * EACH);
    router.wait_for_usage(start, CROWD * EACH).await;
}
