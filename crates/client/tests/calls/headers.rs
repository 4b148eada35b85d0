//! The limits of headers, and the headers that are inherited. Rules CA-16, FR-12.

use futures::{StreamExt as _, stream};
use gsb_client::{Bus, Call, Error, Failure, Reply, WeakBus};
use gsb_testkit::TestRouter;

#[tokio::test]
async fn a_reply_with_headers_that_are_too_long_fails_its_call_only() {
    let router = TestRouter::start().await;
    let service = Bus::connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    let long = || Reply::new("data").header("long", vec![0; 65_537]);
    let replies = move |_: Call| stream::iter([Ok(Reply::new("first")), Ok(long())]);
    let _one = service.register("/one", move |_: Call| async move { Ok(long()) }).await.unwrap();
    let _many = service.register_stream("/many", replies).await.unwrap();

    let failed = caller.call("/one", "").await.unwrap_err();
    let Error::ServiceFailure { message, .. } = failed else { panic!("{failed}") };
    assert!(message.starts_with("the reply is too large to be sent: "), "{message}");
    let replies: Vec<_> = caller.stream("/many", "").await.unwrap().collect().await;
    assert_eq!(replies.len(), 2);
    assert!(matches!(replies[1], Err(Error::ServiceFailure { .. })), "{replies:?}");
    router.stop().await;
}

#[tokio::test]
async fn an_event_with_headers_that_are_too_long_fails_its_broadcast_only() {
    let router = TestRouter::start().await;
    let bus = Bus::connect(&router.unix).await.unwrap();
    let mut events = bus.subscribe("t").await.unwrap();
    let error = bus.publisher("t").header("long", vec![0; 65_537]).broadcast("").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 65_536, .. }), "{error}");
    let error =
        bus.topic("t").header("long", vec![0; 65_537]).broadcast(&"typed").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 65_536, .. }), "{error}");
    bus.broadcast("t", "short").await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().data, "short");
    router.stop().await;
}

// In the buffers of subscriptions and streams.
#[tokio::test]
async fn headers_count_towards_the_limit_of_a_buffer() {
    let router = TestRouter::start().await;
    let connect = async || Bus::builder().buffer_limit(10_000).connect(&router.unix).await.unwrap();
    let (service, caller) = (connect().await, connect().await);
    let mut events = caller.subscribe("t").await.unwrap();
    let publisher = service.publisher("t").header("long", vec![0; 4_000]);
    for _ in 0..3 {
        publisher.broadcast("").await.unwrap();
    }
    // The answer to a call comes behind the events.
    assert!(matches!(caller.call("/none", "").await, Err(Error::NoSuchService { .. })));
    for _ in 0..2 {
        assert_eq!(events.next().await.unwrap().unwrap().headers.len(), 1);
    }
    let overflow = events.next().await.unwrap();
    assert!(matches!(overflow, Err(Error::Overflow { missed: 1, .. })), "{overflow:?}");
    router.stop().await;
}

#[tokio::test]
async fn an_event_on_behalf_of_a_call_has_its_trace() {
    async fn announce(bus: WeakBus, call: Call) -> Result<&'static str, Failure> {
        let bus = bus.upgrade().ok_or("the bus has ended")?;
        bus.publisher("raw").header("own", "1").on_behalf_of(&call).broadcast("").await?;
        bus.topic("typed").on_behalf_of(&call).broadcast(&1).await?;
        Ok("")
    }
    let bus = Bus::local();
    let mut events = bus.subscribe("*").await.unwrap();
    let _announce = bus.register_with("/announce", bus.downgrade(), announce).await.unwrap();
    let endpoint = bus.endpoint("/announce").header("traceparent", "00-1-2-01").header("other", "");
    endpoint.call("").await.unwrap();
    let raw = events.next().await.unwrap().unwrap();
    let expected = [("own", "1"), ("traceparent", "00-1-2-01")].into_iter().collect();
    assert_eq!(raw.headers, expected);
    let typed = events.next().await.unwrap().unwrap();
    assert_eq!(typed.headers, [("traceparent", "00-1-2-01")].into_iter().collect());
}
