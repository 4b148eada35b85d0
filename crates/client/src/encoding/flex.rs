//! FlexBuffers: the format, a decoder that checks all it reads, and an encoder.
//!
//! The format, as the crate `flexbuffers` writes and reads it:
//! <https://flatbuffers.dev/flatbuffers_internals/#flexbuffers>. A value is stored in its parent or, if it
//! has no fixed size, before it: the parent then holds the distance. All integers are little-endian.
//!
//! The crate `flexbuffers` has no form for some values. They are written in a form that it refuses, so that a peer which
//! uses it reports an error instead of reading another value:
//!
//! | value | form |
//! |---|---|
//! | a `char` above U+00FF | a string |
//! | an `i128` or `u128` that 64 bits do not hold | a string of decimal digits |
//! | `Some` of a value that is written as null, n times | [`Type::Float`] of width 1, which holds n |
//! | a map with a key that is not a string, or contains a NUL | a vector of keys and values in turn |

mod de;
mod format;
mod reader;
mod ser;
mod writer;

pub(super) use crate::encoding::flex::de::Node;
pub(super) use crate::encoding::flex::reader::Reader;
pub(super) use crate::encoding::flex::ser::to_vec;

#[cfg(test)]
#[path = "flex_tests.rs"]
mod tests;
