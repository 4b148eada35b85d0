use std::cell::Cell;
use std::collections::HashMap;

use serde::de::IgnoredAny;

use super::*;

thread_local! {
    /// How many elements were read.
    static READ: Cell<usize> = const { Cell::new(0) };
}

/// A value without memory that counts how often it is read.
#[derive(Debug)]
struct Counted;

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        READ.set(READ.get() + 1);
        IgnoredAny::deserialize(deserializer).map(|_| Counted)
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Point {
    x: f64,
    y: f64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Inner(Box<Tree>),
    Both { left: Box<Tree>, right: Box<Tree> },
    List(Vec<Tree>),
}

/// A type that contains itself and takes no byte.
#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Endless(Option<Box<Endless>>);

/// A list that allocates as much as the size hint says.
#[derive(Debug)]
struct Trusting;

impl<'de> Deserialize<'de> for Trusting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;

        impl<'de> serde::de::Visitor<'de> for Elements {
            type Value = Trusting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Trusting, A::Error> {
                let mut elements = Vec::<u8>::with_capacity(seq.size_hint().unwrap_or_default());
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(Trusting)
            }
        }

        deserializer.deserialize_seq(Elements)
    }
}

/// Decodes without the guard that turns a panic into an error.
fn flex<T: DeserializeOwned>(data: &[u8]) -> Result<T, EncodingError> {
    FlexBuffers::read(data)
}

#[track_caller]
fn refused<T: DeserializeOwned + fmt::Debug>(data: &[u8]) {
    let known = flex::<T>(data).unwrap_err();
    // The same with a custom encoding.
    let mut value: Option<T> = None;
    let erased = FlexBuffers.decode(data, &mut |deserializer| {
        value = Some(erased_serde::deserialize(deserializer)?);
        Ok(())
    });
    assert_eq!(erased.unwrap_err().to_string(), known.to_string());
}

/// Nested vectors around a blob. Each refers `times` times to the next level.
fn laughs(levels: u8, times: u8) -> Vec<u8> {
    let mut data = vec![1, b'!'];
    let mut kind = 25 << 2;
    let mut at = 1;
    for _ in 0..levels {
        data.push(times);
        let start = data.len();
        for _ in 0..times {
            data.push(u8::try_from(data.len() - at).unwrap());
        }
        data.extend(vec![kind; times.into()]);
        (kind, at) = (10 << 2, start);
    }
    data.push(u8::try_from(data.len() - at).unwrap());
    data.extend([kind, 1]);
    data
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

#[test]
fn a_vector_that_holds_itself_ends() {
    let data = hex("7a0001030100280401010528022401");
    refused::<Point>(&data);
    refused::<HashMap<String, IgnoredAny>>(&data);
    refused::<Tree>(&data);
}

#[test]
fn a_length_is_no_more_than_the_data() {
    // Vectors of every kind, a string, a blob and a map that announce 2^40 elements.
    for kind in [5, 9, 10, 11, 12, 13, 14, 25, 36] {
        let mut data = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        data.splice(0..0, [0; 12]);
        data[16..24].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        data.extend([0, kind << 2 | 3, 1]);
        refused::<Vec<()>>(&data);
        refused::<Vec<u8>>(&data);
        refused::<Trusting>(&data);
        refused::<IgnoredAny>(&data);
        refused::<String>(&data);
        refused::<HashMap<String, ()>>(&data);
    }
}

#[test]
fn no_bytes_panic() {
    let distances = ["ffffffff2804", "00ff2401", "00ff1401", "ffff0502"];
    let others =
        ["5d796b02", "", "00", "0000", "ffffffff", "01ff01", "00000008", "002504", "ff2808"];
    for data in distances.into_iter().chain(others) {
        let data = hex(data);
        let _ = flex::<Point>(&data);
        let _ = flex::<IgnoredAny>(&data);
        let _ = flex::<Tree>(&data);
        let _ = flex::<Vec<char>>(&data);
    }
    refused::<Point>(&hex("5d796b02"));
}

#[test]
fn reading_shared_values_again_is_limited() {
    READ.set(0);
    let data = laughs(3, 2);
    let value: Vec<Vec<Vec<Counted>>> = flex(&data).unwrap();
    assert_eq!((value.len(), READ.get()), (2, 8), "a little of it is");
    let data = laughs(60, 2);
    refused::<IgnoredAny>(&data);
    let data = laughs(10, 8);
    READ.set(0);
    refused::<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Counted>>>>>>>>>>>(&data);
    assert!(READ.get() <= 2 * data.len(), "{} elements", READ.get());
    // Many references to one long string.
    let mut data = vec![b'a'; 200_000];
    data.splice(0..0, 200_000_u32.to_le_bytes());
    let strings = |count: u32| {
        let mut data = data.clone();
        data.extend(count.to_le_bytes());
        let at = data.len();
        for _ in 0..count {
            data.extend(u32::try_from(data.len() - 4).unwrap().to_le_bytes());
        }
        data.extend(vec![5 << 2 | 2; count as usize]);
        data.extend(u32::try_from(data.len() - at).unwrap().to_le_bytes());
        data.extend([10 << 2 | 2, 4]);
        data
    };
    let few: Vec<String> = flex(&strings(4)).unwrap();
    assert!(few.iter().all(|text| text.len() == 200_000));
    refused::<Vec<String>>(&strings(20_000));
    refused::<IgnoredAny>(&strings(20_000));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth| {
        let tree = (0..depth).fold(Tree::Leaf, |tree, _| Tree::Inner(Box::new(tree)));
        flexbuffers::to_vec(tree).unwrap()
    };
    assert!(flex::<Tree>(&nested(128)).is_ok());
    refused::<Tree>(&nested(129));
    refused::<IgnoredAny>(&nested(1_000));
    // With the stack size of a task.
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let deep = move || assert!(flex::<Tree>(&nested(128)).is_ok());
    thread.spawn(deep).unwrap().join().unwrap();
    refused::<Endless>(&hex("050401"));
    assert!(flex::<Endless>(&hex("000001")).is_ok());
}

/// An encoding, or a message, that panics.
#[derive(Debug)]
struct Panics;

/// A payload of a panic that panics when it is dropped.
struct Worse;

impl Drop for Worse {
    fn drop(&mut self) {
        panic!("and again");
    }
}

impl Encoding for Panics {
    fn encode(&self, _: &dyn erased_serde::Serialize) -> Result<Vec<u8>, EncodingError> {
        panic!("encode {}", 1)
    }

    fn decode(&self, data: &[u8], _: &mut Read<'_>) -> Result<(), EncodingError> {
        match data {
            [] => Ok(()),
            _ => std::panic::panic_any(Worse),
        }
    }
}

impl Serialize for Panics {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("serialize")
    }
}

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("deserialize")
    }
}

#[test]
fn a_panic_is_an_error() {
    let said = |error: EncodingError| error.to_string();
    assert_eq!(said(encode(&Panics, &1).unwrap_err()), "it panicked: encode 1");
    assert_eq!(said(decode::<u8>(&Panics, b"1").unwrap_err()), "it panicked");
    assert_eq!(said(decode::<u8>(&Panics, b"").unwrap_err()), "the encoding did not read a value");
    for encoding in [&FlexBuffers as &dyn Encoding, &Json] {
        let data = encode(encoding, &1).unwrap();
        assert_eq!(said(encode(encoding, &Panics).unwrap_err()), "it panicked: serialize");
        let error = decode::<Panics>(encoding, &data).unwrap_err();
        assert_eq!(said(error), "it panicked: deserialize");
    }
}

#[test]
fn json_is_bounded_too() {
    for depth in [128, 1_000_000] {
        let lists = "[".repeat(depth) + &"]".repeat(depth);
        let error = decode::<Tree>(&Json, lists.as_bytes()).unwrap_err();
        assert!(!error.to_string().is_empty());
        let trees = "{\"Inner\":".repeat(depth);
        let error = decode::<Tree>(&Json, trees.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("recursion"), "{error}");
    }
    assert!(decode::<Point>(&Json, b"{\"x\":1,\"y\":2}{").is_err());
}

#[test]
fn an_error_is_short_and_of_one_line() {
    let long = format!("\"a\\nb{}\"", "x".repeat(1 << 20));
    let error = decode::<Tree>(&Json, long.as_bytes()).unwrap_err().to_string();
    assert!(error.len() < 600, "{} bytes", error.len());
    assert!(error.starts_with("unknown variant `a\\nbxx") && error.ends_with("x…"), "{error}");
}
