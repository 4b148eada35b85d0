//! How typed messages become bytes.

mod flex;
#[cfg(feature = "json")]
mod json;

use std::any::Any;
use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::panics::discard;

/// What an [`Encoding`] hands its deserializer to.
pub type Read<'a> =
    dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error> + 'a;

/// Writes and reads values of any type. Both ends of a call must use the same one; the bus does not
/// say which it is.
///
/// The data that [`decode`](Encoding::decode) gets comes from other programs: its time, its memory and the
/// stack that it takes should be bounded by the length of the data. A panic in an encoding, or in the
/// `Serialize` or `Deserialize` of a message, becomes an [`EncodingError`].
///
/// Which values can be carried, [`FlexBuffers`] and [`Json`] say. A type whose `Deserialize` reads another
/// value than its `Serialize` has written, changes with any encoding: `#[serde(untagged)]` takes the first
/// variant that fits, and `#[serde(skip)]` leaves things out. The body of an event is encoded without being
/// read again, so that the rules for serde's attributes are found by the subscriber.
///
/// Messages and answers of more than 256 KiB are encoded and decoded on a thread for blocking work
/// ([`tokio::task::spawn_blocking`]), so that they do not hold up other tasks. What has to begin in the
/// order in which it came is decoded where it came: pushes, calls of [serial](crate::Bus::serial) services,
/// and calls that are answered with a stream. Events, and what an encoding of a user encodes, stay where
/// they are as well.
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
pub trait Encoding: fmt::Debug + Any + Send + Sync {
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

/// The longest text of an [`EncodingError`], in bytes. It may quote the data of a peer.
const MAX_PROBLEM: usize = 500;

impl EncodingError {
    /// An error that says so. What is longer than 500 bytes is cut.
    pub fn new(problem: impl fmt::Display) -> Self {
        let mut text = Problem(String::new());
        // It fails where it is cut.
        let _ = write!(text, "{problem}");
        EncodingError(text.0)
    }

    /// The code of a user has panicked.
    fn panicked(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let error = match text {
            Some(text) => EncodingError::new(format_args!("it has panicked: {text}")),
            None => EncodingError::new("it has panicked"),
        };
        discard(payload);
        error
    }
}

/// Text that is cut, and has no control characters.
struct Problem(String);

impl fmt::Write for Problem {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.len() >= MAX_PROBLEM {
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

/// FlexBuffers: compact, self-describing, and what programs of `ya-service-bus` speak by default.
///
/// A value that cannot be carried exactly is [`Error::Encoding`](crate::Error::Encoding) at its sender.
///
/// | value | is carried |
/// |---|---|
/// | booleans, integers of up to 64 bits, floats, strings, options, lists, structs, enums | yes; programs of `ya-service-bus` read it |
/// | `char` up to U+00FF | yes; programs of `ya-service-bus` read it |
/// | any other `char`, `i128`, `u128` | yes; other readers report an error |
/// | `Some` of what is written as null: `Some(None)`, `Some(())` | yes; other readers report an error |
/// | maps with string keys | yes; entries arrive in the order of their keys |
/// | maps with other keys, or with a NUL in a key | yes; other readers report an error |
/// | a key of a map twice, a field or a variant with a NUL in its name | no |
/// | more than 128 lists, maps, structs and variants inside each other | no |
/// | a `char`, `i128`, `u128` or a key that is no string within `#[serde(untagged)]`, `tag`, `flatten` | only where serde itself can read it |
///
/// A `Vec<u8>` is a list of integers: for each of them it takes 1, 2 or 4 bytes, depending on the length of
/// the list. As bytes (`#[serde(with = "serde_bytes")]`, or `serde_bytes::ByteBuf`) it takes 1, and is
/// copied at once. Both ends must do the same.
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

/// JSON (feature `json`): for people, and for programs of `ya-service-bus` that were built so.
///
/// A value that cannot be carried exactly is [`Error::Encoding`](crate::Error::Encoding) at its sender.
///
/// | value | is carried |
/// |---|---|
/// | booleans, integers of up to 128 bits, finite floats, `char`, strings, options, lists, structs, enums | yes |
/// | a float that is not finite | no |
/// | `Some` of what is written as null: `Some(None)`, `Some(())` | no |
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

/// Runs code of a user: a panic in it is an error, and not the end of the task.
fn guarded<T>(work: impl FnOnce() -> Result<T, EncodingError>) -> Result<T, EncodingError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(EncodingError::panicked(payload)))
}

/// A value that was encoded.
struct Encoded {
    data: Vec<u8>,
    /// It has forms that are read where their type is known, and may not be read by types that look at
    /// the data first, as `#[serde(untagged)]`, `tag` and `flatten` do.
    is_rare: bool,
}

fn all(encoded: Option<Encoded>) -> Result<Vec<u8>, EncodingError> {
    encoded.map(|encoded| encoded.data).ok_or_else(|| EncodingError::new("it is too large"))
}

/// Encodes a value of a known type.
pub(crate) fn encode<T: Serialize>(
    encoding: &dyn Encoding,
    value: &T,
) -> Result<Vec<u8>, EncodingError> {
    guarded(|| all(encode_up_to(encoding, value, usize::MAX)?))
}

/// Encodes a value that must arrive: what cannot be read again is an error here, and not where it is
/// received.
pub(crate) fn encode_message<T: Serialize + DeserializeOwned>(
    encoding: &dyn Encoding,
    value: &T,
) -> Result<Vec<u8>, EncodingError> {
    let data = encode_message_up_to(encoding, value, usize::MAX)?;
    data.ok_or_else(|| EncodingError::new("it is too large"))
}

/// [`encode_message`], unless the data would become longer than `limit`.
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
            return Err(EncodingError::new(format_args!("it would not be read again: {error}")));
        }
        Ok(Some(data))
    })
}

/// Encodes a value, unless it would become longer than `limit`. An encoding of a user has no limit.
fn encode_up_to<T: Serialize>(
    encoding: &dyn Encoding,
    value: &T,
    limit: usize,
) -> Result<Option<Encoded>, EncodingError> {
    // What is known needs no detour.
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

/// Decodes a value of a known type.
pub(crate) fn decode<T: DeserializeOwned>(
    encoding: &dyn Encoding,
    data: &[u8],
) -> Result<T, EncodingError> {
    guarded(|| {
        // What is known needs no detour.
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
        value.ok_or_else(|| EncodingError::new("the encoding has read nothing"))
    })
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
