//! The extensions of this project: their level, and the numbers of the fields that are read or written in place.
//!
//! The table of all of them is in `docs/protocol.md` (rule FR-8); a test compares it with the messages.

/// The highest level of the extensions that is implemented here (rule CO-18).
pub const LEVEL: u32 = 1;

/// The lowest number of a field or message that is an extension.
pub const FIRST: u32 = 100;

/// `CallReply.reason`.
pub const REASON: u32 = 100;

/// `BroadcastRequest.missed`.
pub const MISSED: u32 = 100;

#[cfg(test)]
#[path = "extension_tests.rs"]
mod tests;
