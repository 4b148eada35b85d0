//! An event, as a subscriber receives it.

use std::fmt;

use bytes::Bytes;
use gsb_proto::messages::BroadcastRequest;

use crate::headers::Headers;

/// An event, as a subscriber receives it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broadcast {
    /// The topic of the event. A pattern if the publisher used one.
    pub topic: String,
    /// The name of the publisher, as the publisher states it. It is not verified.
    pub caller: String,
    /// The payload.
    pub data: Bytes,
    /// The headers.
    pub headers: Headers,
}

impl Broadcast {
    /// The size that counts towards the limit of a buffer, in bytes.
    pub(crate) fn length(&self) -> usize {
        self.topic.len() + self.caller.len() + self.data.len() + self.headers.memory()
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("topic", &self.topic)
            .field("caller", &self.caller)
            .field("length", &self.data.len())
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl From<BroadcastRequest> for Broadcast {
    fn from(event: BroadcastRequest) -> Self {
        let BroadcastRequest { topic, caller, data, headers, .. } = event;
        Broadcast { topic, caller, data, headers: headers.into() }
    }
}
