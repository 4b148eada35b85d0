//! A JSON encoder that fails for values which JSON cannot bring back.
//!
//! `serde_json` writes floats that are not finite as null, and `Some(None)`, too. It writes values that are nested more
//! deeply than it reads. This encoder reports an error in each of these cases.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use crate::encoding::encoded::Encoded;
use crate::encoding::error::EncodingError;

/// How many levels of nested arrays and objects `serde_json` reads.
const MAX_DEPTH: usize = 127;

/// Encodes a value. Returns `None` if the data would be longer than `limit`.
pub(super) fn to_vec<T: Serialize + ?Sized>(
    value: &T,
    limit: usize,
) -> Result<Option<Encoded>, EncodingError> {
    let state = State::default();
    let mut output = Output { data: Vec::with_capacity(128), limit, is_over: false };
    let mut json = serde_json::Serializer::new(&mut output);
    let inner = &mut json;
    let result =
        value.serialize(Checked { inner, state: &state, is_in_some: false, is_key: false });
    if output.is_over {
        return Ok(None);
    }
    result.map_err(EncodingError::new)?;
    if state.has_failed.get() {
        return Err(EncodingError::new("its Serialize continues after an error"));
    }
    Ok(Some(Encoded { data: output.data, is_rare: state.is_rare.get() }))
}

struct Output {
    data: Vec<u8>,
    limit: usize,
    is_over: bool,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.data.len() + bytes.len() > self.limit {
            self.is_over = true;
            return Err(io::Error::other("it is large"));
        }
        self.data.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct State {
    /// How many arrays and objects are incomplete.
    depth: Cell<usize>,
    is_rare: Cell<bool>,
    /// A value could not be encoded. Its parent may have ignored the error.
    has_failed: Cell<bool>,
}

impl State {
    fn enter<E: serde::ser::Error>(&self, levels: usize) -> Result<(), E> {
        let depth = self.depth.get() + levels;
        self.depth.set(depth);
        match depth <= MAX_DEPTH {
            true => Ok(()),
            false => {
                Err(E::custom(format_args!("values are nested more than {MAX_DEPTH} levels deep")))
            }
        }
    }

    fn leave(&self, levels: usize) {
        self.depth.set(self.depth.get() - levels);
    }
}

/// A serializer that refuses values which JSON cannot bring back.
struct Checked<'a, S> {
    inner: S,
    state: &'a State,
    /// The value is directly inside `Some`, so it must not be null.
    is_in_some: bool,
    /// The value is the key of a map. JSON writes keys of all types as strings.
    is_key: bool,
}

/// A value within another one.
struct Inner<'a, T: ?Sized> {
    value: &'a T,
    state: &'a State,
    is_in_some: bool,
    is_key: bool,
}

impl<'a, T: ?Sized> Inner<'a, T> {
    fn new(value: &'a T, state: &'a State) -> Self {
        Inner { value, state, is_in_some: false, is_key: false }
    }
}

impl<T: Serialize + ?Sized> Serialize for Inner<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        let Inner { state, is_in_some, is_key, .. } = *self;
        let result = self.value.serialize(Checked { inner, state, is_in_some, is_key });
        result.inspect_err(|_| state.has_failed.set(true))
    }
}

impl<'a, S: Serializer> Checked<'a, S> {
    fn compound<C>(
        self,
        levels: usize,
        begin: impl FnOnce(S) -> Result<C, S::Error>,
    ) -> Result<Compound<'a, C>, S::Error> {
        self.state.enter(levels)?;
        let inner = begin(self.inner)?;
        Ok(Compound { inner, state: self.state, levels, keys: None })
    }

    fn null(self, write: impl FnOnce(S) -> Result<S::Ok, S::Error>) -> Result<S::Ok, S::Error> {
        match self.is_in_some {
            false => write(self.inner),
            true => Err(S::Error::custom(
                "JSON cannot represent Some(None) or Some(()): None and () are null in it",
            )),
        }
    }
}

/// Forwards scalars to the inner serializer.
macro_rules! forward {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            if self.is_key {
                self.state.is_rare.set(true);
            }
            self.inner.$method(value)
        })*
    };
}

impl<'a, S: Serializer> Serializer for Checked<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Compound<'a, S::SerializeSeq>;
    type SerializeTuple = Compound<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Compound<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Compound<'a, S::SerializeTupleVariant>;
    type SerializeMap = Compound<'a, S::SerializeMap>;
    type SerializeStruct = Compound<'a, S::SerializeStruct>;
    type SerializeStructVariant = Compound<'a, S::SerializeStructVariant>;

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    forward! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_bytes(&[u8])
    }

    fn serialize_char(self, value: char) -> Result<S::Ok, S::Error> {
        self.inner.serialize_char(value)
    }

    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_str(value)
    }

    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        self.state.is_rare.set(true);
        self.inner.serialize_i128(value)
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        self.state.is_rare.set(true);
        self.inner.serialize_u128(value)
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.state.is_rare.set(self.state.is_rare.get() || self.is_key);
        match value.is_finite() {
            true => self.inner.serialize_f32(value),
            false => Err(S::Error::custom(format_args!("JSON cannot represent {value}"))),
        }
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.state.is_rare.set(self.state.is_rare.get() || self.is_key);
        match value.is_finite() {
            true => self.inner.serialize_f64(value),
            false => Err(S::Error::custom(format_args!("JSON cannot represent {value}"))),
        }
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.null(S::serialize_none)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Inner {
            is_in_some: true,
            is_key: self.is_key,
            ..Inner::new(value, self.state)
        })
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.null(S::serialize_unit)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.null(|inner| inner.serialize_unit_struct(name))
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let Checked { state, is_in_some, is_key, .. } = self;
        let value = Inner { is_in_some, is_key, ..Inner::new(value, state) };
        self.inner.serialize_newtype_struct(name, &value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.state.enter(1)?;
        let value = Inner::new(value, self.state);
        let result = self.inner.serialize_newtype_variant(name, index, variant, &value);
        self.state.leave(1);
        result
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.compound(1, |inner| inner.serialize_seq(length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.compound(1, |inner| inner.serialize_tuple(length))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.compound(1, |inner| inner.serialize_tuple_struct(name, length))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.compound(2, |inner| inner.serialize_tuple_variant(name, index, variant, length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let map = self.compound(1, |inner| inner.serialize_map(length))?;
        // A map of known length is a collection, which has each key once. A struct with flattened fields has no known
        // length, and may have a key twice.
        let keys = length.is_none().then(HashSet::new);
        Ok(Compound { keys, ..map })
    }

    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.compound(1, |inner| inner.serialize_struct(name, length))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.compound(2, |inner| inner.serialize_struct_variant(name, index, variant, length))
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }
}

/// An array or an object that is incomplete.
struct Compound<'a, C> {
    inner: C,
    state: &'a State,
    levels: usize,
    /// The keys of a map so far, if a key may occur twice.
    keys: Option<HashSet<String>>,
}

impl<C> Compound<'_, C> {
    fn end(self) -> C {
        self.state.leave(self.levels);
        self.inner
    }
}

/// Elements and fields without a name.
macro_rules! elements {
    ($($trait:ident::$method:ident),*) => {
        $(impl<C: $trait> $trait for Compound<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                let value = Inner::new(value, self.state);
                self.inner.$method(&value)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                Compound::end(self).end()
            }
        })*
    };
}

elements! {
    SerializeSeq::serialize_element, SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field, SerializeTupleVariant::serialize_field
}

/// Fields with a name.
macro_rules! fields {
    ($($trait:ident),*) => {
        $(impl<C: $trait> $trait for Compound<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                let value = Inner::new(value, self.state);
                self.inner.serialize_field(name, &value)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                Compound::end(self).end()
            }
        })*
    };
}

fields! { SerializeStruct, SerializeStructVariant }

impl<C: SerializeMap> SerializeMap for Compound<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(&Inner { is_key: true, ..Inner::new(key, self.state) })?;
        if let Some(keys) = &mut self.keys {
            // JSON writes a key of another type as a string.
            let text = serde_json::to_string(key).map_err(C::Error::custom)?;
            let text = text.trim_matches('"').to_owned();
            if let Some(twice) = keys.replace(text) {
                return Err(C::Error::custom(format_args!("the key \"{twice}\" occurs twice")));
            }
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let value = Inner::new(value, self.state);
        self.inner.serialize_value(&value)
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        Compound::end(self).end()
    }
}
