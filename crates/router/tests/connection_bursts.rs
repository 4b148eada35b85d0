//! Thousands of clients that connect at the same time, as after a restart, are all accepted. This test takes all
//! descriptors of its process, so it has a process of its own.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use bytes::BytesMut;
use gsb_client::Bus;
use gsb_proto::messages::{Message as _, Ping};
use gsb_proto::{Address, Framing};
use gsb_testkit::{RouterProcess, TIMEOUT, raise_descriptor_limit, within};
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// Peers that connect at the same time.
const PEERS: usize = 4_000;

/// Clients that connect while the backlog of the socket is full.
const LATE_CLIENTS: usize = 100;

/// The largest backlog that the system allows.
fn system_backlog() -> usize {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn four_thousand_peers_connect_at_once() {
    raise_descriptor_limit();
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(1_000);
    let peers = PEERS.min(most).min(system_backlog());
    let router = RouterProcess::isolated(ROUTER, [""; 0]).await;
    let Address::Unix(path) = router.unix() else { panic!("not a Unix socket") };

    // A stopped router accepts nothing, so all connections must fit in the backlog.
    router.process.signal("STOP").await;
    let address = SockAddr::unix(path).unwrap();
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&address).map(|()| socket)
    };
    let mut sockets: Vec<Socket> = (0..peers).map(|_| connect().unwrap()).collect();
    // The rest of the backlog is filled, and clients wait for room in it.
    let crowd: Vec<Socket> = (0..most - peers).map_while(|_| connect().ok()).collect();
    if most - peers > crowd.len() {
        assert_eq!(connect().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    let connect_client = || {
        let connecting = Bus::builder().connect_timeout(TIMEOUT).connect(router.unix().clone());
        tokio::spawn(connecting)
    };
    let clients: Vec<_> = (0..LATE_CLIENTS).map(|_| connect_client()).collect();
    tokio::task::yield_now().await;
    router.process.signal("CONT").await;

    for client in clients {
        within("a connection", client).await.unwrap().unwrap();
    }
    drop(crowd);
    let mut ping = BytesMut::new();
    assert!(Ping {}.to_frame().encode(Framing::Packet, &mut ping));
    within(
        "an answer to each",
        tokio::task::spawn_blocking(move || {
            for socket in &mut sockets {
                socket.write_all(&ping).unwrap();
            }
            for socket in sockets {
                socket.set_nonblocking(false).unwrap();
                assert_ne!(UnixStream::from(socket).read(&mut [0; 100]).unwrap(), 0);
            }
        }),
    )
    .await
    .unwrap();
}
