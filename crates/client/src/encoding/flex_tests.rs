//! Compatibility with the crate `flexbuffers`: both read and write the same data, where that crate is correct.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::encoding::{EncodingError, FlexBuffers};

/// Values that the crate supports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Value {
    Empty,
    Unit(()),
    Bool(bool),
    Signed(i8, i16, i32, i64),
    Unsigned(u8, u16, u32, u64),
    Float(f32),
    Double { value: f64 },
    Latin(char),
    Text(String),
    Optional(Option<Box<Value>>),
    List(Vec<Value>),
    Octets(Vec<u8>),
    Integers(Vec<i64>),
    Shorts(Vec<u16>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
    Tuple(Box<(Value, Value)>),
    Map(BTreeMap<String, Value>),
    Result(Result<Box<Value>, String>),
    Fields { a_long_name_of_a_field: Box<Value>, b: u8 },
}

fn value() -> impl Strategy<Value = Value> {
    let key = "[a-zé]{0,9}";
    let leaf = prop_oneof![
        Just(Value::Empty),
        Just(Value::Unit(())),
        any::<bool>().prop_map(Value::Bool),
        any::<(i8, i16, i32, i64)>().prop_map(|(a, b, c, d)| Value::Signed(a, b, c, d)),
        any::<(u8, u16, u32, u64)>().prop_map(|(a, b, c, d)| Value::Unsigned(a, b, c, d)),
        any::<f32>().prop_map(Value::Float),
        any::<f64>().prop_map(|value| Value::Double { value }),
        any::<u8>().prop_map(|latin| Value::Latin(latin.into())),
        ".{0,20}".prop_map(Value::Text),
        "x{250,260}".prop_map(Value::Text),
        vec(any::<u8>(), 0..6).prop_map(Value::Octets),
        vec(any::<u8>(), 250..260).prop_map(Value::Octets),
        vec(prop_oneof![-3..3_i64, any::<i64>()], 0..6).prop_map(Value::Integers),
        vec(250..260_u16, 0..6).prop_map(Value::Shorts),
        vec(prop_oneof![Just(0.5), any::<f64>()], 0..6).prop_map(Value::Floats),
        vec(any::<bool>(), 0..6).prop_map(Value::Bools),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            proptest::option::of(boxed.clone()).prop_map(Value::Optional),
            vec(inner.clone(), 0..9).prop_map(Value::List),
            (inner.clone(), inner.clone()).prop_map(|pair| Value::Tuple(Box::new(pair))),
            btree_map(key, inner.clone(), 0..9).prop_map(Value::Map),
            proptest::result::maybe_ok(boxed.clone(), ".{0,3}").prop_map(Value::Result),
            (boxed, any::<u8>())
                .prop_map(|(value, b)| Value::Fields { a_long_name_of_a_field: value, b }),
        ]
    })
}

fn encode(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, EncodingError> {
    Ok(to_vec(value, usize::MAX)?.unwrap().data)
}

fn read(data: &[u8]) -> Result<Value, EncodingError> {
    FlexBuffers::read(data)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn the_bytes_are_those_of_the_crate(value in value()) {
        let theirs = flexbuffers::to_vec(&value).unwrap();
        prop_assert_eq!(&encode(&value).unwrap(), &theirs);
        prop_assert_eq!(&read(&theirs).unwrap(), &value);
    }
}

#[test]
fn large_values_are_those_of_the_crate() {
    let keys: BTreeMap<String, u32> = (0..3000).map(|at| (format!("key {at}"), at)).collect();
    assert_eq!(encode(&keys).unwrap(), flexbuffers::to_vec(&keys).unwrap());
    for length in [255, 256, 70_000] {
        let octets = vec![7_u8; length];
        assert_eq!(encode(&octets).unwrap(), flexbuffers::to_vec(&octets).unwrap());
        let mut integers = vec![7_u64; length];
        integers[length / 2] = u64::MAX;
        assert_eq!(encode(&integers).unwrap(), flexbuffers::to_vec(&integers).unwrap());
        let points: Vec<_> = (0..length)
            .map(|b| Value::Fields { a_long_name_of_a_field: Value::Empty.into(), b: b as u8 })
            .collect();
        assert_eq!(encode(&points).unwrap(), flexbuffers::to_vec(&points).unwrap());
        let lists: Vec<_> = (0..length).map(|at| vec![Some(at), None]).collect();
        assert_eq!(encode(&lists).unwrap(), flexbuffers::to_vec(&lists).unwrap());
    }
}

/// For a value that the crate does not support, a peer that uses the crate must get an error, not another value.
#[test]
fn the_crate_refuses_forms_of_our_own() {
    fn refused<T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(value: T) {
        let data = encode(&value).unwrap();
        assert_eq!(FlexBuffers::read::<T>(&data).unwrap(), value);
        let theirs = flexbuffers::from_slice::<T>(&data);
        assert!(theirs.is_err(), "{value:?} became {theirs:?}");
    }
    refused(Some(None::<u8>));
    refused(Some(Some(None::<Vec<u8>>)));
    refused(vec![Some(None::<u8>), Some(None)]);
    refused([Some(())]);
    refused(u128::MAX);
    refused(i128::MIN);
    refused(BTreeMap::from([(1, 2)]));
    refused(BTreeMap::from([(true, 2), (false, 1)]));
    refused(BTreeMap::from([('a', 2)]));
    refused(BTreeMap::from([("a\0b".to_owned(), 2), ("a".to_owned(), 1)]));
    refused(BTreeMap::from([((1, 'c'), "x".to_owned())]));
    refused(BTreeMap::from([(None, 1), (Some(1), 2)]));
    refused(BTreeMap::from([(Ok::<u8, String>(1), 1)]));
}

#[test]
fn values_without_a_form_are_refused() {
    #[derive(Serialize)]
    struct Twice {
        #[serde(rename = "same")]
        a: u8,
        #[serde(rename = "same")]
        b: u8,
    }
    #[derive(Serialize)]
    struct Nul {
        #[serde(rename = "a\0b")]
        a: u8,
    }
    #[derive(Serialize)]
    enum Variant {
        #[serde(rename = "a\0b")]
        A(u8),
    }
    let said = |value: &dyn erased_serde::Serialize| encode(value).unwrap_err().to_string();
    assert_eq!(said(&Twice { a: 1, b: 2 }), "the key \"same\" occurs twice");
    assert_eq!(said(&Nul { a: 1 }), "the name \"a\\0b\" contains a NUL");
    assert_eq!(said(&Variant::A(1)), "the name \"a\\0b\" contains a NUL");
    let deep =
        (0..128).fold(Value::Empty, |value, _| Value::Tuple(Box::new((value, Value::Empty))));
    assert_eq!(said(&deep), "values are nested more than 128 levels deep");
}

/// Long keys are shared only up to the limit for text of a decoder.
#[test]
fn written_data_can_be_read() {
    let long = "x".repeat(40_000);
    let maps = vec![BTreeMap::from([(long, 1_u8)]); 300];
    let data = encode(&maps).unwrap();
    assert_eq!(FlexBuffers::read::<Vec<BTreeMap<String, u8>>>(&data).unwrap(), maps);
    assert_eq!(flexbuffers::from_slice::<Vec<BTreeMap<String, u8>>>(&data).unwrap(), maps);
    assert!(data.len() < 4_000_000, "{} bytes", data.len());
}

#[test]
fn nothing_is_encoded_beyond_a_limit() {
    let limit = 1000;
    for value in
        [&vec![1_u8; 1001] as &dyn erased_serde::Serialize, &"x".repeat(1000), &vec!["y"; 500]]
    {
        assert!(to_vec(value, limit).unwrap().is_none());
    }
    assert!(to_vec(&vec![1_u8; 400], limit).unwrap().is_some());
}
