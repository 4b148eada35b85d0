//! The result of encoding a value.

/// A value that was encoded.
pub(super) struct Encoded {
    pub(super) data: Vec<u8>,
    /// The data contains a form that is read correctly only by a reader that knows the type. A type that looks at the
    /// data first may not read it: one with `#[serde(untagged)]`, `tag` or `flatten`.
    pub(super) is_rare: bool,
}
