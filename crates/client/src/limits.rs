//! What a router accepts of a message, judged before it is sent.

use gsb_proto::{Frame, MAX_TEXT};

use crate::error::Error;

/// What framing and a router's id of a call may add to a message on its way. In bytes.
const FRAME_ROOM: usize = 64;

/// Whether a router of this limit accepts the frame.
pub(crate) fn check_size(frame: &Frame, limit: usize) -> Result<(), Error> {
    let length = frame.body.len() + FRAME_ROOM;
    if length > limit {
        return Err(Error::TooLarge { length, limit });
    }
    Ok(())
}

/// Whether a message may have these texts: over more, a router closes the connection (rule FR-12).
pub(crate) fn check_text<const N: usize>(texts: [&String; N]) -> Result<(), Error> {
    match texts.iter().map(|text| text.len()).sum() {
        length if length > MAX_TEXT => Err(Error::TooLarge { length, limit: MAX_TEXT }),
        _ => Ok(()),
    }
}
