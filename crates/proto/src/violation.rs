//! What a peer may do against the protocol.

use std::borrow::Cow;

use crate::extension::LEVEL;
use crate::kind::MessageKind;
use crate::wire::WireError;

/// What a peer did against the protocol. It costs the peer its connection, and nobody else anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The fifth byte of the connection fits neither framing.
    #[error("the connection begins like neither framing (its fifth byte is {0:#04x})")]
    UnknownFraming(u8),
    /// A classic header with a type number that no message has.
    #[error("message type {0} is unknown")]
    UnknownType(i32),
    /// A `Packet` without a message in it.
    #[error("the packet holds no message")]
    EmptyPacket,
    /// A frame whose header announces more than the limit. Both in bytes.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Body length in the frame's header.
        length: u64,
        /// Largest body length that is accepted.
        limit: usize,
    },
    /// A body that is not valid protobuf for its message.
    #[error("a {kind} does not decode: {error}")]
    Malformed {
        /// The message it should have been, or `Packet`.
        kind: &'static str,
        /// What is wrong with it.
        error: Cow<'static, str>,
    },
    /// A message that this side may not receive, such as a reply that only a router sends.
    #[error("a {} may not be sent to this side", .0.name())]
    WrongDirection(MessageKind),
    /// A message that the level of the connection does not include.
    #[error(
        "a {} needs level {LEVEL} of the protocol, and the first frame was no Hello of that level", .0.name()
    )]
    LevelTooLow(MessageKind),
    /// A second `Hello` on the same connection.
    #[error("a second Hello came")]
    SecondHello,
    /// A `Hello` whose instance id is longer than any real one. In bytes.
    #[error("the Hello's instance id has {0} bytes; 16 are usual")]
    InstanceIdTooLong(usize),
}

impl Violation {
    pub(crate) fn malformed(kind: MessageKind, error: WireError) -> Self {
        Violation::Malformed { kind: kind.name(), error: Cow::Owned(error.to_string()) }
    }

    /// A short name for counting violations by reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Violation::UnknownFraming(_) => "unknown framing",
            Violation::UnknownType(_) => "unknown type",
            Violation::EmptyPacket => "empty packet",
            Violation::FrameTooLarge { .. } => "frame too large",
            Violation::Malformed { .. } => "malformed message",
            Violation::WrongDirection(_) => "wrong direction",
            Violation::LevelTooLow(_) => "level too low",
            Violation::SecondHello => "second hello",
            Violation::InstanceIdTooLong(_) => "instance id too long",
        }
    }
}
