//! The deserializer: reads FlexBuffers data into serde types.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use crate::encoding::error::EncodingError;
use crate::encoding::flex::format::{MAX_DEPTH, Type};
use crate::encoding::flex::reader::{Elements, Place, Reader, malformed};

type Result<T> = std::result::Result<T, EncodingError>;

/// A value in FlexBuffers data.
#[derive(Clone, Copy)]
pub(in crate::encoding) struct Node<'r, 'de> {
    reader: &'r Reader<'de>,
    what: What,
    /// How many optional values and newtypes enclose it, up to the next vector or map. They take no byte, so a
    /// recursive type could nest them without end.
    wraps: usize,
}

#[derive(Clone, Copy)]
enum What {
    Stored(Place),
    /// A null inside this many `Some`.
    SomeNull(u64),
}

impl<'r, 'de> Node<'r, 'de> {
    /// The outermost value.
    pub(in crate::encoding) fn root(reader: &'r Reader<'de>) -> Result<Self> {
        Node::new(reader, reader.root()?)
    }

    fn new(reader: &'r Reader<'de>, place: Place) -> Result<Self> {
        let what = match place {
            Place { kind: Type::Null, .. } => What::SomeNull(0),
            Place { kind: Type::Float, width: 1, at, .. } => match reader.unsigned(at, 1)? {
                0 => return Err(malformed("a null is outside of a value")),
                times => What::SomeNull(times),
            },
            place => What::Stored(place),
        };
        Ok(Node { reader, what, wraps: 0 })
    }

    fn element(reader: &'r Reader<'de>, of: &Elements, index: usize) -> Result<Self> {
        Node::new(reader, reader.element(of, index)?)
    }

    /// The same value, inside an optional value or a newtype.
    fn wrapped(self) -> Result<Self> {
        if self.wraps >= MAX_DEPTH {
            return Err(malformed("values are nested too deeply"));
        }
        Ok(Node { wraps: self.wraps + 1, ..self })
    }

    fn string(&self) -> Option<Place> {
        match self.what {
            What::Stored(place) if matches!(place.kind, Type::String | Type::Key) => Some(place),
            _ => None,
        }
    }

    fn vector(&self) -> Result<Option<Elements>> {
        match self.what {
            What::Stored(place) => self.reader.vector(place),
            What::SomeNull(_) => Ok(None),
        }
    }

    fn sequence(&self, elements: Elements) -> Sequence<'r, 'de> {
        Sequence { reader: self.reader, elements, next: 0 }
    }

    fn map(&self, place: Place) -> Result<Entries<'r, 'de>> {
        let (keys, values) = self.reader.map(place)?;
        Ok(Entries { reader: self.reader, keys, values, next: 0 })
    }
}

impl<'de> Deserializer<'de> for Node<'_, 'de> {
    type Error = EncodingError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let place = match self.what {
            What::SomeNull(0) => return visitor.visit_unit(),
            What::SomeNull(_) => return self.deserialize_option(visitor),
            What::Stored(place) => place,
        };
        let Place { kind, width, at, .. } = place;
        let reader = self.reader;
        match kind {
            Type::Bool => visitor.visit_bool(reader.unsigned(at, width)? != 0),
            Type::UInt => visitor.visit_u64(reader.unsigned(at, width)?),
            Type::Int => visitor.visit_i64(reader.signed(at, width)?),
            Type::Float => visitor.visit_f64(reader.float(at, width)?),
            Type::String | Type::Key => visitor.visit_borrowed_str(reader.text(place)?),
            Type::Blob => visitor.visit_borrowed_bytes(reader.blob(place)?),
            Type::Map => visitor.visit_map(self.map(place)?),
            _ => match reader.vector(place)? {
                Some(elements) => visitor.visit_seq(self.sequence(elements)),
                None => Err(malformed("a type is not known")),
            },
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if let What::Stored(Place { kind: Type::UInt, width, at, .. }) = self.what
            && let Ok(latin) = u8::try_from(self.reader.unsigned(at, width)?)
        {
            return visitor.visit_char(char::from(latin));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.string() {
            Some(place) => visitor.visit_i128(integer(self.reader.text(place)?)?),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.string() {
            Some(place) => visitor.visit_u128(integer(self.reader.text(place)?)?),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.what {
            What::SomeNull(0) => visitor.visit_none(),
            What::SomeNull(times) => {
                visitor.visit_some(Node { what: What::SomeNull(times - 1), ..self }.wrapped()?)
            }
            What::Stored(_) => visitor.visit_some(self.wrapped()?),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self.wrapped()?)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.vector()? {
            Some(elements) if elements.length % 2 == 0 => {
                visitor.visit_map(Pairs(self.sequence(elements)))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if let Some(place) = self.string() {
            let name = self.reader.text(place)?;
            return visitor.visit_enum(Variant { name, value: None });
        }
        let What::Stored(place @ Place { kind: Type::Map, .. }) = self.what else {
            return Err(malformed("a variant is neither a string nor a map"));
        };
        let (keys, values) = self.reader.map(place)?;
        if values.length != 1 {
            return Err(malformed("a variant is a map of one entry"));
        }
        let name = self.reader.text(self.reader.key_at(&keys, 0)?)?;
        let value = Some(Node::element(self.reader, &values, 0)?);
        visitor.visit_enum(Variant { name, value })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct struct identifier ignored_any
    }
}

/// Parses an integer of more than 64 bits, which is stored as a string.
fn integer<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| malformed("a string is not an integer"))
}

struct Sequence<'r, 'de> {
    reader: &'r Reader<'de>,
    elements: Elements,
    next: usize,
}

impl<'r, 'de> Sequence<'r, 'de> {
    fn next(&mut self) -> Result<Option<Node<'r, 'de>>> {
        if self.next >= self.elements.length {
            return Ok(None);
        }
        self.next += 1;
        Node::element(self.reader, &self.elements, self.next - 1).map(Some)
    }

    fn rest(&self) -> usize {
        self.elements.length - self.next
    }
}

impl<'de> SeqAccess<'de> for Sequence<'_, 'de> {
    type Error = EncodingError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        self.next()?.map(|node| seed.deserialize(node)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest())
    }
}

/// A map that is stored as a vector of keys and values in turn.
struct Pairs<'r, 'de>(Sequence<'r, 'de>);

impl<'de> MapAccess<'de> for Pairs<'_, 'de> {
    type Error = EncodingError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        self.0.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let value = self.0.next()?;
        seed.deserialize(value.ok_or_else(|| malformed("a key has no value"))?)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.rest() / 2)
    }
}

struct Entries<'r, 'de> {
    reader: &'r Reader<'de>,
    keys: Elements,
    values: Elements,
    /// The index of the next entry. Its key may have been read already.
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = EncodingError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if self.next >= self.keys.length {
            return Ok(None);
        }
        let key = self.reader.key_at(&self.keys, self.next)?;
        seed.deserialize(Node::new(self.reader, key)?).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        if self.next >= self.values.length {
            return Err(malformed("a key has no value"));
        }
        self.next += 1;
        seed.deserialize(Node::element(self.reader, &self.values, self.next - 1)?)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.length - self.next)
    }
}

struct Variant<'r, 'de> {
    name: &'de str,
    value: Option<Node<'r, 'de>>,
}

impl<'r, 'de> EnumAccess<'de> for Variant<'r, 'de> {
    type Error = EncodingError;
    type Variant = Payload<'r, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant)> {
        let variant = seed.deserialize(self.name.into_deserializer())?;
        Ok((variant, Payload(self.value)))
    }
}

/// The value of a variant, if it has one.
struct Payload<'r, 'de>(Option<Node<'r, 'de>>);

impl<'r, 'de> Payload<'r, 'de> {
    fn some(self) -> Result<Node<'r, 'de>> {
        self.0.ok_or_else(|| {
            EncodingError::custom("an enum variant has no value, but its type requires one")
        })
    }
}

impl<'de> VariantAccess<'de> for Payload<'_, 'de> {
    type Error = EncodingError;

    fn unit_variant(self) -> Result<()> {
        match self.0 {
            None => Ok(()),
            Some(_) => {
                Err(EncodingError::custom("an enum variant has a value, but its type has none"))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self.some()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        let node = self.some()?;
        match node.vector()? {
            Some(elements) => visitor.visit_seq(node.sequence(elements)),
            None => Err(malformed("the value of a variant is not a vector")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let node = self.some()?;
        match node.what {
            What::Stored(place @ Place { kind: Type::Map, .. }) => {
                visitor.visit_map(node.map(place)?)
            }
            _ => Err(malformed("the value of a variant is not a map")),
        }
    }
}
