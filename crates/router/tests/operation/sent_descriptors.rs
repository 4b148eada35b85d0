//! Descriptors that a peer sends (SCM_RIGHTS) do not delay other peers, although closing them takes long.

#![allow(clippy::unwrap_used)]

use std::io;
use std::os::unix::net::UnixStream;

use bytes::BytesMut;
use gsb_client::{Bus, Connection, Status};
use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{Peer, RouterPlace, RouterProcess, send_descriptor, slow_to_close, within};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::runtime::Builder;

fn bytes_of(message: &impl Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    assert!(message.to_frame().encode(Framing::Packet, &mut bytes));
    bytes
}

/// Linux refuses the descriptors at the sender since version 6.16. Older versions deliver them.
fn is_sent_or_refused(result: io::Result<()>) {
    if let Err(error) = result {
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    }
}

#[tokio::test]
async fn a_router_with_a_peer_that_sends_descriptors_serves_others() {
    let router = RouterProcess::isolated(env!("CARGO_BIN_EXE_router"), [""; 0]).await;
    let mut service = Peer::connect(router.unix(), Framing::Packet).await;
    let mut caller = Peer::connect(router.tcp(), Framing::Classic).await;
    assert_eq!(service.register("/s").await, 0);

    let Address::Unix(path) = router.unix() else { panic!("not a Unix socket") };
    let mut hostile = Vec::new();
    let ping = bytes_of(&Ping {});
    for _ in 0..3 {
        // The router reads it, or closes the connection before.
        let socket = UnixStream::connect(path).unwrap();
        let (slow, peer) = slow_to_close();
        is_sent_or_refused(send_descriptor(&socket, &ping, slow));
        let (slow, other_peer) = slow_to_close();
        if let Err(error) = send_descriptor(&socket, &ping, slow) {
            // The router may have closed it by now.
            assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        }
        hostile.push((socket, peer, other_peer));
    }
    for number in 0..20 {
        caller.call("/s", &number.to_string(), "x").await;
        let call: CallRequest = service.expect().await;
        service.reply(&call.request_id, "y").await;
        assert_eq!(caller.expect::<CallReply>().await.data, "y");
    }
    // It handles SIGTERM, too.
    router.stop().await;
    drop(hostile);
}

#[tokio::test]
async fn a_client_whose_router_sends_descriptors_notices_its_end() {
    let place = RouterPlace::empty();
    let Address::Unix(path) = &place.unix else { panic!("not a Unix socket") };
    let listener = UnixListener::bind(path).unwrap();
    // The client has its own runtime, so that the timers of this one run even if that one is blocked. It is leaked,
    // because dropping it would block.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = Box::leak(Box::new(runtime));
    let connecting = runtime.spawn(Bus::connect(place.unix.clone()));
    let (mut router, _) = within("the client", listener.accept()).await.unwrap();
    router.write_all(&bytes_of(&Hello::default())).await.unwrap();
    let bus = within("a connection", connecting).await.unwrap().unwrap();

    let (slow, peer) = slow_to_close();
    is_sent_or_refused(send_descriptor(&router, &bytes_of(&Ping {}), slow));
    // The only worker thread is not blocked, and notices the end of the connection.
    drop(router);
    drop(listener);
    let mut status = bus.watch();
    let is_lost = |status: &Status| !matches!(status.connection, Connection::Connected(_));
    within("the end of the connection", status.wait_for(is_lost)).await.unwrap();
    drop(peer);
}
