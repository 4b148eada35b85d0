//! Whether a router accepts a message, checked before it is sent.

use gsb_proto::messages::Header;
use gsb_proto::{Frame, MAX_TEXT};

use crate::error::Error;

/// How many bytes framing and a router's own request id may add to a message.
const FRAME_OVERHEAD: usize = 64;

/// Fails if a frame is larger than `limit`, in bytes.
pub(crate) fn check_size(frame: &Frame, limit: usize) -> Result<(), Error> {
    let length = frame.body.len() + FRAME_OVERHEAD;
    if length > limit {
        return Err(Error::TooLarge { length, limit });
    }
    Ok(())
}

/// Fails if the texts of a message are longer than a router accepts: it closes the connection over longer ones (rule
/// FR-12).
pub(crate) fn check_text<const N: usize>(
    texts: [&String; N],
    headers: &[Header],
) -> Result<(), Error> {
    let headers = headers.iter().map(|header| header.name.len() + header.value.len());
    match texts.iter().map(|text| text.len()).chain(headers).sum() {
        length if length > MAX_TEXT => Err(Error::TooLarge { length, limit: MAX_TEXT }),
        _ => Ok(()),
    }
}
