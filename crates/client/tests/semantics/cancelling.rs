//! What the handler sees of a caller that has gone.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use gsb_client::{Call, Error, Failure, Message, Registration};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::setup::{Expected, World};

cases!(
    dropped_call,
    dropped_typed_call,
    dropped_stream,
    dropped_stream_that_does_not_wait,
    dropped_typed_stream,
    timeout_of_a_call,
    timeout_of_an_item,
    call_of_a_stream,
    dropped_call_makes_room,
    dropped_call_of_a_serial_service,
    dropped_handler_that_panics,
    closed_caller,
    detached_call,
    detached_stream,
    cancelled_is_seen_by_a_task,
);

/// Whether a service is told that a caller has dropped a call. A service of level 0 cannot be told, and a caller of level
/// 0 cannot tell the router.
const IS_TOLD: Expected<bool> = Expected {
    in_process: true,
    router: true,
    old_caller: false,
    old_service: false,
    both_old: false,
};

/// Whether a service is told that a call has timed out. The router knows the deadline of a caller of level 0.
const IS_TOLD_OF_TIMEOUT: Expected<bool> = Expected { old_caller: true, ..IS_TOLD };

/// The first item has to come in this time on a busy machine, and the test waits for it once.
const LONG_ENOUGH_FOR_AN_ITEM: Duration = Duration::from_millis(800);

/// What a handler does, in order.
type Events = UnboundedReceiver<&'static str>;

/// Reports that a handler was dropped.
struct ReportDrop(UnboundedSender<&'static str>);

impl Drop for ReportDrop {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

impl ReportDrop {
    fn begin(events: &UnboundedSender<&'static str>) -> Self {
        events.send("began").unwrap();
        ReportDrop(events.clone())
    }
}

/// Registers a service whose handler waits without an end.
async fn waits(world: &World) -> (Registration, Events) {
    let (sender, events) = unbounded_channel();
    let handler = move |_: Call| {
        let guard = ReportDrop::begin(&sender);
        async move {
            let _guard = guard;
            std::future::pending::<Result<Bytes, Failure>>().await
        }
    };
    (world.service.register("/s", handler).await.unwrap(), events)
}

/// One item. After it, the stream waits without an end.
fn one_and_wait(guard: ReportDrop) -> impl Stream<Item = Result<&'static str, Failure>> {
    stream::unfold((guard, true), |(guard, is_first)| async move {
        if !is_first {
            std::future::pending::<()>().await;
        }
        Some((Ok("item"), (guard, false)))
    })
}

/// Runs a future until the next event of the handler, and drops it.
async fn run_until_event(future: impl Future, events: &mut Events, expected: &str) {
    let mut future = pin!(future);
    tokio::select! {
        biased;
        event = events.recv() => assert_eq!(event, Some(expected)),
        _ = &mut future => panic!("it has ended"),
    }
}

/// Waits for an event of the handler that must come, or shows that none comes.
async fn expect(world: &World, events: &mut Events, event: &str, comes: bool) {
    if comes {
        assert_eq!(events.recv().await, Some(event));
        return;
    }
    // What the caller sent before has reached the service with this call.
    let echo = |call: Call| async move { Ok(call.data) };
    let _echo = world.service.register("/echo", echo).await.unwrap();
    assert_eq!(world.caller.call("/echo", "x").await.unwrap(), "x");
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(events.try_recv().is_err(), "the handler was told");
}

async fn dropped_call(world: &World) {
    let (_service, mut events) = waits(world).await;
    run_until_event(world.caller.call("/s", ""), &mut events, "began").await;
    expect(world, &mut events, "dropped", world.expect(&IS_TOLD)).await;
}

#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "wait", item = u32)]
struct Wait;

async fn dropped_typed_call(world: &World) {
    let (sender, mut events) = unbounded_channel();
    let handler = move |Wait| {
        let guard = ReportDrop::begin(&sender);
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    };
    let _service = world.service.bind("/s", handler).await.unwrap();
    let service = world.caller.service("/s");
    run_until_event(service.call(Wait), &mut events, "began").await;
    expect(world, &mut events, "dropped", world.expect(&IS_TOLD)).await;
}

async fn dropped_stream(world: &World) {
    let (sender, mut events) = unbounded_channel();
    let handler = move |_: Call| one_and_wait(ReportDrop::begin(&sender));
    let _service = world.service.register_stream("/s", handler).await.unwrap();
    let mut replies = world.caller.stream("/s", "").await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), "item");
    assert_eq!(events.recv().await, Some("began"));
    drop(replies);
    expect(world, &mut events, "dropped", world.expect(&IS_TOLD)).await;
}

// Its items are always ready.
async fn dropped_stream_that_does_not_wait(world: &World) {
    let (sender, mut events) = unbounded_channel();
    let handler = move |_: Call| {
        stream::repeat(Arc::new(ReportDrop::begin(&sender))).map(|_guard| Ok("item"))
    };
    let _service = world.service.register_stream("/s", handler).await.unwrap();
    let mut replies = world.caller.stream("/s", "").await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), "item");
    assert_eq!(events.recv().await, Some("began"));
    drop(replies);
    expect(world, &mut events, "dropped", world.expect(&IS_TOLD)).await;
}

async fn dropped_typed_stream(world: &World) {
    let (sender, mut events) = unbounded_channel();
    let handler = move |Wait| {
        let guard = ReportDrop::begin(&sender);
        one_and_wait(guard).map(|item| Ok(item.map_or(0, |_| 1)))
    };
    let _service = world.service.bind_stream("/s", handler).await.unwrap();
    let mut answers = world.caller.service("/s").stream(Wait).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap(), Ok(1));
    assert_eq!(events.recv().await, Some("began"));
    drop(answers);
    expect(world, &mut events, "dropped", world.expect(&IS_TOLD)).await;
}

async fn timeout_of_a_call(world: &World) {
    let (_service, mut events) = waits(world).await;
    let endpoint = world.caller.endpoint("/s").timeout(Duration::from_millis(50));
    // A call may time out before its handler begins.
    while events.try_recv() != Ok("began") {
        assert!(matches!(endpoint.call("").await, Err(Error::Timeout { .. })));
    }
    expect(world, &mut events, "dropped", world.expect(&IS_TOLD_OF_TIMEOUT)).await;
}

// The reader keeps the stream, which has ended.
async fn timeout_of_an_item(world: &World) {
    let (sender, mut events) = unbounded_channel();
    let handler = move |_: Call| one_and_wait(ReportDrop::begin(&sender));
    let _service = world.service.register_stream("/s", handler).await.unwrap();
    let endpoint = world.caller.endpoint("/s").timeout(LONG_ENOUGH_FOR_AN_ITEM);
    let mut replies = endpoint.stream("").await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), "item");
    assert!(matches!(replies.next().await, Some(Err(Error::Timeout { .. }))));
    assert_eq!(events.recv().await, Some("began"));
    expect(world, &mut events, "dropped", world.expect(&IS_TOLD)).await;
    assert!(replies.next().await.is_none());
}

// Its first item shows that it is a stream.
async fn call_of_a_stream(world: &World) {
    let (sender, mut events) = unbounded_channel();
    let handler = move |_: Call| one_and_wait(ReportDrop::begin(&sender));
    let _service = world.service.register_stream("/s", handler).await.unwrap();
    let error = world.caller.call("/s", "").await.unwrap_err();
    assert!(matches!(error, Error::IsStream { .. }), "{error}");
    assert_eq!(events.recv().await, Some("began"));
    expect(world, &mut events, "dropped", world.expect(&IS_TOLD)).await;
}

/// Over a router the handler is dropped soon after the next call may have been refused.
const MAKES_ROOM_AT_ONCE: Expected<bool> = Expected { router: false, ..IS_TOLD };

// A service of one call at a time takes the next one.
async fn dropped_call_makes_room(world: &World) {
    if !world.expect(&IS_TOLD) {
        return;
    }
    let (sender, mut events) = unbounded_channel();
    let handler = move |call: Call| {
        let guard = ReportDrop::begin(&sender);
        async move {
            let _guard = guard;
            if call.data.is_empty() {
                std::future::pending::<()>().await;
            }
            Ok(call.data)
        }
    };
    let service = world.service.with_max_running(1).register("/s", handler);
    let _service = service.await.unwrap();
    for _ in 0..20 {
        run_until_event(world.caller.call("/s", ""), &mut events, "began").await;
        let mut next = world.caller.call("/s", "next").await;
        while matches!(next, Err(Error::Busy { .. })) && !world.expect(&MAKES_ROOM_AT_ONCE) {
            next = world.caller.call("/s", "next").await;
        }
        assert_eq!(next.unwrap(), "next");
        for event in ["dropped", "began", "dropped"] {
            assert_eq!(events.recv().await, Some(event));
        }
    }
}

// The turn goes on to the next call, whether the call that is dropped has the turn or waits for it.
async fn dropped_call_of_a_serial_service(world: &World) {
    if !world.expect(&IS_TOLD) {
        return;
    }
    let (sender, mut events) = unbounded_channel();
    let handler = move |call: Call| {
        let guard = ReportDrop::begin(&sender);
        async move {
            let _guard = guard;
            if call.data.is_empty() {
                std::future::pending::<()>().await;
            }
            Ok(call.data)
        }
    };
    let _service = world.service.serial().register("/s", handler).await.unwrap();
    let mut first = Box::pin(world.caller.call("/s", ""));
    run_until_event(&mut first, &mut events, "began").await;
    {
        let mut waiting = pin!(world.caller.call("/s", ""));
        assert!(futures::poll!(&mut waiting).is_pending());
    }
    let mut last = pin!(world.caller.call("/s", "last"));
    assert!(futures::poll!(&mut last).is_pending());
    drop(first);
    assert_eq!(last.await.unwrap(), "last");
    for event in ["dropped", "began", "dropped"] {
        assert_eq!(events.recv().await, Some(event));
    }
}

struct Bomb(#[expect(dead_code)] ReportDrop);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

// The panic ends with the handler.
async fn dropped_handler_that_panics(world: &World) {
    let (sender, mut events) = unbounded_channel();
    let handler = move |call: Call| {
        let guard = call.data.is_empty().then(|| Bomb(ReportDrop::begin(&sender)));
        async move {
            let _guard = guard;
            if call.data.is_empty() {
                std::future::pending::<()>().await;
            }
            Ok(call.data)
        }
    };
    let _service = world.service.register("/s", handler).await.unwrap();
    run_until_event(world.caller.call("/s", ""), &mut events, "began").await;
    expect(world, &mut events, "dropped", world.expect(&IS_TOLD)).await;
    assert_eq!(world.caller.call("/s", "next").await.unwrap(), "next");
}

/// The router tells a service that it has lost the caller, whatever the level of the caller. Within a process the handler
/// is a part of the call, which its caller still has.
const IS_TOLD_OF_LOSS: Expected<bool> = Expected { in_process: false, old_caller: true, ..IS_TOLD };

async fn closed_caller(world: &World) {
    let (_service, mut events) = waits(world).await;
    let mut call = Box::pin(world.caller.call("/s", ""));
    run_until_event(&mut call, &mut events, "began").await;
    world.caller.clone().close().await;
    if world.expect(&IS_TOLD_OF_LOSS) {
        assert_eq!(events.recv().await, Some("dropped"));
    }
}

// It goes on to its end, and learns that its caller has gone.
async fn detached_call(world: &World) {
    let (sender, mut events) = unbounded_channel();
    let gate = Arc::new(Notify::new());
    let opened = gate.clone();
    let handler = move |call: Call| {
        let (sender, opened) = (sender.clone(), opened.clone());
        async move {
            call.detach();
            sender.send("began").unwrap();
            tokio::select! {
                () = call.cancelled() => sender.send("cancelled").unwrap(),
                () = std::future::pending() => {}
            }
            opened.notified().await;
            sender.send("done").unwrap();
            Ok("")
        }
    };
    let _service = world.service.register("/s", handler).await.unwrap();
    run_until_event(world.caller.call("/s", ""), &mut events, "began").await;
    let is_told = world.expect(&IS_TOLD);
    expect(world, &mut events, "cancelled", is_told).await;
    gate.notify_one();
    expect(world, &mut events, "done", is_told).await;
}

// Its items are dropped.
async fn detached_stream(world: &World) {
    let (sender, mut events) = unbounded_channel();
    let gate = Arc::new(Notify::new());
    let opened = gate.clone();
    let handler = move |call: Call| {
        call.detach();
        let items = stream::iter([("began", false), ("second", true), ("last", false)]);
        let (sender, opened) = (sender.clone(), opened.clone());
        items.then(move |(event, waits)| {
            let (sender, opened) = (sender.clone(), opened.clone());
            async move {
                if waits {
                    opened.notified().await;
                }
                sender.send(event).unwrap();
                Ok(event)
            }
        })
    };
    let _service = world.service.register_stream("/s", handler).await.unwrap();
    let mut replies = world.caller.stream("/s", "").await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), "began");
    drop(replies);
    gate.notify_one();
    for event in ["began", "second", "last"] {
        assert_eq!(events.recv().await, Some(event));
    }
}

async fn cancelled_is_seen_by_a_task(world: &World) {
    let (sender, mut events) = unbounded_channel();
    let handler = move |call: Call| {
        let (sender, context) = (sender.clone(), call.context().clone());
        async move {
            let task = tokio::spawn(async move {
                sender.send("began").unwrap();
                context.cancelled().await;
                assert!(context.is_cancelled());
                sender.send("cancelled").unwrap();
            });
            task.await.map(|()| "").map_err(Failure::from)
        }
    };
    let _service = world.service.register("/s", handler).await.unwrap();
    run_until_event(world.caller.call("/s", ""), &mut events, "began").await;
    expect(world, &mut events, "cancelled", world.expect(&IS_TOLD)).await;
}
