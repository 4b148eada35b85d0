//! Deadlines and headers: what the caller says, and what the handler sees. Rules CA-12, CA-16, FR-12.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use gsb_client::{Bus, Call, CallContext, Error, Framing, WeakBus};
use gsb_proto::messages::CallRequest;
use gsb_testkit::{Peer, TestRouter, within};
use tokio::sync::mpsc;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// A local bus, and two buses with a router between them: the side of services, and that of callers.
async fn sides() -> (TestRouter, [(Bus, Bus); 2]) {
    let router = TestRouter::start().await;
    let local = Bus::local();
    let service = Bus::connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.tcp).await.unwrap();
    (router, [(local.clone(), local), (service, caller)])
}

/// Registers `/context`, which sends the context of each call.
async fn contexts(bus: &Bus) -> mpsc::UnboundedReceiver<CallContext> {
    let (sender, contexts) = mpsc::unbounded_channel();
    let handler = move |call: Call| {
        let _ = sender.send(call.context().clone());
        async { Ok("") }
    };
    bus.register("/context", handler).await.unwrap().detach();
    contexts
}

/// Whether a deadline is the expected one, as far as the way between two processes allows.
fn is_about(deadline: Option<Instant>, expected: Instant) -> bool {
    deadline.is_some_and(|deadline| {
        deadline >= expected - SECOND
            && deadline <= Instant::now() + (expected - Instant::now()) + SECOND
    })
}

#[tokio::test]
async fn a_handler_sees_until_when_its_caller_waits() {
    let (router, sides) = sides().await;
    for (service, caller) in sides {
        let mut contexts = contexts(&service).await;
        let endpoint = caller.endpoint("/context");
        let begun = Instant::now();

        endpoint.clone().timeout(100 * SECOND).call("").await.unwrap();
        let context = contexts.recv().await.unwrap();
        assert!(is_about(context.deadline(), begun + 100 * SECOND), "{context:?}");
        assert!(context.time_left().unwrap() <= 100 * SECOND);

        // The earlier one counts.
        let both = endpoint.clone().timeout(100 * SECOND).deadline(begun + 50 * SECOND);
        both.call("").await.unwrap();
        assert!(is_about(contexts.recv().await.unwrap().deadline(), begun + 50 * SECOND));

        endpoint.clone().timeout(None).call("").await.unwrap();
        assert_eq!(contexts.recv().await.unwrap().deadline(), None);

        // The timeout of a stream is one for each reply. A push has none.
        let replies = endpoint.clone().timeout(100 * SECOND).stream("").await.unwrap();
        assert_eq!(replies.count().await, 0);
        assert_eq!(contexts.recv().await.unwrap().deadline(), None);
        let replies = endpoint.clone().deadline(begun + 100 * SECOND).stream("").await.unwrap();
        assert_eq!(replies.count().await, 0);
        assert!(is_about(contexts.recv().await.unwrap().deadline(), begun + 100 * SECOND));
        endpoint.clone().timeout(100 * SECOND).push("").await.unwrap();
        assert_eq!(contexts.recv().await.unwrap().deadline(), None);
    }
    router.stop().await;
}

#[tokio::test]
async fn a_call_on_behalf_of_another_inherits_its_deadline_and_its_trace() {
    async fn relay(bus: WeakBus, call: Call) -> Result<bytes::Bytes, gsb_client::Failure> {
        let bus = bus.upgrade().ok_or("the bus has ended")?;
        let endpoint = bus.endpoint("/context").timeout(100 * SECOND).header("own", "1");
        Ok(endpoint.on_behalf_of(&call).call(call.data).await?)
    }
    let (router, sides) = sides().await;
    for (service, caller) in sides {
        let mut contexts = contexts(&caller).await;
        let _relay = service.register_with("/relay", service.downgrade(), relay).await.unwrap();
        let begun = Instant::now();
        let endpoint = caller.endpoint("/relay").timeout(50 * SECOND);
        let endpoint = endpoint.header("Traceparent", "00-1-2-01").header("secret", "x");
        endpoint.call("").await.unwrap();
        let context = contexts.recv().await.unwrap();
        assert!(is_about(context.deadline(), begun + 50 * SECOND), "{context:?}");
        let headers: Vec<_> = context
            .headers()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        assert_eq!(
            headers,
            [("own".to_owned(), "1".into()), ("traceparent".to_owned(), "00-1-2-01".into())]
        );
    }
    router.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_deadline() {
    let bus = Bus::local();
    let ticks = |_: Call| {
        stream::unfold(0, |tick| async move {
            tokio::time::sleep(SECOND).await;
            Some((Ok(tick.to_string()), tick + 1))
        })
    };
    let _ticks = bus.register_stream("/ticks", ticks).await.unwrap();
    let _flood =
        bus.register_stream("/flood", |_: Call| stream::repeat_with(|| Ok("x"))).await.unwrap();
    let deadline = Instant::now() + SECOND * 7 / 2;
    let endpoint = bus.endpoint("/ticks").timeout(2 * SECOND).deadline(deadline);
    let mut replies: Vec<_> = endpoint.stream("").await.unwrap().collect().await;
    assert_eq!(Instant::now(), deadline);
    let end = Error::Timeout { target: "/ticks".to_owned(), after: SECOND * 7 / 2 };
    assert_eq!(replies.pop(), Some(Err(end)));
    assert_eq!(replies.len(), 3);

    // One that is never waited for ends as well.
    let endpoint = bus.endpoint("/flood").deadline(Instant::now() + SECOND);
    let mut replies = endpoint.stream("").await.unwrap();
    assert_eq!(replies.next().await, Some(Ok("x".into())));
    tokio::time::advance(SECOND).await;
    assert!(matches!(replies.next().await, Some(Err(Error::Timeout { .. }))));
    assert_eq!(replies.next().await, None);
}

// The router ends a call at its deadline, also if the caller does nothing.
#[tokio::test]
async fn the_router_is_told_how_long_the_caller_waits() {
    let router = TestRouter::start().await;
    let mut service = Peer::connect(&router.tcp, Framing::Packet).await;
    assert_eq!(service.register("/slow").await, 0);
    let caller = Bus::connect(&router.unix).await.unwrap();
    let endpoint = caller.endpoint("/slow");
    for (endpoint, expected) in [
        (endpoint.clone().timeout(Duration::from_micros(1500)), 2),
        (endpoint.clone().timeout(Duration::ZERO), 1),
        (endpoint.clone().timeout(Duration::MAX), 0),
        (endpoint.clone().timeout(None), 0),
    ] {
        let call = tokio::spawn(async move { endpoint.call("").await });
        let request: CallRequest = service.expect().await;
        assert_eq!(request.timeout_ms, expected);
        call.abort();
    }
    // The deadline of the router, and not the timeout for an item, ends this stream.
    let endpoint = endpoint.timeout(None).deadline(Instant::now() + Duration::from_millis(50));
    let mut replies = endpoint.stream("").await.unwrap();
    let end = within("the end", replies.next()).await.unwrap().unwrap_err();
    assert!(matches!(end, Error::Timeout { .. }), "{end}");
    router.stop().await;
}

#[tokio::test]
async fn headers_that_are_too_long_fail_their_call_only() {
    let router = TestRouter::start().await;
    let caller = Bus::connect(&router.unix).await.unwrap();
    let endpoint = caller.endpoint("/nobody").header("long", vec![0; 65_537]);
    let error = endpoint.call("").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 65_536, .. }), "{error}");
    assert!(matches!(caller.call("/nobody", "").await, Err(Error::NoSuchService { .. })));
    router.stop().await;
}
