//! Typed messages that are any bytes, in each encoding: for a service, for a caller who gets them as the
//! answer or as an item of a stream, and for a subscriber.
//!
//! Nothing panics, and memory is bounded by the length of the data. What the way of known encodings
//! reads, the way of a user's encoding reads as well. What is read from FlexBuffers, the crate
//! `flexbuffers` reads as well, unless it is a form of our own, which it refuses. What was read, arrives
//! as it is when it is sent.

#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use futures::StreamExt as _;
use gsb_client::{
    Bus, Call, Encoding, EncodingError, Error, FlexBuffers, Json, Message, Read, TypedSubscription,
    erased_serde,
};
use gsb_fuzz::memory::Meter;
use libfuzzer_sys::fuzz_target;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::runtime::Runtime;

/// Whatever the data says that it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Dynamic {
    Unit,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    /// Its bits; all that are no number are one.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    Some(Box<Dynamic>),
    List(Vec<Dynamic>),
    /// In the order of the keys.
    Map(Vec<(Dynamic, Dynamic)>),
}

impl Dynamic {
    fn float(value: f64) -> Self {
        Dynamic::Float(if value.is_nan() { f64::NAN } else { value }.to_bits())
    }

    /// Whether the crate `flexbuffers` refuses a form in it.
    fn has_own_form(&self) -> bool {
        match self {
            Dynamic::Some(_) => true,
            Dynamic::List(list) => list.iter().any(Dynamic::has_own_form),
            Dynamic::Map(map) => map.iter().any(|(_, value)| value.has_own_form()),
            _ => false,
        }
    }
}

impl Serialize for Dynamic {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Dynamic::Unit => to.serialize_unit(),
            Dynamic::Bool(value) => to.serialize_bool(*value),
            Dynamic::Signed(value) => to.serialize_i64(*value),
            Dynamic::Unsigned(value) => to.serialize_u64(*value),
            Dynamic::Float(bits) => to.serialize_f64(f64::from_bits(*bits)),
            Dynamic::Text(text) => to.serialize_str(text),
            Dynamic::Bytes(bytes) => to.serialize_bytes(bytes),
            Dynamic::Some(value) => to.serialize_some(value),
            Dynamic::List(list) => list.serialize(to),
            Dynamic::Map(map) => {
                let mut to = to.serialize_map(None)?;
                for (key, value) in map {
                    to.serialize_entry(key, value)?;
                }
                to.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Dynamic {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Dynamic;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Dynamic, E> {
                Ok(Dynamic::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Dynamic, E> {
                Ok(Dynamic::Signed(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Dynamic, E> {
                Ok(Dynamic::Unsigned(value))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Dynamic, E> {
                Ok(Dynamic::float(value))
            }

            fn visit_str<E>(self, text: &str) -> Result<Dynamic, E> {
                Ok(Dynamic::Text(text.to_owned()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Dynamic, E> {
                Ok(Dynamic::Bytes(bytes.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Dynamic, E> {
                Ok(Dynamic::Unit)
            }

            fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Dynamic, D::Error> {
                Dynamic::deserialize(from).map(|value| Dynamic::Some(Box::new(value)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dynamic, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = seq.next_element()? {
                    list.push(value);
                }
                Ok(Dynamic::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Dynamic, A::Error> {
                let mut map: Vec<(Dynamic, Dynamic)> = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                map.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(Dynamic::Map(map))
            }
        }

        from.deserialize_any(Any)
    }
}

/// What has a type. Both readers of FlexBuffers read it equally if they read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Point { x: f64, y: Option<f32>, z: Option<Option<u8>> },
    New(Box<Shape>),
    Tuple(u8, i16, u32, bool),
    List(Vec<Shape>),
    Units(Vec<()>),
    Map(BTreeMap<String, Shape>),
    Text(String),
    Optional(Option<Box<Shape>>),
    Octets(Vec<u8>),
    Result(Result<u64, String>),
    Any(Dynamic),
    Tagged(Tagged),
    Untagged(Untagged),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t")]
enum Tagged {
    Empty,
    Fields {
        a: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, Dynamic>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(f64),
    Texts(Vec<String>),
    Tagged(Tagged),
}

/// What the crate `flexbuffers` cannot carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Own {
    Char(char),
    Large(i128, u128),
    ByInteger(BTreeMap<i64, Own>),
    ByChar(BTreeMap<char, u8>),
    ByOption(BTreeMap<Option<bool>, Own>),
    Nested(Option<Option<Option<()>>>),
    Chars(Vec<Option<char>>),
    Endless(Endless),
}

/// It contains itself without a byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Endless(Option<Box<Endless>>);

macro_rules! message {
    ($($type:ident)*) => {
        $(impl Message for $type {
            const ID: &'static str = stringify!($type);
            type Item = $type;
            type Error = $type;
        })*
    };
}

message! { Dynamic Shape Own }

/// An encoding of a user.
#[derive(Debug)]
struct Users<E>(E);

impl<E: Encoding> Encoding for Users<E> {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, EncodingError> {
        self.0.encode(value)
    }

    fn decode(&self, data: &[u8], read: &mut Read<'_>) -> Result<(), EncodingError> {
        self.0.decode(data, read)
    }
}

thread_local! {
    /// What the service of bytes answers.
    static ANSWER: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// A bus with a service, a caller and a subscriber for messages of a type.
struct Typed<M: Message> {
    bus: Bus,
    events: TypedSubscription<M>,
}

impl<M: Message<Item = M, Error = M> + Clone + PartialEq + fmt::Debug> Typed<M> {
    async fn new(bus: &Bus) -> Self {
        let echo = |message: M| async { Ok(message) };
        bus.bind("typed", echo).await.expect("a free name").detach();
        let raw = |_: Call| async { Ok(ANSWER.with_borrow(Bytes::clone)) };
        bus.register(&format!("raw/{}", M::ID), raw).await.expect("a free name").detach();
        let events = bus.topic(M::ID).subscribe().await.expect("a topic");
        Typed { bus: bus.clone(), events }
    }

    /// What the data says, if it is a message.
    async fn read(&mut self, data: &Bytes, example: &M) -> Option<M> {
        let bus = &self.bus;
        let answer = bus.call(&format!("typed/{}", M::ID), data.clone()).await;
        // The answer is one level deeper, and may be too deep.
        let is_message = match &answer {
            Ok(_) | Err(Error::ServiceFailure { .. }) => true,
            Err(Error::BadRequest { .. }) => false,
            Err(error) => panic!("{error}"),
        };

        ANSWER.set(data.clone());
        let service = bus.service("raw");
        let answer = service.call(example.clone()).await;
        assert!(matches!(answer, Ok(_) | Err(Error::Decoding { .. })), "{answer:?}");
        let items: Vec<_> =
            service.stream(example.clone()).await.expect("a stream").collect().await;
        assert_eq!(items.len(), usize::from(!data.is_empty()));
        assert!(items.iter().all(|item| is_same(item, &answer)), "{items:?}, {answer:?}");

        bus.broadcast(M::ID, data.clone()).await.expect("an event");
        let event = match self.events.next().await.expect("an event") {
            Ok(event) => Some(event.body),
            Err(Error::Decoding { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(event.is_some(), is_message);
        if let Some(message) = &event {
            self.send(message).await;
        }
        event
    }

    /// What is sent, arrives.
    async fn send(&mut self, message: &M) {
        match self.bus.topic(M::ID).broadcast(message).await {
            Ok(_) => {
                let event = self.events.next().await.expect("an event");
                let received = event.expect("what was sent").body;
                assert!(is_same(&received, message), "{received:?}, not {message:?}");
            }
            Err(Error::Encoding { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether two values are equal, or differ only in NaN, which equals nothing.
fn is_same<T: PartialEq + fmt::Debug>(a: &T, b: &T) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}

/// The three kinds of messages in one encoding.
struct Encoded {
    dynamic: Typed<Dynamic>,
    shape: Typed<Shape>,
    own: Typed<Own>,
}

type AllRead = (Option<Dynamic>, Option<Shape>, Option<Own>);

impl Encoded {
    async fn new(encoding: impl Encoding) -> Self {
        let bus = Bus::builder().encoding(encoding).local();
        Encoded {
            dynamic: Typed::new(&bus).await,
            shape: Typed::new(&bus).await,
            own: Typed::new(&bus).await,
        }
    }

    async fn read(&mut self, data: &Bytes) -> AllRead {
        (
            self.dynamic.read(data, &Dynamic::Unit).await,
            self.shape.read(data, &Shape::Empty).await,
            self.own.read(data, &Own::Char('a')).await,
        )
    }
}

struct World {
    runtime: Runtime,
    flex: [Encoded; 2],
    json: [Encoded; 2],
}

impl World {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().build().expect("a runtime");
        let (flex, json) = runtime.block_on(async {
            let flex = [Encoded::new(FlexBuffers).await, Encoded::new(Users(FlexBuffers)).await];
            (flex, [Encoded::new(Json).await, Encoded::new(Users(Json)).await])
        });
        World { runtime, flex, json }
    }

    fn run(&mut self, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        self.runtime.block_on(async {
            let [known, users] = &mut self.flex;
            let read = known.read(&data).await;
            let other = users.read(&data).await;
            assert!(is_same(&read, &other), "{read:?}, {other:?}");
            beside_the_crate(&data, &read);
            let [known, users] = &mut self.json;
            let (read, other) = (known.read(&data).await, users.read(&data).await);
            assert!(is_same(&read, &other), "{read:?}, {other:?}");
        });
    }
}

fn beside_the_crate(data: &[u8], (dynamic, shape, _): &AllRead) {
    fn theirs<T: DeserializeOwned>(data: &[u8]) -> Option<T> {
        flexbuffers::from_slice(data).ok()
    }
    if let Some(ours) = dynamic {
        let theirs = theirs::<Dynamic>(data);
        match ours.has_own_form() {
            true => assert_eq!(theirs, None),
            false => assert_eq!(theirs.as_ref(), Some(ours)),
        }
    }
    if let Some(ours) = shape
        && let Some(theirs) = theirs::<Shape>(data)
    {
        assert!(is_same(&theirs, ours), "{theirs:?}, {ours:?}");
    }
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// How much memory is taken, in bytes, besides what follows from the length of the data: text that is shared
/// in small data, several times.
const MOST: usize = 1 << 20;

/// How much memory is allowed, in bytes for each byte of the data. An element of one byte becomes a value of
/// 32 bytes, in lists that grow by doubling, more than once: where the data is looked at first, what was
/// expected and what was found is kept.
const FACTOR: usize = 1000;

fuzz_target!(|data: &[u8]| {
    // The world is made the first time.
    WORLD.with_borrow_mut(|world| {
        let meter = Meter::start();
        world.run(data);
        assert!(meter.peak() <= MOST + FACTOR * data.len(), "{} bytes of memory", meter.peak());
    });
});
