//! The error of a handler.

use std::fmt;

use crate::error::Error;

/// The error of a handler of bytes: a text for the caller, and whether the caller is at fault.
///
/// Any value that implements `Display` converts into a `Failure` with `?` and `.into()`: an error, a `&str`, a `String`.
/// The caller gets [`Error::ServiceFailure`], or [`Error::BadRequest`] for [`Failure::bad_request`].
///
/// ```
/// use gsb_client::{Call, Failure};
///
/// async fn double(call: Call) -> Result<String, Failure> {
///     let text = std::str::from_utf8(&call.data).map_err(Failure::bad_request)?;
///     let number: i64 = text.parse()?;
///     let doubled = number.checked_mul(2).ok_or("the number is too large")?;
///     if doubled < 0 {
///         return Err(format!("{doubled} is negative").into());
///     }
///     Ok(doubled.to_string())
/// }
/// ```
///
/// `Failure` implements neither `Display` nor `Error`: its own conversion would conflict with the one above. Its text is
/// [`Failure::message`], and it converts into a `Box<dyn Error + Send + Sync>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub(crate) message: String,
    pub(crate) is_bad_request: bool,
}

impl Failure {
    /// The service has failed. The caller gets [`Error::ServiceFailure`].
    pub fn new(message: impl fmt::Display) -> Self {
        Failure { message: message.to_string(), is_bad_request: false }
    }

    /// The request is invalid. The caller gets [`Error::BadRequest`].
    pub fn bad_request(message: impl fmt::Display) -> Self {
        Failure { message: message.to_string(), is_bad_request: true }
    }

    /// The text for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the caller is at fault, as after [`Failure::bad_request`].
    pub fn is_bad_request(&self) -> bool {
        self.is_bad_request
    }

    /// The failure within a boxed error, or a new one with its text.
    #[cfg(feature = "tower")]
    pub(crate) fn from_boxed(error: BoxError) -> Self {
        match error.downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(error) => Failure::new(error),
        }
    }

    pub(crate) fn panicked() -> Self {
        Failure::new("its handler panicked")
    }

    /// The error of a caller in this process.
    pub(crate) fn into_error(self, address: &str) -> Error {
        let (address, message) = (address.to_owned(), self.message);
        match self.is_bad_request {
            true => Error::BadRequest { target: address, message },
            false => Error::ServiceFailure { address, message },
        }
    }
}

/// An error of any type, as tower and others have it.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A failure within a boxed error.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
struct Boxed(Failure);

impl From<Failure> for BoxError {
    fn from(failure: Failure) -> Self {
        Box::new(Boxed(failure))
    }
}

impl<T: fmt::Display> From<T> for Failure {
    fn from(message: T) -> Self {
        Failure::new(message)
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
