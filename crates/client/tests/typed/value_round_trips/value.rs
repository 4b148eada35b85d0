//! Values of all types of serde.

use std::collections::{BTreeMap, HashMap};

use gsb_client::Message;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// A float whose NaN is equal to itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Double(pub(crate) f64);

impl PartialEq for Double {
    fn eq(&self, other: &Double) -> bool {
        self.0.to_bits() == other.0.to_bits() || self.0.is_nan() && other.0.is_nan()
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Single(f32);

impl PartialEq for Single {
    fn eq(&self, other: &Single) -> bool {
        self.0.to_bits() == other.0.to_bits() || self.0.is_nan() && other.0.is_nan()
    }
}

/// Serializes as `serde_bytes` does.
pub(crate) mod bytes {
    use std::fmt;

    use serde::de::{SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }

        from.deserialize_byte_buf(Bytes)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Color {
    Red,
    #[serde(rename = "a\0b")]
    Odd,
    #[serde(rename = "")]
    Nameless,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct New(Box<Value>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Two(Box<Value>, Option<Box<Value>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fields {
    first: Box<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    second: Option<u8>,
    a_field_with_quite_a_long_name: Option<Box<Value>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flat {
    pub(crate) first: u8,
    #[serde(flatten)]
    pub(crate) rest: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FlatIntegers {
    first: u8,
    #[serde(flatten)]
    rest: BTreeMap<i64, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Tagged {
    Empty,
    Fields { value: Box<Value> },
    New(Fields),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "content")]
pub(crate) enum Adjacent {
    Empty,
    New(Box<Value>),
    Two(Box<Value>, u8),
}

/// An enum whose variants differ in every encoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Untagged {
    Text(String),
    Fields { value: Box<Value> },
    List(Vec<u64>),
}

/// A value of any type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Value {
    Empty,
    Unit(()),
    UnitStruct(Unit),
    Bool(bool),
    Signed(i8, i16, i32, i64),
    Unsigned(u8, u16, u32, u64),
    Large(i128),
    Larger { value: u128 },
    Float(Single),
    Double(Double),
    Char(char),
    Text(String),
    Bytes(#[serde(with = "bytes")] Vec<u8>),
    Optional(Option<Box<Value>>),
    OptionalUnit(Option<()>),
    Nested(Option<Option<Option<u8>>>),
    NestedUnits(Option<Option<Unit>>),
    List(Vec<Value>),
    Octets(Vec<u8>),
    Integers(Vec<i64>),
    LargeIntegers(Vec<i128>),
    Floats(Vec<Single>),
    Doubles(Vec<Double>),
    Chars(Vec<char>),
    Bools(Vec<bool>),
    Units(Vec<()>),
    Optionals(Vec<Option<Option<i16>>>),
    Array([u16; 3]),
    Tuple(Box<(Value, u8, Option<Value>)>),
    New(New),
    Two(Two),
    Fields(Fields),
    ByText(BTreeMap<String, Value>),
    ByOptionalText(BTreeMap<Option<String>, Value>),
    ByInteger(BTreeMap<i64, Value>),
    ByLargeInteger(BTreeMap<u128, u8>),
    ByBool(BTreeMap<bool, Value>),
    ByChar(BTreeMap<char, u8>),
    ByColor(BTreeMap<Color, Value>),
    ByPair(BTreeMap<(u8, String), Value>),
    Hashed(HashMap<u16, u16>),
    Color(Color),
    Colors(Vec<Color>),
    Result(Result<Box<Value>, String>),
    Flat(Flat),
    FlatIntegers(FlatIntegers),
    Tagged(Tagged),
    Adjacent(Adjacent),
    Untagged(Untagged),
}

impl Message for Value {
    const ID: &'static str = "value";
    type Item = Value;
    type Error = Value;
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => vec(prop_oneof![Just('a'), Just('b'), Just('\0'), Just('"'), Just('€'), any::<char>()], 0..6)
            .prop_map(String::from_iter),
        1 => Just("first".to_owned()),
        1 => (0..700_usize).prop_map(|length| "long".repeat(length)),
    ]
}

fn double() -> impl Strategy<Value = Double> {
    let special = prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)];
    let any = prop_oneof![any::<f64>(), any::<u64>().prop_map(f64::from_bits)];
    prop_oneof![4 => any, 2 => (-9..9).prop_map(f64::from), 1 => special].prop_map(Double)
}

fn single() -> impl Strategy<Value = Single> {
    prop_oneof![any::<f32>(), any::<u32>().prop_map(f32::from_bits)].prop_map(Single)
}

fn color() -> impl Strategy<Value = Color> {
    prop_oneof![4 => Just(Color::Red), 1 => Just(Color::Odd), 1 => Just(Color::Nameless)]
}

fn character() -> impl Strategy<Value = char> {
    prop_oneof![Just('a'), Just('é'), Just('€'), any::<char>()]
}

fn large() -> impl Strategy<Value = i128> {
    prop_oneof![any::<i128>(), any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from)]
}

fn scalar() -> BoxedStrategy<Value> {
    prop_oneof![
        Just(Value::Empty),
        Just(Value::Unit(())),
        Just(Value::UnitStruct(Unit)),
        any::<bool>().prop_map(Value::Bool),
        any::<(i8, i16, i32, i64)>().prop_map(|(a, b, c, d)| Value::Signed(a, b, c, d)),
        any::<(u8, u16, u32, u64)>().prop_map(|(a, b, c, d)| Value::Unsigned(a, b, c, d)),
        large().prop_map(Value::Large),
        any::<u128>().prop_map(|value| Value::Larger { value }),
        single().prop_map(Value::Float),
        double().prop_map(Value::Double),
        character().prop_map(Value::Char),
        text().prop_map(Value::Text),
        vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
        any::<Option<()>>().prop_map(Value::OptionalUnit),
        any::<Option<Option<Option<u8>>>>().prop_map(Value::Nested),
        prop_oneof![Just(None), Just(Some(None)), Just(Some(Some(Unit)))]
            .prop_map(Value::NestedUnits),
        color().prop_map(Value::Color),
    ]
    .boxed()
}

fn scalars() -> BoxedStrategy<Value> {
    prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(Value::Octets),
        vec(prop_oneof![0..9_i64, any::<i64>()], 0..6).prop_map(Value::Integers),
        vec(large(), 0..4).prop_map(Value::LargeIntegers),
        vec(single(), 0..5).prop_map(Value::Floats),
        vec(double(), 0..5).prop_map(Value::Doubles),
        vec(character(), 0..5).prop_map(Value::Chars),
        vec(any::<bool>(), 0..5).prop_map(Value::Bools),
        (0..300_usize).prop_map(|length| Value::Units(vec![(); length])),
        vec(any::<Option<Option<i16>>>(), 0..4).prop_map(Value::Optionals),
        any::<[u16; 3]>().prop_map(Value::Array),
        vec(color(), 0..4).prop_map(Value::Colors),
        btree_map(any::<u128>(), any::<u8>(), 0..3).prop_map(Value::ByLargeInteger),
        btree_map(character(), any::<u8>(), 0..4).prop_map(Value::ByChar),
        btree_map(any::<u16>(), any::<u16>(), 0..4)
            .prop_map(|map| Value::Hashed(map.into_iter().collect())),
    ]
    .boxed()
}

/// Values that contain others, without the serde attributes that look at the data first.
fn nested(inner: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let boxed = || inner.clone().prop_map(Box::new);
    let maybe = || proptest::option::of(boxed());
    prop_oneof![
        maybe().prop_map(Value::Optional),
        vec(inner.clone(), 0..4).prop_map(Value::List),
        (inner.clone(), any::<u8>(), proptest::option::of(inner.clone()))
            .prop_map(|tuple| Value::Tuple(Box::new(tuple))),
        boxed().prop_map(|value| Value::New(New(value))),
        (boxed(), maybe()).prop_map(|(a, b)| Value::Two(Two(a, b))),
        fields(&inner).prop_map(Value::Fields),
        btree_map(text(), inner.clone(), 0..4).prop_map(Value::ByText),
        btree_map(proptest::option::of(text()), inner.clone(), 0..3)
            .prop_map(Value::ByOptionalText),
        btree_map(-3..300_i64, inner.clone(), 0..3).prop_map(Value::ByInteger),
        btree_map(any::<bool>(), inner.clone(), 0..3).prop_map(Value::ByBool),
        btree_map(color(), inner.clone(), 0..4).prop_map(Value::ByColor),
        btree_map((any::<u8>(), text()), inner.clone(), 0..3).prop_map(Value::ByPair),
        proptest::result::maybe_ok(boxed(), text()).prop_map(Value::Result),
    ]
    .boxed()
}

fn fields(inner: &BoxedStrategy<Value>) -> impl Strategy<Value = Fields> + use<> {
    let boxed = inner.clone().prop_map(Box::new);
    (boxed.clone(), any::<Option<u8>>(), proptest::option::of(boxed)).prop_map(
        |(first, second, a_field_with_quite_a_long_name)| Fields {
            first,
            second,
            a_field_with_quite_a_long_name,
        },
    )
}

fn attributed(inner: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let boxed = || inner.clone().prop_map(Box::new);
    prop_oneof![
        (any::<u8>(), btree_map(text(), inner.clone(), 0..3))
            .prop_map(|(first, rest)| Value::Flat(Flat { first, rest })),
        (any::<u8>(), btree_map(-3..3_i64, inner.clone(), 0..3))
            .prop_map(|(first, rest)| Value::FlatIntegers(FlatIntegers { first, rest })),
        Just(Value::Tagged(Tagged::Empty)),
        boxed().prop_map(|value| Value::Tagged(Tagged::Fields { value })),
        fields(&inner).prop_map(|fields| Value::Tagged(Tagged::New(fields))),
        Just(Value::Adjacent(Adjacent::Empty)),
        boxed().prop_map(|value| Value::Adjacent(Adjacent::New(value))),
        (boxed(), any::<u8>()).prop_map(|(a, b)| Value::Adjacent(Adjacent::Two(a, b))),
        text().prop_map(|text| Value::Untagged(Untagged::Text(text))),
        boxed().prop_map(|value| Value::Untagged(Untagged::Fields { value })),
        vec(any::<u64>(), 0..4).prop_map(|list| Value::Untagged(Untagged::List(list))),
    ]
    .boxed()
}

/// Any value. Some are nested more deeply than an encoding allows.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![3 => scalar(), 2 => scalars()].boxed();
    let any = leaf.prop_recursive(
        4,
        24,
        4,
        |inner| prop_oneof![4 => nested(inner.clone().boxed()), 1 => attributed(inner.boxed())],
    );
    let deep = |depth: usize, value: Value| {
        (0..depth).fold(value, |value, at| match at % 3 {
            0 => Value::Optional(Some(Box::new(value))),
            1 => Value::List(vec![value]),
            _ => Value::New(New(Box::new(value))),
        })
    };
    let deep = (0..150_usize, any.clone()).prop_map(move |(depth, value)| deep(depth, value));
    prop_oneof![40 => any, 1 => deep]
}
