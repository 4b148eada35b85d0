//! Data that is not a valid message, wherever typed messages are decoded: the process and the connection are unharmed,
//! and the receiver gets an error.

use std::collections::HashMap;
use std::fmt;

use futures::{StreamExt as _, stream};
use gsb_client::{
    Bus, BusBuilder, Call, Encoding, EncodingError, Error, FlexBuffers, Json, Message, Read,
    erased_serde,
};
use gsb_testkit::{TestRouter, within};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
}

impl Message for Point {
    const ID: &'static str = "point";
    type Item = Tree;
    type Error = Tree;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Inner(Box<Tree>),
    List(Vec<Tree>),
    Map(HashMap<String, Tree>),
    Nothing(Vec<()>),
}

/// A custom encoding: FlexBuffers that check the data first.
#[derive(Debug)]
struct Careless;

impl Encoding for Careless {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, EncodingError> {
        FlexBuffers.encode(value)
    }

    fn decode(&self, data: &[u8], read: &mut Read<'_>) -> Result<(), EncodingError> {
        assert_ne!(data.first(), Some(&0x5d), "not that");
        FlexBuffers.decode(data, read)
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// Data that must not be decoded as a point, nor as the reply to one.
fn hostile() -> Vec<Vec<u8>> {
    let mut all: Vec<_> = [
        // A field whose vector holds itself; the same in a variant.
        "7a0001030100280401010528022401",
        "4f6b000103010028040101052402 2401",
        // Vectors that announce 2^40 elements: untyped ones, integers, and elements without bytes.
        "0000000000000000000000000001000000000000002801",
        "00000000000100000000000000012b01",
        "0000000000000000000000000100000000000000002f01",
        // Distances to a position outside the data.
        "5d796b02",
        "ffffffff2804",
        "00ff2401",
        "",
        "00",
        "000001",
    ]
    .map(hex)
    .into();
    all.push("[".repeat(100_000).into());
    all.push("{\"Inner\":".repeat(100_000).into());
    // A vector of two times a vector of two times …
    let mut data = vec![0];
    let (mut kind, mut at) = (0, 0);
    for _ in 0..100 {
        data.push(2);
        let start = data.len();
        for _ in 0..2 {
            data.push(u8::try_from(data.len() - at).unwrap());
        }
        data.extend([kind, kind]);
        (kind, at) = (10 << 2, start);
    }
    data.push(u8::try_from(data.len() - at).unwrap());
    data.extend([kind, 1]);
    all.push(data);
    all
}

fn builders() -> [fn() -> BusBuilder; 3] {
    [
        || Bus::builder().encoding(FlexBuffers),
        || Bus::builder().encoding(Json),
        || Bus::builder().encoding(Careless),
    ]
}

async fn flat(_: Point) -> Result<Tree, Tree> {
    Ok(Tree::Leaf)
}

const POINT: Point = Point { x: 1.0, y: 2.0 };

#[track_caller]
fn is_bad(result: Result<impl fmt::Debug, Error>) {
    assert!(matches!(result, Err(Error::BadRequest { .. })), "{result:?}");
}

#[track_caller]
fn does_not_decode(result: Result<impl fmt::Debug, Error>) {
    let Err(Error::Decoding { from, error }) = result else {
        panic!("{result:?}");
    };
    assert!(!from.is_empty() && error.to_string().len() < 600, "{error}");
}

/// A service, a caller and a subscriber use typed messages on the bus `typed`; `raw` sends arbitrary data to each.
async fn all_places(typed: &Bus, raw: &Bus) {
    let _call = typed.bind("/flat", flat).await.unwrap();
    let _stream = typed.bind_stream("/many", |p| stream::once(flat(p))).await.unwrap();
    let (sender, mut pushed) = mpsc::unbounded_channel();
    let note = move |point: Point| {
        sender.send(point).unwrap();
        flat(POINT)
    };
    let _push = typed.bind("/pushed", note).await.unwrap();
    let mut events = typed.topic::<Point>("events").subscribe().await.unwrap();
    let (sender, mut seen) = mpsc::unbounded_channel();
    let detached = typed.topic::<Point>("events").subscribe().await.unwrap();
    detached.detach(move |event| {
        sender.send(event.map(|event| event.body)).unwrap();
        async {}
    });

    for data in hostile() {
        let to = |address: &'static str| raw.endpoint(address);
        is_bad(within("an answer", to("/flat/point").call(data.clone())).await);
        is_bad(within("an answer", to("/many/point").call(data.clone())).await);
        let mut items = to("/many/point").stream(data.clone()).await.unwrap();
        is_bad(within("an item", items.next()).await.unwrap());
        to("/pushed/point").push(data.clone()).await.unwrap();
        raw.broadcast("events", data.clone()).await.unwrap();
        does_not_decode(within("an event", events.next()).await.unwrap());
        does_not_decode(within("an event", seen.recv()).await.unwrap());

        let says = data.clone();
        let liar = move |_: Call| {
            let says = says.clone();
            async move { Ok(says) }
        };
        let liar = raw.register("/liar", liar).await.unwrap();
        let service = typed.service("/liar");
        does_not_decode(within("an answer", service.call(POINT)).await);
        // An empty reply is no item of a stream.
        if !data.is_empty() {
            let mut items = service.stream(POINT).await.unwrap();
            does_not_decode(within("an item", items.next()).await.unwrap());
        }
        liar.unregister().await.unwrap();
    }

    // Valid messages are still handled.
    let good = encoded(typed, &POINT).await;
    assert!(!raw.call("/flat/point", good.clone()).await.unwrap().is_empty());
    raw.push("/pushed/point", good.clone()).await.unwrap();
    assert_eq!(within("a push", pushed.recv()).await, Some(POINT));
    raw.broadcast("events", good).await.unwrap();
    assert_eq!(within("an event", events.next()).await.unwrap().unwrap().body, POINT);
    assert_eq!(within("an event", seen.recv()).await.unwrap().unwrap(), POINT);
    assert!(pushed.try_recv().is_err());
}

/// A value in the encoding of `bus`.
async fn encoded(bus: &Bus, value: &impl Serialize) -> bytes::Bytes {
    let mut events = bus.subscribe("values").await.unwrap();
    bus.topic("values").broadcast(value).await.unwrap();
    within("an event", events.next()).await.unwrap().unwrap().data
}

#[tokio::test]
async fn over_a_router() {
    let router = TestRouter::start().await;
    for builder in builders() {
        let typed = builder().connect(&router.unix).await.unwrap();
        let raw = Bus::connect(&router.tcp).await.unwrap();
        all_places(&typed, &raw).await;
    }
    router.stop().await;
}

#[tokio::test]
async fn within_a_process() {
    for builder in builders() {
        let bus = builder().local();
        all_places(&bus, &bus).await;
    }
}

/// A message whose own code panics.
#[derive(Debug, Clone, Copy)]
enum Panics {
    Serialized,
    Deserialized,
}

impl Message for Panics {
    const ID: &'static str = "panics";
    type Item = Panics;
    type Error = ();
}

impl Serialize for Panics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Panics::Serialized => panic!("cannot be written"),
            Panics::Deserialized => serializer.serialize_bool(true),
        }
    }
}

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => panic!("cannot be read"),
            false => Ok(Panics::Serialized),
        }
    }
}

/// A panic in the code of a message is an error for the code that uses the message.
#[tokio::test]
async fn messages_that_panic() {
    let router = TestRouter::start().await;
    for builder in builders() {
        let bus = builder().connect(&router.unix).await.unwrap();
        let other = builder().connect(&router.unix).await.unwrap();
        let _service = bus.bind("/s", |message: Panics| async move { Ok(message) }).await.unwrap();
        let service = other.service("/s");
        let error = service.call(Panics::Serialized).await.unwrap_err();
        assert!(matches!(error, Error::Encoding { .. }), "{error}");
        assert!(error.to_string().contains("it panicked: cannot be written"), "{error}");
        is_bad(service.call(Panics::Deserialized).await);
        // A reply that cannot be encoded fails its call.
        let readable = encoded(&other, &false).await;
        let error = other.call("/s/panics", readable).await.unwrap_err();
        assert!(matches!(error, Error::ServiceFailure { .. }), "{error}");
        assert!(error.to_string().contains("it panicked: cannot be written"), "{error}");
        let mut events = bus.topic::<Panics>("p").subscribe().await.unwrap();
        let error = other.topic("p").broadcast(&Panics::Serialized).await.unwrap_err();
        assert!(matches!(error, Error::Encoding { .. }), "{error}");
        other.topic("p").broadcast(&Panics::Deserialized).await.unwrap();
        does_not_decode(within("an event", events.next()).await.unwrap());
        other.topic("p").broadcast(&Panics::Deserialized).await.unwrap();
        does_not_decode(within("an event", events.next()).await.unwrap());
    }
    router.stop().await;
}
