//! Large messages are encoded and decoded on threads for blocking work, small ones in place. Bytes take little more
//! memory than their length.

use std::sync::Mutex;
use std::thread::{self, ThreadId};

use futures::{TryStreamExt as _, stream};
use gsb_client::{Bus, Encoding as _, FlexBuffers, Json, Message};
use gsb_testkit::TestRouter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The threads on which messages were decoded and encoded since the last check.
static THREADS: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, PartialEq)]
struct Data(Vec<u8>);

impl Message for Data {
    const ID: &'static str = "data";
    type Item = Data;
    type Error = ();
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let result = self.0.serialize(serializer);
        if result.is_ok() {
            THREADS.lock().unwrap().push(thread::current().id());
        }
        result
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        THREADS.lock().unwrap().push(thread::current().id());
        Vec::deserialize(deserializer).map(Data)
    }
}

/// How often messages were decoded or encoded on this thread, and on other threads.
fn here_and_elsewhere() -> (usize, usize) {
    let threads = std::mem::take(&mut *THREADS.lock().unwrap());
    let here = threads.iter().filter(|thread| **thread == thread::current().id()).count();
    (here, threads.len() - here)
}

// The runtime has one thread.
#[tokio::test]
async fn large_messages_hold_up_no_tasks() {
    let router = TestRouter::start().await;
    for json in [false, true] {
        let builder = || match json {
            true => Bus::builder().encoding(Json),
            false => Bus::builder().encoding(FlexBuffers),
        };
        let service = builder().connect(&router.unix).await.unwrap();
        let caller = builder().connect(&router.unix).await.unwrap();
        let _call = service.bind("/call", |data: Data| async { Ok(data) }).await.unwrap();
        let twice = |data: Data| stream::iter([Ok(data.clone()), Ok(data)]);
        let _stream = service.bind_stream("/stream", twice).await.unwrap();

        let small = Data(vec![7; 100]);
        assert_eq!(caller.service("/call").call(small.clone()).await.unwrap(), Ok(small));
        assert_eq!(here_and_elsewhere(), (4, 0), "the message and the answer, at both ends");

        let large = Data(vec![7; 200_000]);
        assert_eq!(caller.service("/call").call(large.clone()).await.unwrap(), Ok(large.clone()));
        assert_eq!(here_and_elsewhere(), (0, 4));

        let items = caller.service("/stream").stream(large.clone()).await.unwrap();
        let items: Vec<_> = items.try_collect().await.unwrap();
        assert_eq!(items, [Ok(large.clone()), Ok(large)]);
        // A request for a stream is decoded in place.
        assert_eq!(here_and_elsewhere(), (1, 5));
    }
    router.stop().await;
}

/// Bytes as `serde_bytes` writes them.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

const LENGTH: usize = 1 << 20;

#[test]
fn bytes_take_one_byte_each() {
    for length in [0, 1, 300, LENGTH] {
        let data = FlexBuffers.encode(&Bytes(vec![7; length])).unwrap();
        assert!(data.len() <= length + 16, "{} bytes for {length}", data.len());
    }
}

#[test]
fn a_list_of_bytes_is_encoded_in_little_memory() {
    let list = vec![7_u8; LENGTH];
    let memory = allocation_counter::measure(|| {
        let data = FlexBuffers.encode(&list).unwrap();
        assert!(data.len() <= 4 * LENGTH + 16, "{} bytes", data.len());
    });
    // The data with 4 bytes per element, which doubles its buffer while it grows, and a copy of the list.
    assert!(memory.bytes_max <= 16 * LENGTH as u64, "{} bytes", memory.bytes_max);
}
