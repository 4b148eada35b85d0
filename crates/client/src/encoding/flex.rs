//! FlexBuffers: the format, a decoder that trusts nothing it reads, and an encoder.
//!
//! The format, as the crate `flexbuffers` writes and reads it:
//! <https://flatbuffers.dev/flatbuffers_internals/#flexbuffers>. A value is stored in its parent or, if it
//! has no fixed size, before it: the parent then holds the distance. All integers are little-endian.
//!
//! Some values have no form that the crate `flexbuffers` reads. They get one that it refuses, so that a
//! peer which uses it reports an error instead of reading another value:
//!
//! | value | form |
//! |---|---|
//! | a `char` above U+00FF | a string |
//! | an `i128` or `u128` that 64 bits do not hold | a string of decimal digits |
//! | `Some` of a value that is written as null, n times | [`Type::Float`] of width 1, which holds n |
//! | a map of which a key is no string, or holds a NUL | a vector of keys and values in turn |

mod de;
mod reader;
mod ser;
mod writer;

pub(super) use de::Node;
pub(super) use reader::Reader;
pub(super) use ser::to_vec;

/// How many vectors and maps may be inside each other. It bounds the stack that decoding takes.
const MAX_DEPTH: usize = 128;

/// How many bytes of strings, keys and blobs a decoder reads, for each byte of the data. Keys are
/// shared, so that it may be more than one; without a bound, data could refer to one long string again
/// and again.
const TEXT_FACTOR: usize = 8;

/// How many bytes of strings, keys and blobs a decoder reads in addition, so that small data may share
/// what it likes.
const TEXT_ALLOWANCE: usize = 64 << 10;

/// How many bytes an integer, a length or a distance takes: 1, 2, 4 or 8.
type Width = usize;

/// What the upper six bits of a type byte say; the lower two are the logarithm of a [`Width`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Type {
    Null = 0,
    Int = 1,
    UInt = 2,
    Float = 3,
    Key = 4,
    String = 5,
    IndirectInt = 6,
    IndirectUInt = 7,
    IndirectFloat = 8,
    Map = 9,
    Vector = 10,
    VectorInt = 11,
    VectorUInt = 12,
    VectorFloat = 13,
    VectorKey = 14,
    VectorInt2 = 16,
    VectorUInt2 = 17,
    VectorFloat2 = 18,
    VectorInt3 = 19,
    VectorUInt3 = 20,
    VectorFloat3 = 21,
    VectorInt4 = 22,
    VectorUInt4 = 23,
    VectorFloat4 = 24,
    Blob = 25,
    Bool = 26,
    VectorBool = 36,
}

impl Type {
    /// The types, each at its number. The deprecated vector of strings (15) is none of them: nothing
    /// writes it any more.
    const ALL: [Option<Type>; 37] = {
        use Type::*;
        let mut all = [None; 37];
        let known = [
            Null,
            Int,
            UInt,
            Float,
            Key,
            String,
            IndirectInt,
            IndirectUInt,
            IndirectFloat,
            Map,
            Vector,
            VectorInt,
            VectorUInt,
            VectorFloat,
            VectorKey,
            VectorInt2,
            VectorUInt2,
            VectorFloat2,
            VectorInt3,
            VectorUInt3,
            VectorFloat3,
            VectorInt4,
            VectorUInt4,
            VectorFloat4,
            Blob,
            Bool,
            VectorBool,
        ];
        let mut at = 0;
        while at < known.len() {
            all[known[at] as usize] = Some(known[at]);
            at += 1;
        }
        all
    };

    /// What a type byte says.
    fn unpack(packed: u8) -> Option<(Type, Width)> {
        let kind = *Type::ALL.get(usize::from(packed >> 2))?;
        Some((kind?, 1 << (packed & 3)))
    }

    /// Whether a value of this type is in its parent.
    fn is_inline(self) -> bool {
        matches!(self, Type::Null | Type::Int | Type::UInt | Type::Float | Type::Bool)
    }

    /// The type of each element and the number of them, if they are not before the elements.
    fn elements(self) -> Option<(Type, Option<usize>)> {
        Some(match self {
            Type::VectorInt => (Type::Int, None),
            Type::VectorInt2 => (Type::Int, Some(2)),
            Type::VectorInt3 => (Type::Int, Some(3)),
            Type::VectorInt4 => (Type::Int, Some(4)),
            Type::VectorUInt => (Type::UInt, None),
            Type::VectorUInt2 => (Type::UInt, Some(2)),
            Type::VectorUInt3 => (Type::UInt, Some(3)),
            Type::VectorUInt4 => (Type::UInt, Some(4)),
            Type::VectorFloat => (Type::Float, None),
            Type::VectorFloat2 => (Type::Float, Some(2)),
            Type::VectorFloat3 => (Type::Float, Some(3)),
            Type::VectorFloat4 => (Type::Float, Some(4)),
            Type::VectorKey => (Type::Key, None),
            Type::VectorBool => (Type::Bool, None),
            _ => return None,
        })
    }
}

#[cfg(test)]
#[path = "flex_tests.rs"]
mod tests;
