//! The rules that service ids and topics share.

use crate::quoted::Quoted;

/// Longest service id or topic, in bytes.
pub const MAX_NAME: usize = 1024;

/// Why a string is not a service id or not a topic. Positions and lengths are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The empty string.
    #[error("a name must not be empty")]
    Empty,
    /// More than [`MAX_NAME`] bytes.
    #[error("a name has {length} bytes; at most {MAX_NAME} are allowed")]
    TooLong {
        /// Length of the string.
        length: usize,
    },
    /// A control character or white space.
    #[error(
        "{name} contains {character:?} at byte {at}: control characters and white space are not allowed"
    )]
    Character {
        /// The string.
        name: Quoted,
        /// The first character that is not allowed.
        character: char,
        /// Position of the character.
        at: usize,
    },
    /// Two slashes in a row, or one at the end.
    #[error("{name} has an empty segment at byte {at}: one '/' between segments, none at the end")]
    EmptySegment {
        /// The string.
        name: Quoted,
        /// Position of the first empty segment.
        at: usize,
    },
    /// A topic with more than [`MAX_SEGMENTS`](super::MAX_SEGMENTS) segments.
    #[error("{name} has {segments} segments: a topic may have at most {limit}")]
    TooManySegments {
        /// The string.
        name: Quoted,
        /// Number of its segments.
        segments: usize,
        /// Number of segments that are allowed.
        limit: usize,
    },
}

/// Checks the rules that service ids and topics share.
pub(super) fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong { length: name.len() });
    }
    if let Some((at, character)) =
        name.char_indices().find(|(_, c)| c.is_control() || c.is_whitespace())
    {
        return Err(NameError::Character { name: Quoted::new(name), character, at });
    }
    let mut at = 0;
    for segment in name.split('/') {
        // Only the segment before a leading '/' may be empty, and another segment has to follow it.
        let is_leading = at == 0 && name.len() > 1;
        if segment.is_empty() && !is_leading {
            return Err(NameError::EmptySegment { name: Quoted::new(name), at });
        }
        at += segment.len() + 1;
    }
    Ok(())
}

/// Implements a name that wraps an `Arc<str>` and is checked by the function `$check`. `NameError` must be in scope.
macro_rules! checked_name {
    ($name:ident, $check:path) => {
        impl $name {
            /// Checks a string and makes a name of it.
            ///
            /// # Errors
            /// A [`NameError`] that says what is wrong and where.
            pub fn new(name: &str) -> Result<Self, NameError> {
                $check(name)?;
                Ok($name(std::sync::Arc::from(name)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                $name::new(name)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(super) use checked_name;
