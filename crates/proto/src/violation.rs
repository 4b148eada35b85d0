//! Violations of the protocol by a peer.

use std::borrow::Cow;

use crate::kind::MessageKind;
use crate::wire::WireError;

/// Longest instance id that a `Hello` may have, in bytes; real ones have 16 (rule CO-15).
pub const MAX_INSTANCE_ID: usize = 64;

/// A violation of the protocol. The router closes the connection of the peer that commits it, and no other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The connection's fifth byte fits neither framing.
    #[error(
        "the first five bytes fit neither framing of GSB (the fifth is {0:#04x}); does the peer speak GSB?"
    )]
    UnknownFraming(u8),
    /// An unknown type number in a classic header.
    #[error("message type {0} is unknown")]
    UnknownType(i32),
    /// A `Packet` without a known message.
    #[error("a Packet contains no known message")]
    EmptyPacket,
    /// A header that announces a larger body than the limit.
    #[error("a frame of {length} bytes is over the limit of {limit} bytes")]
    FrameTooLarge {
        /// Body length in the frame's header, in bytes.
        length: u64,
        /// Largest accepted body length, in bytes.
        limit: usize,
    },
    /// A body that is not a valid message, or exceeds a limit of rules FR-11 and FR-12.
    #[error("the message {kind} cannot be decoded: {error}")]
    Malformed {
        /// The name of the expected message, or `Packet`.
        kind: &'static str,
        /// The reason.
        error: Cow<'static, str>,
    },
    /// A message of the wrong direction, such as a `RegisterReply` to a router.
    #[error("the message {} may not be sent in this direction", .0.name())]
    WrongDirection(MessageKind),
    /// An extension on a connection of a level that does not include it.
    #[error(
        "the message {} needs level {} of the protocol, but the first frame was not a Hello of that level",
        .0.name(), .0.level()
    )]
    LevelTooLow(MessageKind),
    /// A second `Hello` on the same connection.
    #[error("a second Hello was sent; a connection may send one")]
    SecondHello,
    /// A `Hello` with an instance id that is too long, with its length in bytes.
    #[error("the instance id in a Hello has {0} bytes; at most {MAX_INSTANCE_ID} are allowed")]
    InstanceIdTooLong(usize),
}

impl Violation {
    pub(crate) fn malformed(kind: MessageKind, error: WireError) -> Self {
        Violation::Malformed { kind: kind.name(), error: Cow::Owned(error.to_string()) }
    }

    /// A short name of the kind of violation, for counters and logs.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_problem_and_the_values() {
        let malformed = |error| Violation::malformed(MessageKind::CallRequest, error);
        let texts = [
            (
                Violation::UnknownFraming(0xa2),
                "the first five bytes fit neither framing of GSB (the fifth is 0xa2); does the peer speak GSB?",
            ),
            (Violation::UnknownType(99), "message type 99 is unknown"),
            (Violation::EmptyPacket, "a Packet contains no known message"),
            (
                Violation::FrameTooLarge { length: 2000, limit: 1000 },
                "a frame of 2000 bytes is over the limit of 1000 bytes",
            ),
            (
                malformed(WireError::Truncated),
                "the message CallRequest cannot be decoded: it ends in the middle of a field",
            ),
            (
                malformed(WireError::TooMuchText),
                "the message CallRequest cannot be decoded: it has more than 65536 bytes of text",
            ),
            (
                Violation::WrongDirection(MessageKind::RegisterReply),
                "the message RegisterReply may not be sent in this direction",
            ),
            (
                Violation::LevelTooLow(MessageKind::CancelCall),
                "the message CancelCall needs level 1 of the protocol, but the first frame was not a Hello of that level",
            ),
            (Violation::SecondHello, "a second Hello was sent; a connection may send one"),
            (
                Violation::InstanceIdTooLong(65),
                "the instance id in a Hello has 65 bytes; at most 64 are allowed",
            ),
        ];
        for (violation, text) in texts {
            assert_eq!(violation.to_string(), text);
        }
    }
}
