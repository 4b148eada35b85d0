//! Writes values as FlexBuffers, with the same bytes as the crate `flexbuffers`.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use crate::encoding::error::EncodingError;
use crate::encoding::flex::format::{TEXT_ALLOWANCE, TEXT_FACTOR, Type, Width};

type Result<T> = std::result::Result<T, EncodingError>;

/// A value that is still to be stored in its parent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    /// A null inside this many `Some`.
    Null(u8),
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    /// The position of a key, and its length without the NUL.
    Key(usize, usize),
    /// A value that is stored already. The parent stores the distance to it.
    Stored {
        kind: Type,
        width: Width,
        at: usize,
    },
}

impl Value {
    fn kind(self) -> Type {
        match self {
            Value::Null(0) => Type::Null,
            Value::Null(_) | Value::Float(_) => Type::Float,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::UInt(_) => Type::UInt,
            Value::Key(..) => Type::Key,
            Value::Stored { kind, .. } => kind,
        }
    }

    /// The least width that holds the value or, if it has elements, the width of its elements.
    fn width(self) -> Width {
        match self {
            Value::Null(_) | Value::Bool(_) | Value::Key(..) => 1,
            Value::Int(value) => width_of_int(value),
            Value::UInt(value) => width_of(value),
            // NaN is not equal to itself, so it takes the next arm, and all its bits are stored.
            Value::Float(value) if value == f64::from(value as f32) => 4,
            Value::Float(_) => 8,
            Value::Stored { width, .. } => width,
        }
    }

    fn address(self) -> Option<usize> {
        match self {
            Value::Key(at, _) | Value::Stored { at, .. } => Some(at),
            _ => None,
        }
    }

    fn packed(self, parent_width: Width) -> u8 {
        let width = match self {
            // The width of 1 tells it from a float.
            Value::Null(1..) => 1,
            _ if self.address().is_none() => self.width().max(parent_width),
            _ => self.width(),
        };
        (self.kind() as u8) << 2 | width.ilog2() as u8
    }

    /// The least width of its slot, which is the `index`th one after the position `start`.
    fn width_in_slot(self, start: usize, index: usize) -> Width {
        let Some(address) = self.address() else {
            return self.width();
        };
        let fits = |width: &Width| {
            let slot = start.next_multiple_of(*width) + index * width;
            width_of(slot as u64 - address as u64) <= *width
        };
        [1, 2, 4].into_iter().find(fits).unwrap_or(8)
    }

    /// The type of a vector whose values all have this type, and whether that type includes the length.
    fn vector_kind(self, length: usize) -> Option<(Type, bool)> {
        use Type::*;
        Some(match (self.kind(), length) {
            _ if matches!(self, Value::Null(_)) => return None,
            (Bool, _) => (VectorBool, false),
            (Key, _) => (VectorKey, false),
            (Int, 2) => (VectorInt2, true),
            (Int, 3) => (VectorInt3, true),
            (Int, 4) => (VectorInt4, true),
            (Int, _) => (VectorInt, false),
            (UInt, 2) => (VectorUInt2, true),
            (UInt, 3) => (VectorUInt3, true),
            (UInt, 4) => (VectorUInt4, true),
            (UInt, _) => (VectorUInt, false),
            (Float, 2) => (VectorFloat2, true),
            (Float, 3) => (VectorFloat3, true),
            (Float, 4) => (VectorFloat4, true),
            (Float, _) => (VectorFloat, false),
            _ => return None,
        })
    }

    fn is_like(self, other: Value) -> bool {
        self.kind() == other.kind()
            && matches!(self, Value::Null(_)) == matches!(other, Value::Null(_))
    }
}

fn width_of(value: u64) -> Width {
    match value {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

fn width_of_int(value: i64) -> Width {
    match value {
        -0x80..=0x7f => 1,
        -0x8000..=0x7fff => 2,
        -0x8000_0000..=0x7fff_ffff => 4,
        _ => 8,
    }
}

/// The data that is written, and the values that are not stored yet.
#[derive(Debug, Default)]
pub(super) struct Writer {
    data: Vec<u8>,
    /// Values whose parents are incomplete. Those of the innermost parent come last.
    pub(super) values: Vec<Value>,
    /// The keys that are stored. A key that occurs again refers to the first one.
    keys: HashTable<(usize, usize)>,
    hasher: RandomState,
    /// How many bytes of keys were saved because a key refers to an earlier one.
    shared: usize,
}

impl Writer {
    /// The approximate size of the data in bytes. A value that is not stored yet counts as one byte.
    pub(super) fn size(&self) -> usize {
        self.data.len() + self.values.len()
    }

    pub(super) fn push(&mut self, value: Value) {
        self.values.push(value);
    }

    fn align(&mut self, width: Width) {
        self.data.resize(self.data.len().next_multiple_of(width), 0);
    }

    fn store_integer(&mut self, value: u64, width: Width) {
        self.data.extend_from_slice(&value.to_le_bytes()[..width]);
    }

    /// Stores a value in a slot of its parent.
    fn store(&mut self, value: Value, width: Width) {
        let bits = match value {
            Value::Null(times) => times.into(),
            Value::Bool(value) => value.into(),
            Value::Int(value) => value.cast_unsigned(),
            Value::UInt(value) => value,
            Value::Float(value) if width == 4 => (value as f32).to_bits().into(),
            Value::Float(value) => value.to_bits(),
            Value::Key(at, _) | Value::Stored { at, .. } => (self.data.len() - at) as u64,
        };
        self.store_integer(bits, width);
    }

    /// Stores a string or a blob, and pushes it.
    pub(super) fn push_bytes(&mut self, kind: Type, bytes: &[u8]) {
        let width = width_of(bytes.len() as u64);
        self.align(width);
        self.store_integer(bytes.len() as u64, width);
        let at = self.data.len();
        self.data.extend_from_slice(bytes);
        if kind == Type::String {
            self.data.push(0);
        }
        self.push(Value::Stored { kind, width, at });
    }

    /// Stores a key, which must not contain a NUL, and pushes it.
    pub(super) fn push_key(&mut self, key: &str) {
        let at = self.data.len();
        self.data.extend_from_slice(key.as_bytes());
        self.data.push(0);
        self.share_key(at, key.len());
    }

    /// Turns the string that was pushed last into a key, if it contains no NUL. `start` is the length of the data
    /// before the string. Returns whether it is a key now.
    pub(super) fn string_to_key(&mut self, start: usize) -> bool {
        let Some(Value::Stored { kind: Type::String, at, .. }) = self.values.last().copied() else {
            return false;
        };
        let text = at..self.data.len() - 1;
        if self.data[text.clone()].contains(&0) {
            return false;
        }
        self.values.pop();
        self.data.copy_within(text.start..text.end + 1, start);
        self.data.truncate(start + text.len() + 1);
        self.share_key(start, text.len());
        true
    }

    pub(super) fn end(&self) -> usize {
        self.data.len()
    }

    /// Pushes the key that was stored last. If an equal key was stored before, removes the new one and pushes the old
    /// one.
    fn share_key(&mut self, at: usize, length: usize) {
        let Writer { data, keys, hasher, .. } = self;
        let key = |&(at, length): &(usize, usize)| &data[at..at + length];
        let hash = |place: &(usize, usize)| hasher.hash_one(key(place));
        let is_same = |place: &(usize, usize)| key(place) == key(&(at, length));
        // A decoder reads a shared key again each time, up to its limit for text.
        let most = (TEXT_FACTOR - 1) * at + TEXT_ALLOWANCE;
        let place = match keys.find(hash(&(at, length)), is_same) {
            Some(&place) if self.shared + length < most => {
                self.shared += length + 1;
                self.data.truncate(at);
                place
            }
            Some(_) => (at, length),
            None => {
                let entry = keys.insert_unique(hash(&(at, length)), (at, length), hash);
                *entry.get()
            }
        };
        self.push(Value::Key(place.0, place.1));
    }

    /// Replaces the values from `first` on with one vector of them.
    pub(super) fn end_vector(&mut self, first: usize) {
        let values = self.values.split_off(first);
        let vector = self.store_vector(&values, 1, 0, None);
        self.push(vector);
    }

    /// Stores a vector of integers below 256, and pushes it.
    pub(super) fn push_small(&mut self, bytes: &[u8]) {
        let Some(kind) = Value::UInt(0).vector_kind(bytes.len()) else {
            return;
        };
        let (kind, width) = match kind {
            (kind, true) => (kind, 1),
            (kind, false) => (kind, width_of(bytes.len() as u64)),
        };
        self.align(width);
        if !matches!(bytes.len(), 2..=4) {
            self.store_integer(bytes.len() as u64, width);
        }
        let at = self.data.len();
        self.data.reserve(bytes.len() * width);
        match width {
            1 => self.data.extend_from_slice(bytes),
            2 => self.data.extend(bytes.iter().flat_map(|byte| u16::from(*byte).to_le_bytes())),
            4 => self.data.extend(bytes.iter().flat_map(|byte| u32::from(*byte).to_le_bytes())),
            _ => self.data.extend(bytes.iter().flat_map(|byte| u64::from(*byte).to_le_bytes())),
        }
        self.push(Value::Stored { kind, width, at });
    }

    /// Replaces the values from `first` on, keys and values in turn, with one map of them.
    ///
    /// # Errors
    /// A key occurs twice.
    pub(super) fn end_map(&mut self, first: usize) -> Result<()> {
        let mut values = self.values.split_off(first);
        let key = |value: &Value| match *value {
            Value::Key(at, length) => &self.data[at..at + length],
            _ => &[],
        };
        let (pairs, _) = values.as_chunks_mut::<2>();
        pairs.sort_unstable_by(|[a, _], [b, _]| key(a).cmp(key(b)));
        let twice = pairs.windows(2).find(|pair| key(&pair[0][0]) == key(&pair[1][0]));
        if let Some([[twice, _], _]) = twice {
            let name = String::from_utf8_lossy(key(twice));
            return Err(EncodingError::new(format_args!("the key {name:?} occurs twice")));
        }
        let keys = self.store_vector(&values, 2, 0, None);
        let map = self.store_vector(&values, 2, 1, Some(keys));
        self.push(map);
        Ok(())
    }

    /// Stores a vector of every `step`th value, beginning with the one at `skip`. With `keys`, stores them as the
    /// values of a map.
    fn store_vector(
        &mut self,
        values: &[Value],
        step: usize,
        skip: usize,
        keys: Option<Value>,
    ) -> Value {
        let length = values.len() / step;
        let values = || values.iter().skip(skip).step_by(step).copied();
        let mut typed = None;
        if let Some(first) = values().next()
            && keys.is_none()
            && values().all(|value| value.is_like(first))
        {
            typed = first.vector_kind(length);
        }
        let has_length = !matches!(typed, Some((_, true)));
        let kind = match (keys, typed) {
            (Some(_), _) => Type::Map,
            (None, Some((kind, _))) => kind,
            (None, None) => Type::Vector,
        };

        let start = self.data.len();
        let before = if keys.is_some() { 3 } else { usize::from(has_length) };
        let mut width = if has_length { width_of(length as u64) } else { 1 };
        if let Some(keys) = keys {
            width = width.max(keys.width_in_slot(start, 0));
        }
        for (index, value) in values().enumerate() {
            width = width.max(value.width_in_slot(start, before + index));
        }

        self.align(width);
        if let Some(keys) = keys {
            self.store(keys, width);
            self.store_integer(keys.width() as u64, width);
        }
        if has_length {
            self.store_integer(length as u64, width);
        }
        let at = self.data.len();
        values().for_each(|value| self.store(value, width));
        if matches!(kind, Type::Vector | Type::Map) {
            self.data.extend(values().map(|value| value.packed(width)));
        }
        Value::Stored { kind, width, at }
    }

    /// Stores the outermost value, and returns all data.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        let [root] = self.values[..] else {
            return Err(EncodingError::new("its Serialize has written no value, or several"));
        };
        let width = root.width_in_slot(self.data.len(), 0);
        self.align(width);
        self.store(root, width);
        self.data.extend([root.packed(width), width as u8]);
        Ok(self.data)
    }
}
