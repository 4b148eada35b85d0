//! How typed messages become bytes.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What an [`Encoding`] hands its deserializer to.
pub type Read<'a> =
    dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error> + 'a;

/// Writes and reads values of any type. Both ends of a call must use the same one; the bus does not
/// say which it is.
///
/// ```
/// use gsb_client::erased_serde;
/// use gsb_client::{Encoding, EncodingError, Read};
///
/// /// JSON, if it were not here already (feature `json`).
/// #[derive(Debug)]
/// struct Json;
///
/// impl Encoding for Json {
///     fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, EncodingError> {
///         serde_json::to_vec(value).map_err(EncodingError::new)
///     }
///
///     fn decode(
///         &self,
///         data: &[u8],
///         read: &mut Read<'_>,
///     ) -> Result<(), EncodingError> {
///         let mut deserializer = serde_json::Deserializer::from_slice(data);
///         read(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut deserializer))
///             .map_err(EncodingError::new)
///     }
/// }
/// ```
pub trait Encoding: fmt::Debug + Send + Sync + 'static {
    /// Encodes a value.
    ///
    /// # Errors
    /// The encoding has no form for it.
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, EncodingError>;

    /// Calls `read` once with a deserializer of `data`, and passes its error on.
    ///
    /// # Errors
    /// The data is malformed, or `read` failed.
    fn decode(&self, data: &[u8], read: &mut Read<'_>) -> Result<(), EncodingError>;
}

/// Why a value could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodingError(String);

impl EncodingError {
    /// An error that says so.
    pub fn new(problem: impl fmt::Display) -> Self {
        EncodingError(problem.to_string())
    }
}

/// FlexBuffers: compact, self-describing, and what programs of `ya-service-bus` speak by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlexBuffers;

impl Encoding for FlexBuffers {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, EncodingError> {
        flexbuffers::to_vec(value).map_err(EncodingError::new)
    }

    fn decode(&self, data: &[u8], read: &mut Read<'_>) -> Result<(), EncodingError> {
        let root = flexbuffers::Reader::get_root(data).map_err(EncodingError::new)?;
        read(&mut <dyn erased_serde::Deserializer<'_>>::erase(root)).map_err(EncodingError::new)
    }
}

/// JSON (feature `json`): for people, and for programs of `ya-service-bus` that were built so.
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl Encoding for Json {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, EncodingError> {
        serde_json::to_vec(value).map_err(EncodingError::new)
    }

    fn decode(&self, data: &[u8], read: &mut Read<'_>) -> Result<(), EncodingError> {
        let mut json = serde_json::Deserializer::from_slice(data);
        read(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut json))
            .map_err(EncodingError::new)?;
        json.end().map_err(EncodingError::new)
    }
}

/// Encodes a value of a known type.
pub(crate) fn encode<T: Serialize>(
    encoding: &dyn Encoding,
    value: &T,
) -> Result<Vec<u8>, EncodingError> {
    encoding.encode(value)
}

/// Decodes a value of a known type.
pub(crate) fn decode<T: DeserializeOwned>(
    encoding: &dyn Encoding,
    data: &[u8],
) -> Result<T, EncodingError> {
    let mut value = None;
    encoding.decode(data, &mut |deserializer| {
        value = Some(erased_serde::deserialize(deserializer)?);
        Ok(())
    })?;
    value.ok_or_else(|| EncodingError::new("the encoding has read nothing"))
}
