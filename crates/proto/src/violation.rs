//! Violations of the protocol by a peer.

use std::borrow::Cow;

use crate::extension::LEVEL;
use crate::kind::MessageKind;
use crate::wire::WireError;

/// A violation of the protocol. The router closes the connection of the peer that commits it, and no other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The connection's fifth byte fits neither framing.
    #[error("the connection begins in neither framing (its fifth byte is {0:#04x})")]
    UnknownFraming(u8),
    /// An unknown type number in a classic header.
    #[error("message type {0} is unknown")]
    UnknownType(i32),
    /// A `Packet` without a known message.
    #[error("the packet holds no message")]
    EmptyPacket,
    /// A header that announces a larger body than the limit.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Body length in the frame's header, in bytes.
        length: u64,
        /// Largest accepted body length, in bytes.
        limit: usize,
    },
    /// A body that is not a valid message, or exceeds a limit of rules FR-11 and FR-12.
    #[error("a {kind} does not decode: {error}")]
    Malformed {
        /// The name of the expected message, or `Packet`.
        kind: &'static str,
        /// The reason.
        error: Cow<'static, str>,
    },
    /// A message of the wrong direction, such as a `RegisterReply` to a router.
    #[error("a {} may not be sent to this side", .0.name())]
    WrongDirection(MessageKind),
    /// An extension on a connection of a level that does not include it.
    #[error(
        "a {} needs level {LEVEL} of the protocol, but the first frame was not a Hello of that level", .0.name()
    )]
    LevelTooLow(MessageKind),
    /// A second `Hello` on the same connection.
    #[error("a second Hello was sent")]
    SecondHello,
    /// A `Hello` with an instance id that is too long, with its length in bytes.
    #[error("the Hello's instance id has {0} bytes instead of 16")]
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
                "the connection begins in neither framing (its fifth byte is 0xa2)",
            ),
            (Violation::UnknownType(99), "message type 99 is unknown"),
            (Violation::EmptyPacket, "the packet holds no message"),
            (
                Violation::FrameTooLarge { length: 2000, limit: 1000 },
                "a frame of 2000 bytes is over the limit of 1000",
            ),
            (
                malformed(WireError::Truncated),
                "a CallRequest does not decode: it ends in the middle of a field",
            ),
            (
                malformed(WireError::TooMuchText),
                "a CallRequest does not decode: it has more than 65536 bytes of text",
            ),
            (
                Violation::WrongDirection(MessageKind::RegisterReply),
                "a RegisterReply may not be sent to this side",
            ),
            (
                Violation::LevelTooLow(MessageKind::CancelCall),
                "a CancelCall needs level 1 of the protocol, but the first frame was not a Hello of that level",
            ),
            (Violation::SecondHello, "a second Hello was sent"),
            (
                Violation::InstanceIdTooLong(17),
                "the Hello's instance id has 17 bytes instead of 16",
            ),
        ];
        for (violation, text) in texts {
            assert_eq!(violation.to_string(), text);
        }
    }
}
