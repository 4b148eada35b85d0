//! The messages of `proto/gsb_api.proto`, generated at build time, and how they become [`Frame`]s and back.

use std::borrow::Cow;

use crate::frame::{Body, Frame, FrameRef};
use crate::kind::MessageKind;
use crate::violation::Violation;
use crate::wire::{ADDED_FIELDS, MAX_FIELDS, MAX_PLAIN, Records, WireError};

// The comments of generated code are those of the .proto file, and do not follow the lints.
#[allow(missing_docs, clippy::doc_markdown)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/gsb_api.rs"));
}

pub use generated::*;

/// A message that can be the content of a frame.
pub trait Message: prost::Message + Default {
    /// The kind of the frames with this message.
    const KIND: MessageKind;

    /// Encodes the message into a frame.
    fn to_frame(&self) -> Frame {
        Frame::new(Self::KIND, self.encode_to_vec())
    }
}

macro_rules! message_kinds {
    ($($message:ident),* $(,)?) => {
        $(impl Message for $message {
            const KIND: MessageKind = MessageKind::$message;
        })*
    };
}

message_kinds! {
    Hello, RegisterRequest, RegisterReply, UnregisterRequest, UnregisterReply, CallRequest, CallReply,
    SubscribeRequest, SubscribeReply, UnsubscribeRequest, UnsubscribeReply, BroadcastRequest,
    BroadcastReply, Ping, Pong, CancelCall, StreamCredit, CallData, GoAway, NameLost,
}

/// `into_frame` for messages with a payload. The number is that of the field `data`.
macro_rules! payload_frames {
    ($($message:ident: $field:literal),* $(,)?) => {
        $(impl $message {
            /// Encodes the message into a frame that shares the memory of `data` instead of copying it.
            pub fn into_frame(mut self) -> Frame {
                let data = std::mem::take(&mut self.data);
                Frame::with_payload(Self::KIND, prost::Message::encode_to_vec(&self), $field, data)
            }
        })*
    };
}

payload_frames! { CallRequest: 4, CallReply: 4, BroadcastRequest: 2, CallData: 2 }

impl FrameRef<'_> {
    /// Decodes the body as `M`.
    ///
    /// # Errors
    /// As for [`Frame::decode`].
    pub fn decode<M: Message>(&self) -> Result<M, Violation> {
        Frame::new(self.kind, self.body.to_bytes()).decode()
    }
}

impl Frame {
    /// Decodes the body as `M`.
    ///
    /// # Errors
    /// [`Violation::WrongDirection`] if the frame holds another kind of message, [`Violation::Malformed`] if the body
    /// is not a valid one or exceeds a limit of rules FR-11 and FR-12.
    pub fn decode<M: Message>(&self) -> Result<M, Violation> {
        if self.kind != M::KIND {
            return Err(Violation::WrongDirection(self.kind));
        }
        let body = match &self.body {
            Body::Whole(bytes) => bytes.clone(),
            spliced => spliced.clone().into_bytes(),
        };
        let check = || {
            if !M::KIND.has_payload() && body.len() > MAX_PLAIN {
                return Err(WireError::TooLong);
            }
            // A router may have added fields to a message with a payload after it checked the limit.
            let added = if M::KIND.has_payload() { ADDED_FIELDS } else { 0 };
            Records::check_count(&body, MAX_FIELDS + added)
        };
        check().map_err(|error| Violation::malformed(M::KIND, error))?;
        M::decode(body).map_err(|error| Violation::Malformed {
            kind: M::KIND.name(),
            error: Cow::Owned(error.to_string()),
        })
    }
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
