//! The Golem Service Bus protocol (GSB) without a socket: what its peers say, how it is framed, and
//! what names, topics and addresses look like.
//!
//! | module | what it holds |
//! |---|---|
//! | [`messages`] | the protobuf messages of `proto/gsb_api.proto` |
//! | [`kind`] | what a message is, and its number |
//! | [`extension`] | what this project adds to the published protocol |
//! | [`frame`] | one message with its kind, and the two framings it may travel in |
//! | [`head`] | the fields a router reads of a message that it passes on unchanged |
//! | [`incremental_table`] | a hash table that grows and shrinks in small steps |
//! | [`name`] | service ids and topics, checked once and valid ever after |
//! | [`quoted`] | text of a peer in messages for users and operators |
//! | [`prefix_map`] | service id → value, found by the longest prefix of an address |
//! | [`topic_map`] | subscriptions with patterns, found by a broadcast's topic |
//! | [`wire`] | the fields of any message, read where they stand |
//! | [`address`] | where a bus listens: `tcp://host:port`, `unix:/path` |
//! | `codec` | an adapter for tokio-util's `Framed` (feature `codec`) |
//!
//! Nothing here knows a socket, a clock or a task. The rules come from `docs/protocol.md`.

pub mod address;
#[cfg(feature = "codec")]
pub mod codec;
pub mod extension;
pub mod frame;
pub mod head;
pub mod incremental_table;
pub mod kind;
pub mod messages;
pub mod name;
pub mod prefix_map;
pub mod quoted;
pub mod topic_map;
mod violation;
pub mod wire;

pub use address::{Address, AddressError};
pub use extension::LEVEL;
pub use frame::{
    Body, Frame, FrameDecoder, FrameRef, Framing, MessageKind, Outgoing, Slice, Violation,
};
pub use incremental_table::IncrementalTable;
pub use name::{MAX_NAME, NameError, ServiceId, Topic};
pub use prefix_map::PrefixMap;
pub use quoted::Quoted;
pub use topic_map::{TopicId, TopicMap};
pub use wire::MAX_TEXT;
