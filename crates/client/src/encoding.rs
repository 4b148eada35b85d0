//! The encodings of typed messages.

pub(crate) mod encoded;
pub(crate) mod error;
mod flex;
#[cfg(feature = "json")]
mod json;
pub(crate) mod offload;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::encoding::encoded::Encoded;
pub use crate::encoding::error::EncodingError;

/// The function to which [`Encoding::decode`] passes its deserializer.
pub type Read<'a> =
    dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error> + 'a;

/// Encodes and decodes values of any type. Both ends of a call must use the same encoding, which is not part of the
/// message.
///
/// The data for [`decode`](Encoding::decode) comes from other programs. Bound the time, the memory and the stack that
/// decoding takes by the length of the data. A panic in an encoding, or in the `Serialize` or `Deserialize` of a
/// message, becomes an [`EncodingError`].
///
/// [`FlexBuffers`] and [`Json`] list the values that they support. Some attributes of serde change a value with any
/// encoding: `#[serde(untagged)]` reads the first variant that fits, and `#[serde(skip)]` leaves fields out. A message
/// that its own type could not read is an error at its sender. For the body of an event this is not checked, and the
/// error is the subscriber's.
///
/// Messages and answers of more than 256 KiB are encoded and decoded on a thread for blocking work
/// ([`tokio::task::spawn_blocking`]), so that they do not delay other tasks. Some are decoded in the task that received
/// them, because they have to be handled in order: pushes, calls of [serial](crate::Bus::serial) services, and calls
/// that are answered with a stream. Events are encoded and decoded in place, too, and so is all that a custom encoding
/// encodes.
///
/// ```
/// use gsb_client::erased_serde;
/// use gsb_client::{Encoding, EncodingError, Read};
///
/// /// JSON, as an example. The feature `json` has an encoding of this name.
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
pub trait Encoding: fmt::Debug + Any + Send + Sync {
    /// Encodes a value.
    ///
    /// # Errors
    /// The encoding does not support the value.
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, EncodingError>;

    /// Calls `read` once with a deserializer of `data`, and returns its error.
    ///
    /// # Errors
    /// The data is malformed, or `read` failed.
    fn decode(&self, data: &[u8], read: &mut Read<'_>) -> Result<(), EncodingError>;
}

/// FlexBuffers: compact, self-describing, and the default of `ya-service-bus`.
///
/// A value that is not supported is [`Error::Encoding`](crate::Error::Encoding) at its sender.
///
/// | value | supported |
/// |---|---|
/// | booleans, integers of up to 64 bits, floats, strings, options, lists, structs, enums | yes; programs of `ya-service-bus` read it |
/// | `char` up to U+00FF | yes; programs of `ya-service-bus` read it |
/// | any other `char`, `i128`, `u128` | yes; other readers report an error |
/// | `Some` of a value that is written as null: `Some(None)`, `Some(())` | yes; other readers report an error |
/// | maps with string keys | yes; entries arrive in the order of their keys |
/// | maps with other keys, or with a NUL in a key | yes; other readers report an error |
/// | a key of a map twice, a field or a variant with a NUL in its name | no |
/// | more than 128 lists, maps, structs and variants inside each other | no |
/// | a `char`, `i128`, `u128` or a key that is no string within `#[serde(untagged)]`, `tag`, `flatten` | only where serde itself can read it |
///
/// A `Vec<u8>` is a list of integers, each of which takes 1, 2 or 4 bytes, depending on the length of the list. As bytes
/// (`#[serde(with = "serde_bytes")]`, or `serde_bytes::ByteBuf`) each takes 1, and all are copied at once. Both ends must
/// use the same form.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlexBuffers;

impl FlexBuffers {
    fn read<'de, T: Deserialize<'de>>(data: &'de [u8]) -> Result<T, EncodingError> {
        T::deserialize(flex::Node::root(&flex::Reader::new(data))?)
    }
}

impl Encoding for FlexBuffers {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, EncodingError> {
        all(flex::to_vec(value, usize::MAX)?)
    }

    fn decode(&self, data: &[u8], read: &mut Read<'_>) -> Result<(), EncodingError> {
        let reader = flex::Reader::new(data);
        let root = flex::Node::root(&reader)?;
        read(&mut <dyn erased_serde::Deserializer<'_>>::erase(root)).map_err(EncodingError::new)
    }
}

/// JSON (feature `json`): readable, and used by programs of `ya-service-bus` that are built for it.
///
/// A value that is not supported is [`Error::Encoding`](crate::Error::Encoding) at its sender.
///
/// | value | supported |
/// |---|---|
/// | booleans, integers of up to 128 bits, finite floats, `char`, strings, options, lists, structs, enums | yes |
/// | a float that is not finite | no |
/// | `Some` of a value that is written as null: `Some(None)`, `Some(())` | no |
/// | maps with keys that are strings, integers, booleans, floats, `char` or variants without content | yes; a key becomes a string |
/// | maps with other keys, or with a key twice | no |
/// | more than 127 lists, maps, structs and variants inside each other | no |
/// | `i128`, `u128` or a key that is no string within `#[serde(untagged)]`, `tag`, `flatten` | only where serde itself can read it |
///
/// Bytes are lists of numbers.
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl Json {
    fn read<'de, T: Deserialize<'de>>(data: &'de [u8]) -> Result<T, EncodingError> {
        serde_json::from_slice(data).map_err(EncodingError::new)
    }
}

#[cfg(feature = "json")]
impl Encoding for Json {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, EncodingError> {
        all(json::to_vec(value, usize::MAX)?)
    }

    fn decode(&self, data: &[u8], read: &mut Read<'_>) -> Result<(), EncodingError> {
        let mut json = serde_json::Deserializer::from_slice(data);
        read(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut json))
            .map_err(EncodingError::new)?;
        json.end().map_err(EncodingError::new)
    }
}

/// Runs code of users, and turns its panic into an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, EncodingError>) -> Result<T, EncodingError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(EncodingError::panicked(payload)))
}

fn all(encoded: Option<Encoded>) -> Result<Vec<u8>, EncodingError> {
    encoded.map(|encoded| encoded.data).ok_or_else(|| EncodingError::new("it is too large"))
}

/// Encodes a value.
pub(crate) fn encode<T: Serialize>(
    encoding: &dyn Encoding,
    value: &T,
) -> Result<Vec<u8>, EncodingError> {
    guarded(|| all(encode_up_to(encoding, value, usize::MAX)?))
}

/// Encodes a value for a receiver of the same type. If the value could not be decoded again, that is an error here and
/// not at the receiver.
pub(crate) fn encode_message<T: Serialize + DeserializeOwned>(
    encoding: &dyn Encoding,
    value: &T,
) -> Result<Vec<u8>, EncodingError> {
    let data = encode_message_up_to(encoding, value, usize::MAX)?;
    data.ok_or_else(|| EncodingError::new("it is too large"))
}

/// [`encode_message`], or `None` if the data would be longer than `limit`, in bytes.
pub(crate) fn encode_message_up_to<T: Serialize + DeserializeOwned>(
    encoding: &dyn Encoding,
    value: &T,
    limit: usize,
) -> Result<Option<Vec<u8>>, EncodingError> {
    guarded(|| {
        let Some(Encoded { data, is_rare }) = encode_up_to(encoding, value, limit)? else {
            return Ok(None);
        };
        if is_rare && let Err(error) = decode::<T>(encoding, &data) {
            return Err(EncodingError::new(format_args!("it could not be decoded again: {error}")));
        }
        Ok(Some(data))
    })
}

/// Encodes a value, or returns `None` if the data would be longer than `limit`, in bytes. A custom encoding has no limit.
fn encode_up_to<T: Serialize>(
    encoding: &dyn Encoding,
    value: &T,
    limit: usize,
) -> Result<Option<Encoded>, EncodingError> {
    // A known encoding needs no dynamic dispatch.
    let known: &dyn Any = encoding;
    if known.is::<FlexBuffers>() {
        return flex::to_vec(value, limit);
    }
    #[cfg(feature = "json")]
    if known.is::<Json>() {
        return json::to_vec(value, limit);
    }
    let data = encoding.encode(value)?;
    Ok(Some(Encoded { data, is_rare: false }))
}

/// Decodes a value.
pub(crate) fn decode<T: DeserializeOwned>(
    encoding: &dyn Encoding,
    data: &[u8],
) -> Result<T, EncodingError> {
    guarded(|| {
        // A known encoding needs no dynamic dispatch.
        let known: &dyn Any = encoding;
        if known.is::<FlexBuffers>() {
            return FlexBuffers::read(data);
        }
        #[cfg(feature = "json")]
        if known.is::<Json>() {
            return Json::read(data);
        }
        let mut value = None;
        encoding.decode(data, &mut |deserializer| {
            value = Some(erased_serde::deserialize(deserializer)?);
            Ok(())
        })?;
        value.ok_or_else(|| EncodingError::new("the encoding did not read a value"))
    })
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
