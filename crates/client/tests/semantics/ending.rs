//! What becomes of calls when a bus ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use gsb_client::{Call, Error, Failure};
use gsb_testkit::TIMEOUT;
use tokio::sync::{Notify, mpsc};

use crate::setup::{Expected, World};

cases!(
    shutdown_waits_for_a_call,
    shutdown_ends_an_endless_stream,
    shutdown_ends_a_stream_that_does_not_wait,
    shutdown_ends_a_stream_that_is_not_read,
    shutdown_ends_a_call_that_does_not_end,
    shutdown_ends_a_call_that_is_not_polled,
    shutdown_ends_a_push_that_does_not_end,
    shutdown_tells_a_detached_call,
    shutdown_does_not_end_a_detached_call,
    call_after_a_shutdown,
    close_during_a_call,
);

const SHORT: Duration = Duration::from_millis(50);

async fn shutdown_waits_for_a_call(world: &World) {
    let (entered, mut running) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let handler = move |_: Call| {
        let (entered, held) = (entered.clone(), held.clone());
        async move {
            entered.send(()).unwrap();
            held.notified().await;
            Ok("done")
        }
    };
    world.service.register("/s", handler).await.unwrap().detach();
    let shutdown = async {
        running.recv().await.unwrap();
        let opened = async {
            tokio::task::yield_now().await;
            gate.notify_one();
        };
        tokio::join!(world.service.shutdown(TIMEOUT), opened).0
    };
    let (reply, shutdown) = tokio::join!(world.caller.call("/s", ""), shutdown);
    assert_eq!(reply.unwrap(), "done");
    shutdown.unwrap();
}

async fn shutdown_ends_an_endless_stream(world: &World) {
    let endless = |_: Call| stream::iter([Ok("one")]).chain(stream::pending());
    world.service.register_stream("/s", endless).await.unwrap().detach();
    let mut replies = world.caller.endpoint("/s").timeout(None).stream("").await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), "one");
    let (shutdown, end) = tokio::join!(world.service.shutdown(SHORT), replies.next());
    assert!(matches!(end, Some(Err(Error::Cancelled { .. }))), "{end:?}");
    shutdown.unwrap();
    assert!(replies.next().await.is_none());
}

/// Whether a service waits for the reader of its stream. Otherwise it may fill the buffer of a busy reader.
const WAITS_FOR_READER: Expected<bool> = Expected {
    in_process: true,
    router: true,
    old_caller: false,
    old_service: false,
    both_old: false,
};

// Its items are always ready, and are read without a pause.
async fn shutdown_ends_a_stream_that_does_not_wait(world: &World) {
    let endless = |_: Call| stream::repeat("item").map(Ok);
    world.service.register_stream("/s", endless).await.unwrap().detach();
    let mut replies = world.caller.endpoint("/s").timeout(None).stream("").await.unwrap();
    let read = async {
        loop {
            match replies.next().await {
                Some(Ok(item)) => assert_eq!(item, "item"),
                end => break end,
            }
        }
    };
    let (shutdown, end) = tokio::join!(world.service.shutdown(SHORT), read);
    match end {
        Some(Err(Error::Cancelled { .. })) => {}
        Some(Err(Error::Overflow { .. })) if !world.expect(&WAITS_FOR_READER) => {}
        end => panic!("{end:?}"),
    }
    shutdown.unwrap();
}

async fn shutdown_ends_a_stream_that_is_not_read(world: &World) {
    let endless = |_: Call| stream::iter([Ok("one")]).chain(stream::pending());
    world.service.register_stream("/s", endless).await.unwrap().detach();
    let mut replies = world.caller.endpoint("/s").timeout(None).stream("").await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), "one");
    world.service.shutdown(SHORT).await.unwrap();
    let end = replies.next().await;
    assert!(matches!(end, Some(Err(Error::Cancelled { .. }))), "{end:?}");
}

async fn shutdown_ends_a_call_that_does_not_end(world: &World) {
    let (entered, mut running) = mpsc::unbounded_channel();
    let never = move |_: Call| {
        entered.send(()).unwrap();
        std::future::pending::<Result<Bytes, Failure>>()
    };
    world.service.register("/s", never).await.unwrap().detach();
    let shutdown = async {
        running.recv().await.unwrap();
        world.service.shutdown(SHORT).await
    };
    let endpoint = world.caller.endpoint("/s").timeout(None);
    let (end, shutdown) = tokio::join!(endpoint.call(""), shutdown);
    assert!(matches!(end, Err(Error::Cancelled { .. })), "{end:?}");
    shutdown.unwrap();
}

/// Whether a handler ends if its caller does not poll the call. Within a process the handler is a part of it.
const IS_DROPPED: Expected<bool> = Expected {
    in_process: false,
    router: true,
    old_caller: true,
    old_service: true,
    both_old: true,
};

async fn shutdown_ends_a_call_that_is_not_polled(world: &World) {
    let (entered, mut running) = mpsc::unbounded_channel();
    let never = move |_: Call| {
        entered.send(()).unwrap();
        std::future::pending::<Result<Bytes, Failure>>()
    };
    world.service.register("/s", never).await.unwrap().detach();
    let endpoint = world.caller.endpoint("/s").timeout(None);
    let mut call = pin!(endpoint.call(""));
    assert!(futures::poll!(&mut call).is_pending());
    running.recv().await.unwrap();
    let shutdown = world.service.shutdown(SHORT).await;
    assert_eq!(shutdown.is_ok(), world.expect(&IS_DROPPED), "{shutdown:?}");
    assert!(matches!(call.await, Err(Error::Cancelled { .. })));
}

async fn shutdown_ends_a_push_that_does_not_end(world: &World) {
    let (entered, mut running) = mpsc::unbounded_channel();
    let never = move |_: Call| {
        entered.send(()).unwrap();
        std::future::pending::<()>()
    };
    world.service.register_push("/s", never).await.unwrap().detach();
    world.caller.push("/s", "").await.unwrap();
    running.recv().await.unwrap();
    world.service.shutdown(SHORT).await.unwrap();
}

async fn shutdown_tells_a_detached_call(world: &World) {
    let (entered, mut running) = mpsc::unbounded_channel();
    let handler = move |call: Call| {
        let entered = entered.clone();
        async move {
            call.detach();
            entered.send("began").unwrap();
            call.cancelled().await;
            entered.send("cancelled").unwrap();
            Ok("")
        }
    };
    world.service.register("/s", handler).await.unwrap().detach();
    let shutdown = async {
        assert_eq!(running.recv().await, Some("began"));
        let shutdown = world.service.shutdown(SHORT).await;
        assert_eq!(running.recv().await, Some("cancelled"));
        shutdown
    };
    let (_, shutdown) = tokio::join!(world.caller.call("/s", ""), shutdown);
    shutdown.unwrap();
}

async fn shutdown_does_not_end_a_detached_call(world: &World) {
    let (entered, mut running) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let handler = move |call: Call| {
        let (entered, held) = (entered.clone(), held.clone());
        async move {
            call.detach();
            entered.send("began").unwrap();
            held.notified().await;
            entered.send("done").unwrap();
            Ok("")
        }
    };
    world.service.register("/s", handler).await.unwrap().detach();
    let shutdown = async {
        assert_eq!(running.recv().await, Some("began"));
        let shutdown = world.service.shutdown(SHORT).await;
        gate.notify_one();
        assert_eq!(running.recv().await, Some("done"));
        shutdown
    };
    let (_, shutdown) = tokio::join!(world.caller.call("/s", ""), shutdown);
    assert!(matches!(shutdown, Err(Error::Unfinished { running: 1, .. })), "{shutdown:?}");
}

/// Within a process the bus of the caller has ended, too.
const HAS_ENDED: Expected<bool> = Expected {
    in_process: true,
    router: false,
    old_caller: false,
    old_service: false,
    both_old: false,
};

async fn call_after_a_shutdown(world: &World) {
    world.service.register("/s", |_: Call| async { Ok("") }).await.unwrap().detach();
    world.caller.call("/s", "").await.unwrap();
    world.service.shutdown(TIMEOUT).await.unwrap();
    let error = world.caller.call("/s", "").await.unwrap_err();
    match world.expect(&HAS_ENDED) {
        true => assert_eq!(error, Error::ShutDown),
        false => assert!(matches!(error, Error::NoSuchService { .. }), "{error}"),
    }
}

/// Whether a call gets its reply if the bus of its service is closed first. Within a process the handler goes on.
const IS_ANSWERED: Expected<bool> = HAS_ENDED;

async fn close_during_a_call(world: &World) {
    let (entered, mut running) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let handler = move |_: Call| {
        let (entered, held) = (entered.clone(), held.clone());
        async move {
            entered.send(()).unwrap();
            held.notified().await;
            Ok("done")
        }
    };
    world.service.register("/s", handler).await.unwrap().detach();
    let close = async {
        running.recv().await.unwrap();
        world.service.clone().close().await;
        gate.notify_one();
    };
    let (reply, ()) = tokio::join!(world.caller.call("/s", ""), close);
    match world.expect(&IS_ANSWERED) {
        true => assert_eq!(reply.unwrap(), "done"),
        false => assert!(matches!(reply, Err(Error::ServiceFailure { .. })), "{reply:?}"),
    }
}
