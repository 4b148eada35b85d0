//! Destructors do no I/O. The connection's task writes what they have queued.

use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use gsb_net::Stream;
use gsb_proto::messages::{CallRequest, Message as _, RegisterReply};
use gsb_proto::{Frame, MessageKind};

use super::*;
use crate::engine::intake::CallIntake;
use crate::{Bus, Call};

/// A bus that is connected over a socket, without a task that serves the connection.
async fn connected() -> (Bus, Arc<Link>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let near = tokio::net::UnixStream::from_std(near).unwrap();
    near.writable().await.unwrap();
    let link = Arc::new(Link::new(Stream::Unix(near), 1 << 20));
    let engine = Arc::new(Engine::new(Options::default(), true));
    let router = RouterInfo { level: 1, ..RouterInfo::default() };
    assert!(engine.connected(&link, router));
    (Bus::new(engine), link, far)
}

/// How many bytes have arrived at the router since the last call.
fn received(mut router: &UnixStream) -> usize {
    let mut buffer = [0; 4096];
    let mut count = 0;
    loop {
        match router.read(&mut buffer) {
            Ok(length) => count += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether the link has queued frames that are written only when the task flushes it.
fn is_left_to_the_task(bus: &Bus, link: &Arc<Link>, router: &UnixStream) -> bool {
    let is_queued = received(router) == 0 && link.queued() > 0;
    let mut flushing = pin!(bus.engine().keep_flushing(link));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(flushing.as_mut().poll(&mut cx).is_pending());
    is_queued && received(router) > 0 && link.queued() == 0
}

#[tokio::test]
async fn frames_of_a_dropped_handle_are_written_by_the_task() {
    let (bus, link, router) = connected().await;

    let mut registering = Box::pin(bus.register("/a", |_: Call| async { Ok("") }));
    assert!(poll!(&mut registering).is_pending());
    assert!(received(&router) > 0);
    drop(registering);
    assert!(is_left_to_the_task(&bus, &link, &router));

    let mut subscribing = Box::pin(bus.subscribe("t"));
    assert!(poll!(&mut subscribing).is_pending());
    assert!(received(&router) > 0);
    drop(subscribing);
    assert!(is_left_to_the_task(&bus, &link, &router));

    let mut calling = Box::pin(bus.call("/b", "data"));
    assert!(poll!(&mut calling).is_pending());
    assert!(received(&router) > 0);
    drop(calling);
    assert!(is_left_to_the_task(&bus, &link, &router));
}

#[tokio::test]
async fn a_dropped_shutdown_leaves_closing_to_the_task() {
    let (bus, link, _router) = connected().await;
    let mut shutdown = Box::pin(bus.shutdown(Duration::from_secs(5)));
    assert!(poll!(&mut shutdown).is_pending());
    drop(shutdown);
    assert!(bus.engine().has_ended() && !link.is_closed());
    bus.engine().finished().await;
}

#[tokio::test]
async fn the_answer_of_a_dropped_handler_is_written_by_the_task() {
    let (bus, link, router) = connected().await;
    let mut registering =
        Box::pin(bus.register("/a", |_: Call| std::future::pending::<Result<&str, _>>()));
    assert!(poll!(&mut registering).is_pending());
    assert!(received(&router) > 0);
    let request =
        CallRequest { address: "/a".into(), request_id: "1".into(), ..CallRequest::default() };
    let intake = Arc::new(CallIntake::new(link.clone(), 0, bus.engine().options()));
    // The runtime of the handler ends, and the handler with it.
    let engine = bus.engine().clone();
    let runs = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            engine.receive(&intake, &request.to_frame()).unwrap();
            tokio::task::yield_now().await;
        });
    });
    runs.join().unwrap();
    assert!(is_left_to_the_task(&bus, &link, &router));
}

/// Notes whether the state is locked when it is dropped.
struct LockProbe(std::sync::Weak<Engine>, Arc<AtomicBool>);

impl Drop for LockProbe {
    fn drop(&mut self) {
        let engine = self.0.upgrade().expect("the engine");
        self.1.store(engine.state.try_lock().is_none(), Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_malformed_answer_drops_no_handler_under_the_lock() {
    let (bus, link, _router) = connected().await;
    let (engine, was_locked) = (bus.engine().clone(), Arc::new(AtomicBool::new(false)));
    let intake = Arc::new(CallIntake::new(link.clone(), 1, engine.options()));
    let probe = LockProbe(Arc::downgrade(&engine), was_locked.clone());
    let handler = move |_: Call| {
        let _probe = &probe;
        async { Ok("") }
    };
    let mut registering = Box::pin(bus.register("/a", handler).shared());
    assert!(poll!(&mut registering).is_pending());
    engine.receive(&intake, &RegisterReply::default().to_frame()).unwrap();
    // The request to give the name back keeps the handler until it is answered.
    drop(registering.await.unwrap());
    let malformed = Frame::new(MessageKind::UnregisterReply, vec![0xff]);
    let reason = engine.receive(&intake, &malformed).unwrap_err();
    engine.disconnected(&reason, Duration::ZERO);
    assert_eq!(Arc::strong_count(&was_locked), 1, "the handler was dropped");
    assert!(!was_locked.load(Ordering::Relaxed));
}
