//! The serializer: writes serde types as FlexBuffers data.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use crate::encoding::encoded::Encoded;
use crate::encoding::error::EncodingError;
use crate::encoding::flex::format::{MAX_DEPTH, Type};
use crate::encoding::flex::writer::{Value, Writer};

type Result<T> = std::result::Result<T, EncodingError>;

/// Encodes a value. Returns `None` if the data would be longer than `limit`.
pub(in crate::encoding) fn to_vec<T: Serialize + ?Sized>(
    value: &T,
    limit: usize,
) -> Result<Option<Encoded>> {
    let mut state = State {
        writer: Writer::default(),
        small: Vec::new(),
        depth: 0,
        wraps: 0,
        limit,
        is_rare: false,
        has_failed: false,
    };
    let result = value.serialize(&mut state);
    if state.is_over() {
        return Ok(None);
    }
    result?;
    if state.has_failed {
        return Err(EncodingError::new("its Serialize continues after an error"));
    }
    let is_rare = state.is_rare;
    Ok(Some(Encoded { data: state.writer.finish()?, is_rare }))
}

/// A value that is being encoded.
struct State {
    writer: Writer,
    /// The elements of sequences that so far have only integers below 256. As a [`Value`] each would take more memory.
    small: Vec<u8>,
    /// How many vectors and maps are incomplete.
    depth: usize,
    /// How many optional values and newtypes are incomplete within the innermost vector or map.
    wraps: usize,
    limit: usize,
    is_rare: bool,
    /// A value could not be encoded. Its parent may have ignored the error.
    has_failed: bool,
}

impl State {
    fn is_over(&self) -> bool {
        self.writer.size() + self.small.len() > self.limit
    }

    fn check(&self) -> Result<()> {
        match self.is_over() {
            false => Ok(()),
            true => Err(EncodingError::new("it is large")),
        }
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.writer.push(value);
        self.check()
    }

    /// Encodes a value inside another one.
    fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<()> {
        let result = value.serialize(&mut *self);
        self.has_failed |= result.is_err();
        result
    }

    fn wrap(&mut self, value: &(impl Serialize + ?Sized)) -> Result<()> {
        if self.wraps >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.wraps += 1;
        self.value(value)?;
        self.wraps -= 1;
        Ok(())
    }

    /// Begins a vector or a map.
    fn begin(&mut self) -> Result<Compound<'_>> {
        self.enter()?;
        Ok(Compound {
            first: self.writer.values.len(),
            small: self.small.len(),
            wraps: std::mem::take(&mut self.wraps),
            has_key: false,
            is_odd: false,
            is_in_variant: false,
            state: self,
        })
    }

    fn enter(&mut self) -> Result<()> {
        if self.depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        Ok(())
    }

    /// Stores the key of a field or a variant.
    fn key(&mut self, name: &'static str) -> Result<()> {
        if name.contains('\0') {
            return Err(EncodingError::new(format_args!("the name {name:?} contains a NUL")));
        }
        self.writer.push_key(name);
        self.check()
    }

    /// Begins a variant that has a value.
    fn begin_variant(&mut self, name: &'static str) -> Result<()> {
        self.enter()?;
        self.key(name)
    }

    /// Ends a variant. Its name and its value are the last two values.
    fn end_variant(&mut self) -> Result<()> {
        self.depth -= 1;
        self.writer.end_map(self.writer.values.len().saturating_sub(2))?;
        self.check()
    }
}

fn too_deep() -> EncodingError {
    EncodingError::new(format_args!("values are nested more than {MAX_DEPTH} levels deep"))
}

impl<'s> Serializer for &'s mut State {
    type Ok = ();
    type Error = EncodingError;
    type SerializeSeq = Compound<'s>;
    type SerializeTuple = Compound<'s>;
    type SerializeTupleStruct = Compound<'s>;
    type SerializeTupleVariant = Compound<'s>;
    type SerializeMap = Compound<'s>;
    type SerializeStruct = Compound<'s>;
    type SerializeStructVariant = Compound<'s>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<()> {
        self.push(Value::Bool(value))
    }

    fn serialize_i8(self, value: i8) -> Result<()> {
        self.push(Value::Int(value.into()))
    }

    fn serialize_i16(self, value: i16) -> Result<()> {
        self.push(Value::Int(value.into()))
    }

    fn serialize_i32(self, value: i32) -> Result<()> {
        self.push(Value::Int(value.into()))
    }

    fn serialize_i64(self, value: i64) -> Result<()> {
        self.push(Value::Int(value))
    }

    fn serialize_u8(self, value: u8) -> Result<()> {
        self.push(Value::UInt(value.into()))
    }

    fn serialize_u16(self, value: u16) -> Result<()> {
        self.push(Value::UInt(value.into()))
    }

    fn serialize_u32(self, value: u32) -> Result<()> {
        self.push(Value::UInt(value.into()))
    }

    fn serialize_u64(self, value: u64) -> Result<()> {
        self.push(Value::UInt(value))
    }

    fn serialize_i128(self, value: i128) -> Result<()> {
        self.is_rare = true;
        if let Ok(value) = i64::try_from(value) {
            return self.push(Value::Int(value));
        }
        match u64::try_from(value) {
            Ok(value) => self.push(Value::UInt(value)),
            Err(_) => self.serialize_str(&value.to_string()),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<()> {
        self.is_rare = true;
        match u64::try_from(value) {
            Ok(value) => self.push(Value::UInt(value)),
            Err(_) => self.serialize_str(&value.to_string()),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<()> {
        self.push(Value::Float(value.into()))
    }

    fn serialize_f64(self, value: f64) -> Result<()> {
        self.push(Value::Float(value))
    }

    fn serialize_char(self, value: char) -> Result<()> {
        match u8::try_from(value) {
            Ok(latin) => {
                self.is_rare = true;
                self.push(Value::UInt(latin.into()))
            }
            Err(_) => self.serialize_str(value.encode_utf8(&mut [0; 4])),
        }
    }

    fn serialize_str(self, value: &str) -> Result<()> {
        self.writer.push_bytes(Type::String, value.as_bytes());
        self.check()
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        self.writer.push_bytes(Type::Blob, value);
        self.check()
    }

    fn serialize_none(self) -> Result<()> {
        self.push(Value::Null(0))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        self.wrap(value)?;
        if let Some(Value::Null(times)) = self.writer.values.last_mut() {
            *times = times.checked_add(1).ok_or_else(too_deep)?;
        }
        Ok(())
    }

    fn serialize_unit(self) -> Result<()> {
        self.push(Value::Null(0))
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        self.push(Value::Null(0))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<()> {
        self.serialize_str(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<()> {
        self.wrap(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<()> {
        self.begin_variant(name)?;
        let wraps = std::mem::take(&mut self.wraps);
        self.value(value)?;
        self.wraps = wraps;
        self.end_variant()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'s>> {
        self.begin()
    }

    fn serialize_tuple(self, _: usize) -> Result<Compound<'s>> {
        self.begin()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Compound<'s>> {
        self.begin()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Compound<'s>> {
        self.begin_variant(name)?;
        Ok(Compound { is_in_variant: true, ..self.begin()? })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Compound<'s>> {
        self.begin()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Compound<'s>> {
        self.begin()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Compound<'s>> {
        self.begin_variant(name)?;
        Ok(Compound { is_in_variant: true, ..self.begin()? })
    }
}

/// A vector or a map that is incomplete.
struct Compound<'s> {
    state: &'s mut State,
    /// The index of its first value in `writer.values`.
    first: usize,
    /// The index of its first element in `small`. All its elements are there, or all are values.
    small: usize,
    /// `State::wraps` before it began.
    wraps: usize,
    /// The key of an entry was written, but not its value yet.
    has_key: bool,
    /// The map has a key that FlexBuffers cannot represent, so it is written as a vector of pairs.
    is_odd: bool,
    /// It is the value of a variant, which ends with it.
    is_in_variant: bool,
}

impl Compound<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.state.value(value)?;
        let State { writer, small, .. } = &mut *self.state;
        match writer.values[self.first..] {
            // All elements so far are below 256, and so is this one.
            [Value::UInt(value @ 0..=0xff)] => {
                small.push(value as u8);
                writer.values.truncate(self.first);
            }
            [last] if small.len() > self.small => {
                writer.values.truncate(self.first);
                let small = small.drain(self.small..);
                writer.values.extend(small.map(|value| Value::UInt(value.into())));
                writer.push(last);
            }
            _ => {}
        }
        self.state.check()
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
        self.state.key(name)?;
        self.state.value(value)
    }

    fn end_vector(self) -> Result<()> {
        let State { writer, small, .. } = &mut *self.state;
        if small.len() > self.small {
            writer.push_small(&small[self.small..]);
            small.truncate(self.small);
        } else {
            writer.end_vector(self.first);
        }
        self.end()
    }

    fn end_map(self) -> Result<()> {
        match self.is_odd {
            false => self.state.writer.end_map(self.first)?,
            true => self.state.writer.end_vector(self.first),
        }
        self.end()
    }

    fn end(self) -> Result<()> {
        self.state.depth -= 1;
        self.state.wraps = self.wraps;
        match self.is_in_variant {
            true => self.state.end_variant(),
            false => self.state.check(),
        }
    }
}

impl SerializeSeq for Compound<'_> {
    type Ok = ();
    type Error = EncodingError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.element(value)
    }

    fn end(self) -> Result<()> {
        self.end_vector()
    }
}

impl SerializeTuple for Compound<'_> {
    type Ok = ();
    type Error = EncodingError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.element(value)
    }

    fn end(self) -> Result<()> {
        self.end_vector()
    }
}

impl SerializeTupleStruct for Compound<'_> {
    type Ok = ();
    type Error = EncodingError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.element(value)
    }

    fn end(self) -> Result<()> {
        self.end_vector()
    }
}

impl SerializeTupleVariant for Compound<'_> {
    type Ok = ();
    type Error = EncodingError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.element(value)
    }

    fn end(self) -> Result<()> {
        self.end_vector()
    }
}

impl SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = EncodingError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        if std::mem::replace(&mut self.has_key, true) {
            return Err(out_of_turn());
        }
        let end = self.state.writer.end();
        self.state.value(key)?;
        if !self.state.writer.string_to_key(end) {
            self.is_odd = true;
            self.state.is_rare = true;
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        if !std::mem::replace(&mut self.has_key, false) {
            return Err(out_of_turn());
        }
        self.state.value(value)
    }

    fn end(self) -> Result<()> {
        match self.has_key {
            false => self.end_map(),
            true => Err(out_of_turn()),
        }
    }
}

fn out_of_turn() -> EncodingError {
    EncodingError::new("its Serialize writes a key without a value, or a value without a key")
}

impl SerializeStruct for Compound<'_> {
    type Ok = ();
    type Error = EncodingError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<()> {
        self.field(name, value)
    }

    fn end(self) -> Result<()> {
        self.end_map()
    }
}

impl SerializeStructVariant for Compound<'_> {
    type Ok = ();
    type Error = EncodingError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<()> {
        self.field(name, value)
    }

    fn end(self) -> Result<()> {
        self.end_map()
    }
}
