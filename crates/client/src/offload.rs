//! Encoding and decoding of large messages, beside the threads that run tasks.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::encoding::{Encoding, EncodingError, decode, encode_message, encode_message_up_to};

/// From how many bytes on a message is large. They take some milliseconds where nothing is optimized, and
/// a tenth of that where it is: much more than the way to another thread and back, which takes tens of
/// microseconds, and no more than other tasks may wait for.
const LARGE: usize = 256 << 10;

/// Encodes a message, which is dropped then. Whether it is large turns out while it is encoded; it then
/// begins anew on another thread. An encoding of a user is left where it is.
pub(crate) async fn encode_owned<T>(
    encoding: &Arc<dyn Encoding>,
    value: T,
) -> Result<Vec<u8>, EncodingError>
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    match encode_message_up_to(&**encoding, &value, LARGE)? {
        Some(data) => Ok(data),
        // Without a runtime there is no other thread.
        None if Handle::try_current().is_err() => encode_message(&**encoding, &value),
        None => {
            let encoding = encoding.clone();
            let work = move || encode_message(&*encoding, &value);
            ended(tokio::task::spawn_blocking(work)).await
        }
    }
}

/// Decodes a message.
pub(crate) async fn decode_owned<T>(
    encoding: &Arc<dyn Encoding>,
    data: Bytes,
) -> Result<T, EncodingError>
where
    T: DeserializeOwned + Send + 'static,
{
    match decode_elsewhere(encoding, &data) {
        None => decode(&**encoding, &data),
        Some(decoding) => ended(decoding).await,
    }
}

/// Whether decoding this should not hold up other tasks.
pub(crate) fn is_large(data: &Bytes) -> bool {
    data.len() >= LARGE
}

/// Begins to decode a large message, if there is another thread.
pub(crate) fn decode_elsewhere<T>(
    encoding: &Arc<dyn Encoding>,
    data: &Bytes,
) -> Option<JoinHandle<Result<T, EncodingError>>>
where
    T: DeserializeOwned + Send + 'static,
{
    if !is_large(data) || Handle::try_current().is_err() {
        return None;
    }
    let (encoding, data) = (encoding.clone(), data.clone());
    Some(tokio::task::spawn_blocking(move || decode(&*encoding, &data)))
}

/// The result of another thread. There is none if the runtime ends.
async fn ended<T>(work: JoinHandle<Result<T, EncodingError>>) -> Result<T, EncodingError> {
    work.await.unwrap_or_else(|error| Err(EncodingError::new(error)))
}
