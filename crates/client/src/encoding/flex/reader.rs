//! Reads values from untrusted data: never beyond its end, and never more in total than a multiple of its length.

use std::cell::Cell;

use crate::encoding::error::EncodingError;
use crate::encoding::flex::format::{MAX_DEPTH, TEXT_ALLOWANCE, TEXT_FACTOR, Type, Width};

type Result<T> = std::result::Result<T, EncodingError>;

/// FlexBuffers data, and how much of it may still be read. A value with several references is read, and counts, once
/// for each of them.
pub(in crate::encoding) struct Reader<'de> {
    data: &'de [u8],
    /// How many elements of vectors and maps may still be read. Without shared values, each takes a byte at least.
    elements: Cell<usize>,
    /// How many bytes of strings, keys and blobs may still be read.
    text: Cell<usize>,
}

/// The position and type of a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) kind: Type,
    /// The width of the value or, if it has elements, of each element.
    pub(super) width: Width,
    /// The position of the value or, if it has elements, of the first element.
    pub(super) at: usize,
    /// How many vectors and maps enclose it.
    depth: usize,
}

/// The elements of a vector, or the values of a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elements {
    at: usize,
    width: Width,
    pub(super) length: usize,
    types: Types,
    depth: usize,
}

#[derive(Debug, Clone, Copy)]
enum Types {
    /// The type of all elements.
    One(Type),
    /// The position of the type bytes, one for each element.
    At(usize),
}

pub(super) fn malformed(problem: &str) -> EncodingError {
    EncodingError::new(format_args!("the FlexBuffers data is malformed: {problem}"))
}

fn outside() -> EncodingError {
    malformed("a value is outside of it")
}

impl<'de> Reader<'de> {
    pub(in crate::encoding) fn new(data: &'de [u8]) -> Self {
        let text = data.len().saturating_mul(TEXT_FACTOR).saturating_add(TEXT_ALLOWANCE);
        Reader { data, elements: Cell::new(data.len()), text: Cell::new(text) }
    }

    /// The outermost value. The last two bytes of the data are its type and its width.
    pub(super) fn root(&self) -> Result<Place> {
        let [before @ .., packed, width] = self.data else {
            return Err(malformed("it is too short"));
        };
        let width = Width::from(*width);
        if !matches!(width, 1 | 2 | 4 | 8) {
            return Err(malformed("the width of the root is invalid"));
        }
        let at = before.len().checked_sub(width).ok_or_else(outside)?;
        self.place(*packed, at, width, 0)
    }

    fn place(&self, packed: u8, at: usize, parent_width: Width, depth: usize) -> Result<Place> {
        let (kind, width) = Type::unpack(packed).ok_or_else(|| malformed("a type is not known"))?;
        self.place_of(kind, width, at, parent_width, depth)
    }

    /// The value that is stored or referred to at `at`.
    fn place_of(
        &self,
        kind: Type,
        width: Width,
        at: usize,
        parent_width: Width,
        depth: usize,
    ) -> Result<Place> {
        if kind.is_inline() {
            return Ok(Place { kind, width, at, depth });
        }
        let at = self.referred(at, parent_width)?;
        let kind = match kind {
            Type::IndirectInt => Type::Int,
            Type::IndirectUInt => Type::UInt,
            // An inline float of one byte is a null inside `Some`.
            Type::IndirectFloat if width < 4 => return Err(malformed("a float is too short")),
            Type::IndirectFloat => Type::Float,
            other => other,
        };
        Ok(Place { kind, width, at, depth })
    }

    /// The position that the distance stored at `at` refers to.
    fn referred(&self, at: usize, width: Width) -> Result<usize> {
        let distance = self.length(at, width)?;
        at.checked_sub(distance).ok_or_else(outside)
    }

    fn bytes(&self, at: usize, length: usize) -> Result<&'de [u8]> {
        let end = at.checked_add(length).ok_or_else(outside)?;
        self.data.get(at..end).ok_or_else(outside)
    }

    /// An unsigned integer.
    pub(super) fn unsigned(&self, at: usize, width: Width) -> Result<u64> {
        let bytes = self.bytes(at, width)?;
        // Most integers are short.
        if let [byte] = bytes {
            return Ok(u64::from(*byte));
        }
        let mut all = [0; 8];
        all[..width].copy_from_slice(bytes);
        Ok(u64::from_le_bytes(all))
    }

    pub(super) fn signed(&self, at: usize, width: Width) -> Result<i64> {
        let unused = 64 - 8 * width;
        Ok((self.unsigned(at, width)? << unused).cast_signed() >> unused)
    }

    /// A float of 4 or 8 bytes.
    pub(super) fn float(&self, at: usize, width: Width) -> Result<f64> {
        match *self.bytes(at, width)? {
            [a, b, c, d] => Ok(f32::from_le_bytes([a, b, c, d]).into()),
            [a, b, c, d, e, f, g, h] => Ok(f64::from_le_bytes([a, b, c, d, e, f, g, h])),
            _ => Err(malformed("a float is too short")),
        }
    }

    fn length(&self, at: usize, width: Width) -> Result<usize> {
        usize::try_from(self.unsigned(at, width)?).map_err(|_| outside())
    }

    /// The length that is stored before a value.
    fn length_before(&self, at: usize, width: Width) -> Result<usize> {
        self.length(at.checked_sub(width).ok_or_else(outside)?, width)
    }

    fn charge(left: &Cell<usize>, amount: usize) -> Result<()> {
        let rest = left.get().checked_sub(amount);
        left.set(rest.ok_or_else(|| malformed("too much of it is referred to more than once"))?);
        Ok(())
    }

    /// The bytes of a string or a blob.
    pub(super) fn blob(&self, place: Place) -> Result<&'de [u8]> {
        let length = self.length_before(place.at, place.width)?;
        let bytes = self.bytes(place.at, length)?;
        Self::charge(&self.text, length)?;
        Ok(bytes)
    }

    /// The bytes of a key, without the NUL that ends it.
    fn key(&self, at: usize) -> Result<&'de [u8]> {
        let rest = self.data.get(at..).ok_or_else(outside)?;
        // The search ends where the limit for text does.
        let near = rest.get(..self.text.get()).unwrap_or(rest);
        let length = near.iter().position(|byte| *byte == 0);
        let length = length.ok_or_else(|| malformed("a key has no end"))?;
        Self::charge(&self.text, length + 1)?;
        Ok(&rest[..length])
    }

    /// The text of a string or a key.
    pub(super) fn text(&self, place: Place) -> Result<&'de str> {
        let bytes = match place.kind {
            Type::Key => self.key(place.at)?,
            _ => self.blob(place)?,
        };
        str::from_utf8(bytes).map_err(|_| malformed("a string is not UTF-8"))
    }

    /// The elements of a vector, if it is one.
    pub(super) fn vector(&self, place: Place) -> Result<Option<Elements>> {
        let Place { kind, width, at, .. } = place;
        let (one, length) = match (kind, kind.elements()) {
            (_, Some((one, length))) => (Some(one), length),
            (Type::Vector, None) => (None, None),
            _ => return Ok(None),
        };
        let length = match length {
            Some(length) => length,
            None => self.length_before(at, width)?,
        };
        self.elements(place, one, length).map(Some)
    }

    /// The elements of a vector or map, after a check that they are inside the data.
    fn elements(&self, place: Place, one: Option<Type>, length: usize) -> Result<Elements> {
        let Place { width, at, depth, .. } = place;
        if depth >= MAX_DEPTH {
            return Err(malformed("values are nested too deeply"));
        }
        let size = length.checked_mul(width).ok_or_else(outside)?;
        self.bytes(at, size)?;
        let types = match one {
            Some(one) => Types::One(one),
            None => {
                self.bytes(at + size, length)?;
                Types::At(at + size)
            }
        };
        Ok(Elements { at, width, length, types, depth: depth + 1 })
    }

    /// The keys and the values of a map.
    pub(super) fn map(&self, place: Place) -> Result<(Elements, Elements)> {
        let Place { width, at, .. } = place;
        let length = self.length_before(at, width)?;
        let values = self.elements(place, None, length)?;
        let prefix = at.checked_sub(3 * width).ok_or_else(outside)?;
        let keys_at = self.referred(prefix, width)?;
        let keys_width = self.length(prefix + width, width)?;
        if !matches!(keys_width, 1 | 2 | 4 | 8) {
            return Err(malformed("the width of keys is invalid"));
        }
        if self.length_before(keys_at, keys_width)? != length {
            return Err(malformed("a map has more keys than values, or fewer"));
        }
        let keys = Place { width: keys_width, at: keys_at, ..place };
        Ok((self.elements(keys, Some(Type::Key), length)?, values))
    }

    /// One of the elements; `index` is less than their number.
    pub(super) fn element(&self, of: &Elements, index: usize) -> Result<Place> {
        Self::charge(&self.elements, 1)?;
        self.place_at(of, index)
    }

    /// One of the keys of a map; `index` is less than their number. An entry counts once, when its value is read.
    pub(super) fn key_at(&self, of: &Elements, index: usize) -> Result<Place> {
        self.place_at(of, index)
    }

    fn place_at(&self, of: &Elements, index: usize) -> Result<Place> {
        let at = of.at + index * of.width;
        match of.types {
            Types::One(kind) => self.place_of(kind, of.width, at, of.width, of.depth),
            Types::At(types) => {
                let packed = *self.data.get(types + index).ok_or_else(outside)?;
                self.place(packed, at, of.width, of.depth)
            }
        }
    }
}
