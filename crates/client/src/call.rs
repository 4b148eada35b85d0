//! A call, as a handler receives it.

use std::fmt;

use bytes::Bytes;

/// A call, as a handler receives it.
#[non_exhaustive]
pub struct Call {
    /// The name of the caller, as the caller states it. It is not verified.
    pub caller: String,
    /// The address that was called: the service id, or an address below it.
    pub address: String,
    /// The payload.
    pub data: Bytes,
    pub(crate) no_reply: bool,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("caller", &self.caller)
            .field("address", &self.address)
            .field("length", &self.data.len())
            .finish_non_exhaustive()
    }
}

impl Call {
    /// Whether the caller waits for a reply. It does not wait for the reply to a push, which is dropped.
    pub fn wants_reply(&self) -> bool {
        !self.no_reply
    }
}
