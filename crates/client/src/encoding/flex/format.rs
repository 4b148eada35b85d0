//! The types and limits of the format.

/// How many vectors and maps may be nested. It bounds the stack that decoding takes.
pub(super) const MAX_DEPTH: usize = 128;

/// How many bytes of strings, keys and blobs a decoder reads for each byte of the data. It is more than one, because
/// keys are shared. Without a bound, data could refer to one long string many times.
pub(super) const TEXT_FACTOR: usize = 8;

/// How many bytes of strings, keys and blobs a decoder reads in addition, so that small data may share without a bound.
pub(super) const TEXT_ALLOWANCE: usize = 64 << 10;

/// The size of an integer, a length or a distance, in bytes: 1, 2, 4 or 8.
pub(super) type Width = usize;

/// The type of a value: the upper six bits of its type byte. The lower two are the logarithm of a [`Width`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Type {
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
    /// The types by number. The deprecated vector of strings (15) is missing, because no encoder writes it.
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

    /// The type and width in a type byte.
    pub(super) fn unpack(packed: u8) -> Option<(Type, Width)> {
        let kind = *Type::ALL.get(usize::from(packed >> 2))?;
        Some((kind?, 1 << (packed & 3)))
    }

    /// Whether a value of this type is stored in its parent.
    pub(super) fn is_inline(self) -> bool {
        matches!(self, Type::Null | Type::Int | Type::UInt | Type::Float | Type::Bool)
    }

    /// The type of the elements of a typed vector, and their number if it is fixed by the type.
    pub(super) fn elements(self) -> Option<(Type, Option<usize>)> {
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
