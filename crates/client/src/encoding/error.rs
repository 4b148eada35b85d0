//! The error of an encoding.

use std::any::Any;
use std::fmt::{self, Write as _};

use crate::panics::discard;

/// Why a value could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodingError(String);

/// The longest text of an [`EncodingError`], in bytes. It may quote the data of a peer.
const MAX_LENGTH: usize = 500;

impl EncodingError {
    /// An error with this text. A text of more than 500 bytes is cut.
    pub fn new(problem: impl fmt::Display) -> Self {
        let mut text = CutText(String::new());
        // It fails if the text is cut.
        let _ = write!(text, "{problem}");
        EncodingError(text.0)
    }

    /// The error for a panic in the user's code.
    pub(super) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let error = match text {
            Some(text) => EncodingError::new(format_args!("it panicked: {text}")),
            None => EncodingError::new("it panicked"),
        };
        discard(payload);
        error
    }
}

/// A text of limited length. Control characters are escaped.
struct CutText(String);

impl fmt::Write for CutText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.len() >= MAX_LENGTH {
                self.0.push('…');
                return Err(fmt::Error);
            }
            match c.is_control() {
                true => self.0.extend(c.escape_debug()),
                false => self.0.push(c),
            }
        }
        Ok(())
    }
}

impl serde::de::Error for EncodingError {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        EncodingError::new(problem)
    }
}

impl serde::ser::Error for EncodingError {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        EncodingError::new(problem)
    }
}
