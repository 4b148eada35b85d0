//! Encoding and decoding large messages on threads for blocking work.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::encoding::{Encoding, EncodingError, decode, encode_message, encode_message_up_to};

/// The size of a large message, in bytes. Encoding it takes some milliseconds in a debug build, and a tenth of that in a
/// release build: much more than the switch to another thread and back, which takes tens of microseconds, and as long as
/// other tasks may be delayed.
const LARGE: usize = 256 << 10;

/// Encodes a message and drops it. If the message turns out to be large, encoding starts again on another thread. A
/// custom encoding runs in place.
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

/// Whether decoding the data would delay other tasks.
pub(crate) fn is_large(data: &Bytes) -> bool {
    data.len() >= LARGE
}

/// Starts to decode a large message on another thread. `None` if the message is small, or there is no runtime.
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

/// The result of another thread. It is an error if the runtime ends.
async fn ended<T>(work: JoinHandle<Result<T, EncodingError>>) -> Result<T, EncodingError> {
    work.await.unwrap_or_else(|error| Err(EncodingError::new(error)))
}
