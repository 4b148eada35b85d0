//! Load generators for a message bus, and the measuring of a bus under load.
//!
//! The connections of a load do as little work as they can, so that the bus is what is measured: messages are encoded
//! once and sent many times, and received messages are parsed in the read buffer. Each load works with any
//! [`Protocol`]; [`Gsb`] is the protocol of this bus.
//!
//! | module | load |
//! |---|---|
//! | [`call`] | calls and their replies, or streams of replies |
//! | [`broadcast`] | a publisher and its subscribers |
//! | [`idle`] | idle connections, with or without registered names |
//!
//! With the feature `harness`, the module `harness` builds, starts and stops the servers that benchmarks compare, and
//! prints their figures.

pub mod broadcast;
pub mod call;
mod failure;
mod gsb;
#[cfg(feature = "harness")]
pub mod harness;
pub mod idle;
mod limits;
mod measurement;
#[cfg(feature = "harness")]
mod nats;
mod peer;
mod preflight;
mod protocol;
mod resources;
mod router_process;
mod target;
mod threads;

pub use failure::{Failure, refusal_text};
pub use gsb::Gsb;
pub use limits::{LARGEST_BACKLOG, LARGEST_PAYLOAD};
pub use measurement::{Measurement, Outcome};
#[cfg(feature = "harness")]
pub use nats::Nats;
pub use peer::Peer;
pub use preflight::raise_descriptor_limit;
pub use protocol::{Incoming, Protocol};
pub use resources::{ResourceUse, descriptors};
pub use router_process::router_process;
pub use target::Target;
