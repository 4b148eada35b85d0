//! How a stream of replies ends.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{Call, Error, Failure, Message, Reply, ReplyStream};
use serde::{Deserialize, Serialize};

use crate::setup::World;

cases!(
    complete,
    empty_stream,
    one_reply_as_stream,
    headers,
    failed,
    bad_request,
    panic,
    no_such_service,
    timeout_of_an_item,
    typed_items,
);

/// The items of a stream, and the error with which it ends.
async fn read(mut replies: ReplyStream) -> (Vec<Bytes>, Option<Error>) {
    let mut items = Vec::new();
    while let Some(item) = replies.next().await {
        match item {
            Ok(item) => items.push(item),
            Err(error) => {
                assert!(replies.next().await.is_none(), "an error is the end");
                return (items, Some(error));
            }
        }
    }
    assert!(replies.next().await.is_none(), "the end is the end");
    (items, None)
}

/// Registers a stream of one item and an end, and reads it.
async fn read_one_and(world: &World, end: Failure) -> (Vec<Bytes>, Option<Error>) {
    let items = move |_: Call| stream::iter([Ok(Bytes::from("one")), Err(end.clone())]);
    let _service = world.service.register_stream("/s", items).await.unwrap();
    read(world.caller.stream("/s", "").await.unwrap()).await
}

async fn complete(world: &World) {
    let count = |_: Call| stream::iter((0..1000).map(|number| Ok(number.to_string())));
    let _service = world.service.register_stream("/s", count).await.unwrap();
    let (items, error) = read(world.caller.stream("/s", "").await.unwrap()).await;
    assert_eq!(error, None);
    assert!(items.iter().zip(0..).all(|(item, number)| *item == number.to_string()));
    assert_eq!(items.len(), 1000);
}

async fn empty_stream(world: &World) {
    let none = |_: Call| stream::empty::<Result<Bytes, Failure>>();
    let _service = world.service.register_stream("/s", none).await.unwrap();
    let (items, error) = read(world.caller.stream("/s", "").await.unwrap()).await;
    assert_eq!((items.len(), error), (0, None));
}

async fn one_reply_as_stream(world: &World) {
    let _service = world.service.register("/s", |_: Call| async { Ok("one") }).await.unwrap();
    let (items, error) = read(world.caller.stream("/s", "").await.unwrap()).await;
    assert_eq!((items, error), (vec![Bytes::from("one")], None));
}

// Each reply has its own. A reply without data is one if it has headers.
async fn headers(world: &World) {
    let parts = |_: Call| {
        let part = |number: u32| Reply::new(number.to_string()).header("part", number.to_string());
        stream::iter([Ok(part(1)), Ok(Reply::new("plain")), Ok(part(2))])
    };
    let _parts = world.service.register_stream("/parts", parts).await.unwrap();
    let one = |_: Call| async { Ok(Reply::default().header("part", "1")) };
    let _one = world.service.register("/one", one).await.unwrap();
    for (address, wait, expected) in [
        ("/parts", Duration::ZERO, &[("1", Some("1")), ("plain", None), ("2", Some("2"))][..]),
        ("/parts", Duration::from_secs(9), &[("1", Some("1")), ("plain", None), ("2", Some("2"))]),
        ("/one", Duration::ZERO, &[("", Some("1"))]),
    ] {
        let endpoint = world.caller.endpoint(address).wait_for_service(wait);
        let mut replies = endpoint.stream("").await.unwrap();
        assert!(replies.headers().is_empty());
        for (data, part) in expected {
            assert_eq!(replies.next().await.unwrap().unwrap(), *data);
            assert_eq!(replies.headers().text("part"), *part);
        }
        assert!(replies.next().await.is_none());
    }
}

async fn failed(world: &World) {
    let (items, error) = read_one_and(world, Failure::new("it broke")).await;
    let (address, message) = ("/s".to_owned(), "it broke".to_owned());
    assert_eq!(items, ["one"]);
    assert_eq!(error, Some(Error::ServiceFailure { address, message }));
}

async fn bad_request(world: &World) {
    let (items, error) = read_one_and(world, Failure::bad_request("not like this")).await;
    let (target, message) = ("/s".to_owned(), "not like this".to_owned());
    assert_eq!(items, ["one"]);
    assert_eq!(error, Some(Error::BadRequest { target, message }));
}

async fn panic(world: &World) {
    let panics = |_: Call| {
        stream::iter(0..2).map(|number| match number {
            0 => Ok("one"),
            _ => panic!("on purpose"),
        })
    };
    let _service = world.service.register_stream("/s", panics).await.unwrap();
    let (items, error) = read(world.caller.stream("/s", "").await.unwrap()).await;
    let (address, message) = ("/s".to_owned(), "its handler panicked".to_owned());
    assert_eq!(items, ["one"]);
    assert_eq!(error, Some(Error::ServiceFailure { address, message }));
}

// The error comes from `stream`, or as the last item.
async fn no_such_service(world: &World) {
    let error = match world.caller.stream("/s", "").await {
        Ok(replies) => read(replies).await.1.unwrap(),
        Err(error) => error,
    };
    assert!(matches!(&error, Error::NoSuchService { address, .. } if address == "/s"), "{error}");
}

async fn timeout_of_an_item(world: &World) {
    let pauses = |_: Call| stream::iter([Ok("one")]).chain(stream::pending());
    let _service = world.service.register_stream("/s", pauses).await.unwrap();
    // The first item has to come in this time on a busy machine.
    let after = Duration::from_millis(800);
    let endpoint = world.caller.endpoint("/s").timeout(after);
    let (items, error) = read(endpoint.stream("").await.unwrap()).await;
    assert_eq!(items, ["one"]);
    assert_eq!(error, Some(Error::Timeout { target: "/s".to_owned(), after }));
}

#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "halves", item = u32, error = String)]
struct Halves(Vec<u32>);

// An item that is an error does not end the stream.
async fn typed_items(world: &World) {
    let half = |number: u32| match number % 2 {
        0 => Ok(number / 2),
        _ => Err(format!("{number} is odd")),
    };
    let halves = move |Halves(numbers)| stream::iter(numbers.into_iter().map(half));
    let _service = world.service.bind_stream("/s", halves).await.unwrap();
    let items = world.caller.service("/s").stream(Halves(vec![2, 3, 4])).await.unwrap();
    let items: Vec<_> = items.try_collect().await.unwrap();
    assert_eq!(items, [Ok(1), Err("3 is odd".to_owned()), Ok(2)]);
}
