//! The messages of `proto/gsb_api.proto`, generated at build time, and how each becomes a [`Frame`].

use crate::frame::{Frame, MessageKind};

// Generated code: its comments are those of the .proto file, and enum values carry theirs there.
#[allow(missing_docs, clippy::doc_markdown)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/gsb_api.rs"));
}

pub use generated::*;

/// A message with a kind of its own, which can be framed and read back.
pub trait Message: prost::Message + Default {
    /// The kind that announces this message in a frame.
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
    BroadcastReply, Ping, Pong, CancelCall,
}

/// Messages with a payload, which is framed without being copied.
macro_rules! payload_frames {
    ($($message:ident: $field:literal),* $(,)?) => {
        $(impl $message {
            /// Encodes the message into a frame that shares the memory of `data`.
            pub fn into_frame(mut self) -> Frame {
                let data = std::mem::take(&mut self.data);
                Frame::with_payload(Self::KIND, prost::Message::encode_to_vec(&self), $field, data)
            }
        })*
    };
}

payload_frames! { CallRequest: 4, CallReply: 4, BroadcastRequest: 2 }

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
