//! How a router stops: what it removes and closes, and what happens to open calls.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_router::{Router, RouterConfig};
use gsb_testkit::{Peer, within};
use tempfile::TempDir;
use tokio::net::TcpStream;

async fn bind(workers: usize) -> (TempDir, PathBuf, Router) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gsb.sock");
    let listen = vec![Address::Unix(path.clone())];
    let workers = NonZeroUsize::new(workers);
    let router = Router::bind(RouterConfig { listen, workers, ..Default::default() });
    (directory, path, router.await.unwrap())
}

/// Waits until another router can listen in the place of one that was dropped, and leaves no file.
async fn assert_can_be_replaced(directory: &TempDir, path: &Path) {
    let listen = vec![Address::Unix(path.to_owned())];
    let config = RouterConfig { listen, ..Default::default() };
    let next = within("the next router", async {
        loop {
            match Router::bind(config.clone()).await {
                Ok(router) => return router,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let next = next.await;
    next.shutdown_handle().shutdown();
    next.run().await;
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_router_that_was_shut_down_leaves_nothing() {
    for workers in [0, 1, 2] {
        let (directory, path, router) = bind(workers).await;
        let (handle, status) = (router.shutdown_handle(), router.status());
        let running = tokio::spawn(router.run());
        let address = Address::Unix(path);
        let mut peer = Peer::connect(&address, Framing::Packet).await;
        assert_eq!(peer.register("/a").await, 0);
        handle.shutdown();
        within("the end of the router", running).await.unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(status.usage(), Default::default());
        peer.expect_close().await;
        // A second shutdown has no effect.
        handle.shutdown();
    }
}

#[tokio::test]
async fn a_router_whose_future_was_dropped_leaves_nothing() {
    for workers in [0, 1] {
        let (directory, path, router) = bind(workers).await;
        let running = tokio::spawn(router.run());
        let address = Address::Unix(path.clone());
        let mut peer = Peer::connect(&address, Framing::Packet).await;
        running.abort();
        within("the end of the router", running).await.unwrap_err();
        peer.expect_close().await;
        assert_can_be_replaced(&directory, &path).await;
    }
}

#[tokio::test]
async fn a_router_that_never_ran_leaves_nothing() {
    let (directory, path, router) = bind(1).await;
    drop(router);
    assert_can_be_replaced(&directory, &path).await;
}

#[tokio::test]
async fn a_router_that_can_listen_on_some_addresses_only() {
    let directory = tempfile::tempdir().unwrap();
    let listen = ["gsb.sock", "no/such/directory/gsb.sock"];
    let listen = listen.map(|path| Address::Unix(directory.path().join(path))).to_vec();
    Router::bind(RouterConfig { listen, ..Default::default() }).await.unwrap_err();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_in_process_router_that_was_dropped_leaves_nothing() {
    let router = Router::in_process().await.unwrap();
    let mut peer = Peer::connect(router.address(), Framing::Packet).await;
    drop(router);
    peer.expect_close().await;
}

#[tokio::test]
async fn an_in_process_router_that_was_shut_down_leaves_nothing() {
    let router = Router::in_process().await.unwrap();
    let mut service = Peer::connect(router.address(), Framing::Packet).await;
    service.register("/s").await;
    let mut caller = Peer::connect(router.address(), Framing::Packet).await;
    caller.call("/s", "open", "").await;
    let CallRequest { .. } = service.expect().await;
    let Address::Tcp { host, port } = router.address().clone() else { panic!("not on TCP") };
    let end = async {
        within("the end of the listener", async {
            while TcpStream::connect((host.as_str(), port)).await.is_ok() {}
        })
        .await;
        service.reply("open", "end").await;
        assert_eq!(caller.expect::<CallReply>().await.data, "end");
        caller.expect_close().await;
    };
    let ((), ()) = tokio::join!(router.stop(), end);
}

// Peers that connect while it stops are served or refused, and their connections end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_made_during_a_shutdown_end() {
    for _ in 0..30 {
        let (_directory, path, router) = bind(0).await;
        let (handle, status) = (router.shutdown_handle(), router.status());
        let running = tokio::spawn(router.run());
        let crowd = tokio::spawn(async move {
            let mut crowd = Vec::new();
            while let Ok(stream) = tokio::net::UnixStream::connect(&path).await {
                crowd.push(stream);
            }
            crowd
        });
        within("some of the crowd", async {
            while status.usage().connections < 5 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        handle.shutdown();
        within("the end of the router", running).await.unwrap();
        assert_eq!(status.usage(), Default::default());
        within("the end of the crowd", crowd).await.unwrap();
    }
}

// Queued messages are delivered before a shutdown ends.
#[tokio::test]
async fn queued_messages_are_delivered() {
    let (_directory, path, router) = bind(1).await;
    let handle = router.shutdown_handle();
    let running = tokio::spawn(router.run());
    let address = Address::Unix(path);
    let mut service = Peer::connect(&address, Framing::Packet).await;
    service.register("/a").await;
    let mut caller = Peer::connect(&address, Framing::Packet).await;
    let data = "x".repeat(1 << 20);
    for id in 0..10 {
        caller.call("/a", &id.to_string(), &data).await;
    }
    // The calls are routed, and exceed the socket buffer.
    caller.expect_nothing().await;
    handle.shutdown();
    for _ in 0..10 {
        let call: CallRequest = service.expect().await;
        assert_eq!(call.data.len(), data.len());
    }
    service.expect_close().await;
    within("the end of the router", running).await.unwrap();
}

// Rule CO-17: open calls may end, and new calls are refused.
#[tokio::test]
async fn open_calls_may_end() {
    let (_directory, path, router) = bind(1).await;
    let handle = router.shutdown_handle();
    let running = tokio::spawn(router.run());
    let address = Address::Unix(path.clone());
    let mut service = Peer::connect(&address, Framing::Packet).await;
    service.register("/s").await;
    let mut caller = Peer::connect(&address, Framing::Classic).await;
    caller.call("/s", "open", "").await;
    let CallRequest { .. } = service.expect().await;
    handle.shutdown();
    within("the end of the listener", async {
        while path.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    caller.call("/s", "new", "").await;
    let refused: CallReply = caller.expect().await;
    assert_eq!((refused.request_id.as_str(), refused.code), ("new", 400));
    service.part("open", "on").await;
    service.reply("open", "end").await;
    let part: CallReply = caller.expect().await;
    let end: CallReply = caller.expect().await;
    assert_eq!((&part.data[..], &end.data[..]), (&b"on"[..], &b"end"[..]));
    caller.expect_close().await;
    within("the end of the router", running).await.unwrap();
}

// Rule CO-17: a call that takes longer ends with the router.
#[tokio::test]
async fn calls_end_after_the_drain_timeout() {
    let directory = tempfile::tempdir().unwrap();
    let address = Address::Unix(directory.path().join("gsb.sock"));
    let config = RouterConfig {
        listen: vec![address.clone()],
        drain_timeout: Duration::from_millis(200),
        ..Default::default()
    };
    let router = Router::bind(config).await.unwrap();
    let handle = router.shutdown_handle();
    let running = tokio::spawn(router.run());
    let mut service = Peer::connect(&address, Framing::Packet).await;
    service.register("/s").await;
    let mut caller = Peer::connect(&address, Framing::Packet).await;
    for id in 0..1000 {
        caller.call("/s", &id.to_string(), "").await;
        let CallRequest { .. } = service.expect().await;
    }
    handle.shutdown();
    for id in 0..1000 {
        let end: CallReply = caller.expect().await;
        assert_eq!((end.request_id, end.code), (id.to_string(), 500));
    }
    caller.expect_close().await;
    within("the end of the router", running).await.unwrap();
}

// Rules CO-20, CO-17: a peer of level 1 is told, and its handler may still call others.
#[tokio::test]
async fn peers_are_told_that_the_router_stops() {
    let (_directory, path, router) = bind(1).await;
    let handle = router.shutdown_handle();
    let running = tokio::spawn(router.run());
    let address = Address::Unix(path);
    let mut front = Peer::silent(&address, Framing::Packet).await;
    front.send(Hello { level: 1, ..Default::default() }).await;
    let Hello { .. } = front.expect().await;
    front.register("/front").await;
    let mut back = Peer::connect(&address, Framing::Classic).await;
    back.register("/back").await;
    let mut caller = Peer::connect(&address, Framing::Packet).await;
    caller.call("/front", "1", "").await;
    let CallRequest { .. } = front.expect().await;
    handle.shutdown();
    let go_away: GoAway = front.expect().await;
    assert_eq!((go_away.retry_after_ms, go_away.reason.is_empty()), (1000, false));
    caller.call("/back", "2", "").await;
    let refused: CallReply = caller.expect().await;
    assert_eq!((refused.code, refused.reason()), (400, CallReplyReason::ReasonRouterStops));
    front.call("/back", "3", "").await;
    let CallRequest { .. } = back.expect().await;
    back.reply("3", "to front").await;
    assert_eq!(front.expect::<CallReply>().await.data, "to front");
    front.reply("1", "to caller").await;
    assert_eq!(caller.expect::<CallReply>().await.data, "to caller");
    // Rule CO-20: all calls that it has accepted are answered.
    let last: GoAway = front.expect().await;
    assert!(last.last && !go_away.last);
    for mut peer in [front, back, caller] {
        peer.expect_close().await;
    }
    within("the end of the router", running).await.unwrap();
}
