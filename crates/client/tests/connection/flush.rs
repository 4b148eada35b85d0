//! Pushes are sent before the process ends.

use std::sync::mpsc as blocking;
use std::thread;

use bytes::Bytes;
use futures::poll;
use gsb_client::{Bus, Call, Connection, Error, Status};
use gsb_proto::messages::{CallRequest, Ping, Pong};
use gsb_testkit::{FakeRouter, TestRouter, within};
use tokio::sync::mpsc;

const PUSHES: usize = 2000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[tokio::test]
async fn flush_waits_until_the_router_has_handled_all_before() {
    let router = FakeRouter::start().await;
    let connecting = Bus::builder().reconnect(None).connect(&router.address);
    let (bus, mut peer) = tokio::join!(connecting, router.accept());
    let bus = bus.unwrap();
    // A flush that is not awaited does nothing.
    peer.send(Pong {}).await;
    peer.expect_nothing().await;
    bus.push("/s", "first").await.unwrap();
    let mut first = Box::pin(bus.flush());
    assert!(poll!(&mut first).is_pending());
    bus.push("/s", "second").await.unwrap();
    let mut second = Box::pin(bus.flush());
    assert!(poll!(&mut second).is_pending());
    for data in ["first", "second"] {
        assert_eq!(peer.expect::<CallRequest>().await.data, data);
        let Ping {} = peer.expect().await;
    }
    assert!(poll!(&mut first).is_pending());
    peer.send(Pong {}).await;
    within("the first", first).await.unwrap();
    assert!(poll!(&mut second).is_pending());
    drop(peer);
    let error = within("the second", second).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionLost(_)), "{error}");
    within("the end", bus.closed()).await.unwrap_err();
    let error = bus.flush().await.unwrap_err();
    assert!(matches!(error, Error::NotSent(_)), "{error}");
}

#[tokio::test]
async fn pushes_that_were_lost_with_a_connection_are_told() {
    let router = FakeRouter::start().await;
    let (bus, peer) = tokio::join!(Bus::connect(&router.address), router.accept());
    let (bus, mut peer) = (bus.unwrap(), peer);
    bus.push("/s", "flushed").await.unwrap();
    let mut flush = Box::pin(bus.flush());
    assert!(poll!(&mut flush).is_pending());
    peer.expect::<CallRequest>().await;
    let Ping {} = peer.expect().await;
    peer.send(Pong {}).await;
    within("the flush", flush).await.unwrap();
    for pushes in [0, 1] {
        for _ in 0..pushes {
            bus.push("/s", "lost").await.unwrap();
        }
        drop(peer);
        peer = within("another connection", router.accept()).await;
        let mut watch = bus.watch();
        let is_connected = |status: &Status| matches!(status.connection, Connection::Connected(_));
        within("the bus", watch.wait_for(is_connected)).await.unwrap();
        if pushes > 0 {
            let error = bus.flush().await.unwrap_err();
            assert!(matches!(error, Error::ConnectionLost(_)), "{error}");
        }
        // The error is reported once. Flushed pushes are not lost.
        let mut flush = Box::pin(bus.flush());
        assert!(poll!(&mut flush).is_pending());
        let Ping {} = peer.expect().await;
        peer.send(Pong {}).await;
        within("the flush", flush).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_router_there_is_nothing_to_flush() {
    let bus = Bus::local();
    bus.flush().await.unwrap();
    bus.clone().close().await;
    assert!(matches!(bus.flush().await, Err(Error::ShutDown)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pushes_arrive_that_were_flushed() {
    let router = TestRouter::start().await;
    for address in [&router.unix, &router.tcp] {
        let service = Bus::connect(&router.unix).await.unwrap();
        let (came, mut pushes) = mpsc::unbounded_channel();
        let note = move |call: Call| {
            let came = came.clone();
            async move { came.send(call.data.len()).unwrap() }
        };
        let _service = service.register_push("/s", note).await.unwrap();
        let address = address.clone();
        let program = thread::spawn(move || {
            runtime().block_on(async {
                let bus = Bus::connect(&address).await.unwrap();
                for length in 0..PUSHES {
                    bus.push("/s", Bytes::from(vec![0; length])).await.unwrap();
                }
                bus.flush().await.unwrap();
                // For the bus this is the same as the end of the process.
                std::mem::forget(bus);
            });
        });
        for length in 0..PUSHES {
            assert_eq!(within("a push", pushes.recv()).await, Some(length));
        }
        program.join().unwrap();
    }
    router.stop().await;
}

/// Pushes more than a socket takes, and ends the runtime at once. The router reads only then.
async fn the_runtime_ends(drops_the_bus: bool) {
    let router = FakeRouter::start().await;
    let address = router.address.clone();
    let (pushed, has_pushed) = blocking::channel();
    let program = thread::spawn(move || {
        let runtime = runtime();
        let bus = runtime.block_on(async {
            let bus = Bus::builder().outbox_limit(64 << 20).connect(&address).await.unwrap();
            for _ in 0..PUSHES {
                bus.push("/s", Bytes::from(vec![0; 10_000])).await.unwrap();
            }
            bus
        });
        pushed.send(()).unwrap();
        if drops_the_bus {
            drop(bus);
            drop(runtime);
        } else {
            drop(runtime);
            drop(bus);
        }
    });
    let mut peer = router.accept().await;
    has_pushed.recv().unwrap();
    for _ in 0..PUSHES {
        assert_eq!(peer.expect::<CallRequest>().await.data.len(), 10_000);
    }
    assert!(peer.next().await.is_none());
    program.join().unwrap();
}

#[tokio::test]
async fn queued_frames_are_written_when_the_runtime_ends() {
    the_runtime_ends(false).await;
}

#[tokio::test]
async fn queued_frames_are_written_when_the_last_handle_is_dropped_at_the_end() {
    the_runtime_ends(true).await;
}
