//! The Golem Service Bus protocol (GSB) without I/O: messages, framings, names and addresses.
//!
//! | module | content |
//! |---|---|
//! | [`messages`] | the protobuf messages of `proto/gsb_api.proto` |
//! | [`kind`] | the kinds of messages and their numbers |
//! | [`extension`] | the table of extension fields: what this project adds to the published protocol |
//! | [`frame`] | one encoded message with its kind |
//! | [`framing`] | the two framings, and their headers |
//! | [`decoder`] | finds the frames in received bytes |
//! | [`head`] | routing heads: the fields that a router reads of the messages that it forwards |
//! | [`wire`] | the fields of any message, read in place |
//! | [`violation`] | violations of the protocol |
//! | [`names`] | service ids and topics, and the maps that look them up |
//! | [`address`] | addresses of routers: `tcp://host:port`, `unix:/path` |
//! | [`quoted`] | quotes texts of peers in messages for users and operators |
//! | [`incremental_table`] | a hash table that grows and shrinks incrementally |
//! | `codec` | a codec for tokio-util's `Framed` (feature `codec`) |
//!
//! The crate has no sockets, clocks, tasks or log. Its rules are those of `docs/protocol.md`.

pub mod address;
#[cfg(feature = "codec")]
pub mod codec;
pub mod decoder;
pub mod extension;
pub mod frame;
pub mod framing;
pub mod head;
pub mod incremental_table;
pub mod kind;
pub mod messages;
pub mod names;
pub mod quoted;
pub mod violation;
pub mod wire;

pub use address::{Address, AddressError};
pub use decoder::{FrameBounds, FrameDecoder};
pub use extension::LEVEL;
pub use frame::{Body, Frame, FrameRef, Outgoing, Slice};
pub use framing::Framing;
pub use incremental_table::IncrementalTable;
pub use kind::MessageKind;
pub use names::{MAX_NAME, NameError, PrefixMap, ServiceId, Topic, TopicId, TopicMap};
pub use quoted::Quoted;
pub use violation::Violation;
pub use wire::MAX_TEXT;
