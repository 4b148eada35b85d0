//! Typed messages, streams and events.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{Bus, Error, FlexBuffers, Json, Message};
use gsb_testkit::{TestRouter, within};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Divide {
    dividend: i64,
    divisor: i64,
    note: Option<String>,
}

impl Message for Divide {
    const ID: &'static str = "divide";
    type Item = i64;
    type Error = Trouble;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Trouble {
    ByZero,
    NotWhole { rest: i64 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Count(u32);

impl Message for Count {
    const ID: &'static str = "count";
    type Item = u32;
    type Error = String;
}

fn divide(dividend: i64, divisor: i64) -> Divide {
    Divide { dividend, divisor, note: Some("…".into()) }
}

async fn answer(Divide { dividend, divisor, .. }: Divide) -> Result<i64, Trouble> {
    match dividend.checked_rem(divisor) {
        None => Err(Trouble::ByZero),
        Some(0) => Ok(dividend / divisor),
        Some(rest) => Err(Trouble::NotWhole { rest }),
    }
}

#[tokio::test]
async fn answers_and_errors_have_types() {
    let router = TestRouter::start().await;
    for json in [false, true] {
        let builder = || match json {
            true => Bus::builder().encoding(Json),
            false => Bus::builder().encoding(FlexBuffers),
        };
        let bus = builder().connect(&router.unix).await.unwrap();
        let registration = bus.bind("/math", answer).await.unwrap();
        assert_eq!(registration.service_id(), "/math/divide");
        let caller = builder().connect(&router.tcp).await.unwrap();
        let math = caller.service("/math");
        assert_eq!(math.call(divide(6, 3)).await.unwrap(), Ok(2));
        assert_eq!(math.call(divide(6, 0)).await.unwrap(), Err(Trouble::ByZero));
        assert_eq!(math.call(divide(7, 3)).await.unwrap(), Err(Trouble::NotWhole { rest: 1 }));
        assert!(matches!(math.call(Count(1)).await, Err(Error::NoSuchService { .. })));
    }
    router.stop().await;
}

#[tokio::test]
async fn the_caller_is_told() {
    let router = TestRouter::start().await;
    let server = Bus::connect(&router.unix).await.unwrap();
    let bus = Bus::builder().name("/tester").connect(&router.unix).await.unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    let handler = move |caller: String, Count(number)| {
        sender.send((caller, number)).unwrap();
        async move { Ok(number) }
    };
    let _count = server.bind_with_caller("/s", handler).await.unwrap();
    let service = bus.service("/s");
    assert_eq!(service.call(Count(1)).await.unwrap(), Ok(1));
    assert_eq!(service.call_as("/me", Count(2)).await.unwrap(), Ok(2));
    service.push(Count(3)).await.unwrap();
    for expected in [("/tester", 1), ("/me", 2), ("/tester", 3)] {
        let (caller, number) = within("a call", received.recv()).await.unwrap();
        assert_eq!((caller.as_str(), number), expected);
    }
    router.stop().await;
}

#[tokio::test]
async fn streams_have_types() {
    let router = TestRouter::start().await;
    let server = Bus::connect(&router.unix).await.unwrap();
    let bus = Bus::connect(&router.unix).await.unwrap();
    let count = |Count(to)| {
        stream::iter((1..=to).map(|n| if n == 3 { Err("three".to_owned()) } else { Ok(n) }))
    };
    let _count = server.bind_stream("/s", count).await.unwrap();
    let items = bus.service("/s").stream(Count(4)).await.unwrap();
    let items: Vec<_> = items.try_collect().await.unwrap();
    assert_eq!(items, [Ok(1), Ok(2), Err("three".to_owned()), Ok(4)]);
    // A call to a service that answers with a stream fails with its own error.
    assert!(matches!(bus.service("/s").call(Count(2)).await, Err(Error::IsStream { .. })));
    router.stop().await;
}

#[tokio::test]
async fn data_that_does_not_decode_is_an_error_that_says_so() {
    let router = TestRouter::start().await;
    let server = Bus::connect(&router.unix).await.unwrap();
    let bus = Bus::connect(&router.unix).await.unwrap();
    let _divide = server.bind("/math", answer).await.unwrap();
    for nonsense in ["", "nonsense", "\0\0\0\0\0\0\0\0\u{1}\u{2}\u{3}"] {
        let error = bus.call("/math/divide", nonsense).await.unwrap_err();
        assert!(matches!(error, Error::BadRequest { .. }), "{error}");
        assert!(error.to_string().contains("divide"), "{error}");
    }
    let _liar = server.register("/liar", |_| async { Ok("no integer") }).await.unwrap();
    let error = bus.service("/liar").call(Count(1)).await.unwrap_err();
    assert!(matches!(&error, Error::Decoding { from, .. } if from == "/liar/count"), "{error}");
    let mut items = bus.service("/liar").stream(Count(1)).await.unwrap();
    assert!(matches!(items.next().await, Some(Err(Error::Decoding { .. }))));
    assert!(items.next().await.is_none());
    router.stop().await;
}

#[tokio::test]
async fn events_have_types() {
    let router = TestRouter::start().await;
    let sender = Bus::connect(&router.unix).await.unwrap();
    let bus = Bus::connect(&router.unix).await.unwrap();
    let mut events = bus.topic::<Divide>("math/*").subscribe().await.unwrap();
    sender.broadcast("math/wrong", "nonsense").await.unwrap();
    sender.topic("math/right").broadcast(&divide(1, 2)).await.unwrap();
    let wrong = within("an event", events.next()).await.unwrap();
    assert!(matches!(wrong, Err(Error::Decoding { .. })), "not the end");
    let event = within("an event", events.next()).await.unwrap().unwrap();
    assert_eq!((event.topic.as_str(), &event.body), ("math/right", &divide(1, 2)));
    events.unsubscribe().await.unwrap();
    router.stop().await;
}
