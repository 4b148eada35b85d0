//! The time that a caller waits, as the handler sees it, and what travels with it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use gsb_client::{Call, Error, Failure, Message, WeakBus};
use serde::{Deserialize, Serialize};

use crate::setup::World;

cases!(
    deadline_of_a_call,
    deadline_of_a_typed_call,
    deadline_of_a_push,
    deadline_of_a_stream,
    deadline_ends_a_stream,
    deadline_that_is_over,
    deadline_is_inherited,
    headers_of_a_call,
    headers_of_a_typed_stream,
    headers_of_a_push,
    trace_headers_are_inherited,
);

const MINUTE: Duration = Duration::from_secs(60);

/// The time that is left to a handler in milliseconds, or nothing.
fn left<T>(call: &Call<T>) -> String {
    call.time_left().map_or_else(String::new, |left| left.as_millis().to_string())
}

async fn answer_with_time_left(call: Call) -> Result<String, Failure> {
    Ok(left(&call))
}

/// Whether a handler was told this time, less what has passed since.
fn is_about(left: &[u8], expected: Duration, since: Instant) -> bool {
    let left = std::str::from_utf8(left).unwrap().parse().unwrap();
    let left = Duration::from_millis(left);
    // The time travels in milliseconds, rounded up.
    let rounding = Duration::from_millis(2);
    left <= expected + rounding && left + since.elapsed() + rounding >= expected
}

async fn deadline_of_a_call(world: &World) {
    let _service = world.service.register("/s", answer_with_time_left).await.unwrap();
    let endpoint = world.caller.endpoint("/s");
    let since = Instant::now();
    // The default of a bus.
    assert!(is_about(&endpoint.call("").await.unwrap(), MINUTE, since));
    let (timeout, since) = (Duration::from_secs(30), Instant::now());
    let reply = endpoint.clone().timeout(timeout).call("").await.unwrap();
    assert!(is_about(&reply, timeout, since), "{reply:?}");
    let deadline = tokio::time::Instant::now() + timeout;
    let reply = endpoint.clone().timeout(None).deadline(deadline).call("").await.unwrap();
    assert!(is_about(&reply, timeout, since), "{reply:?}");
    let reply = endpoint.deadline(deadline).call("").await.unwrap();
    assert!(is_about(&reply, timeout, since), "the earlier one counts: {reply:?}");
    let reply = world.caller.endpoint("/s").timeout(None).call("").await.unwrap();
    assert_eq!(reply, "");
}

#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "left", item = String)]
struct Left;

async fn deadline_of_a_typed_call(world: &World) {
    let answer = |call: Call<Left>| async move { Ok(left(&call)) };
    let _service = world.service.bind_call("/s", answer).await.unwrap();
    let (timeout, since) = (Duration::from_secs(30), Instant::now());
    let service = world.caller.service("/s").timeout(timeout);
    let answer = service.call(Left).await.unwrap().unwrap();
    assert!(is_about(answer.as_bytes(), timeout, since), "{answer}");
}

async fn deadline_of_a_push(world: &World) {
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |call: Call| {
        sender.send(left(&call)).unwrap();
        async {}
    };
    let _service = world.service.register_push("/s", handler).await.unwrap();
    world.caller.push("/s", "").await.unwrap();
    assert_eq!(received.recv().await.unwrap(), "");
}

// The timeout is the one of each item.
async fn deadline_of_a_stream(world: &World) {
    let answer = |call: Call| stream::iter([Ok(left(&call))]);
    let _service = world.service.register_stream("/s", answer).await.unwrap();
    let endpoint = world.caller.endpoint("/s");
    let mut replies = endpoint.stream("").await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), "");
    let (timeout, since) = (Duration::from_secs(30), Instant::now());
    let deadline = tokio::time::Instant::now() + timeout;
    let mut replies = endpoint.deadline(deadline).stream("").await.unwrap();
    let reply = replies.next().await.unwrap().unwrap();
    assert!(is_about(&reply, timeout, since), "{reply:?}");
}

// Each item comes in time.
async fn deadline_ends_a_stream(world: &World) {
    let ticks = |_: Call| {
        stream::repeat("tick").then(|item| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(item)
        })
    };
    let _service = world.service.register_stream("/s", ticks).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(100);
    let mut replies = world.caller.endpoint("/s").deadline(deadline).stream("").await.unwrap();
    let end = loop {
        match replies.next().await {
            Some(Ok(item)) => assert_eq!(item, "tick"),
            end => break end,
        }
    };
    assert!(matches!(end, Some(Err(Error::Timeout { .. }))), "{end:?}");
    assert!(replies.next().await.is_none());
}

async fn deadline_that_is_over(world: &World) {
    let never = |_: Call| std::future::pending::<Result<Bytes, Failure>>();
    let _service = world.service.register("/s", never).await.unwrap();
    let endpoint = world.caller.endpoint("/s");
    let past = tokio::time::Instant::now();
    for endpoint in [endpoint.clone().deadline(past), endpoint.timeout(Duration::ZERO)] {
        let error = endpoint.call("").await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        let error = match endpoint.stream("").await {
            Ok(mut replies) => replies.next().await.unwrap().unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
    }
}

/// Calls `/inner` on behalf of a call, or not.
async fn relay(bus: WeakBus, call: Call) -> Result<Bytes, Failure> {
    let bus = bus.upgrade().ok_or("the bus has ended")?;
    let inner = bus.endpoint("/inner");
    Ok(match &call.data[..] {
        b"on behalf" => inner.on_behalf_of(&call).call("").await?,
        _ => inner.call("").await?,
    })
}

async fn deadline_is_inherited(world: &World) {
    // At the other bus, so that it is called over the router, too.
    let _inner = world.caller.register("/inner", answer_with_time_left).await.unwrap();
    let outer = world.service.register_with("/outer", world.service.downgrade(), relay);
    let _outer = outer.await.unwrap();
    let (timeout, since) = (Duration::from_secs(30), Instant::now());
    let outer = world.caller.endpoint("/outer").timeout(timeout);
    let reply = outer.call("on behalf").await.unwrap();
    assert!(is_about(&reply, timeout, since), "{reply:?}");
    let since = Instant::now();
    assert!(is_about(&outer.call("").await.unwrap(), MINUTE, since));
}

/// The headers of a call as text.
fn headers<T>(call: &Call<T>) -> String {
    let texts = call.headers().iter();
    let texts = texts.map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
    texts.collect::<Vec<_>>().join(" ")
}

async fn answer_with_headers(call: Call) -> Result<String, Failure> {
    Ok(headers(&call))
}

async fn headers_of_a_call(world: &World) {
    let _service = world.service.register("/s", answer_with_headers).await.unwrap();
    let endpoint = world.caller.endpoint("/s");
    assert_eq!(endpoint.call("").await.unwrap(), "");
    let endpoint = endpoint.header("X-First", "1").header("second", "2");
    assert_eq!(endpoint.call("").await.unwrap(), "x-first=1 second=2");
}

async fn headers_of_a_typed_stream(world: &World) {
    let answer = |call: Call<Left>| stream::iter([Ok(headers(&call))]);
    let _service = world.service.bind_stream_call("/s", answer).await.unwrap();
    let service = world.caller.service("/s").header("First", "1");
    let mut answers = service.stream(Left).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().unwrap(), "first=1");
}

async fn headers_of_a_push(world: &World) {
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |call: Call| {
        sender.send(headers(&call)).unwrap();
        async {}
    };
    let _service = world.service.register_push("/s", handler).await.unwrap();
    world.caller.endpoint("/s").header("First", "1").push("").await.unwrap();
    assert_eq!(received.recv().await.unwrap(), "first=1");
}

async fn trace_headers_are_inherited(world: &World) {
    let _inner = world.caller.register("/inner", answer_with_headers).await.unwrap();
    let outer = world.service.register_with("/outer", world.service.downgrade(), relay);
    let _outer = outer.await.unwrap();
    let outer = world.caller.endpoint("/outer").header("traceparent", "t").header("other", "o");
    assert_eq!(outer.call("on behalf").await.unwrap(), "traceparent=t");
    assert_eq!(outer.call("").await.unwrap(), "");
}
