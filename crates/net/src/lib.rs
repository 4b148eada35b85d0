//! Connections of routers and clients: transports, and how frames are read from and written to a socket.
//!
//! A [`Stream`] is a connected socket. An [`Inbox`] reads frames from it. A [`Link`] is a stream with an outbox: any task
//! on any thread may append frames to the outbox and write them directly. If the socket does not accept all of them, the
//! task that drives the link writes the rest later.

mod advice;
mod batch;
mod connect;
mod descriptors;
mod inbox;
mod link;
mod log_limit;
#[cfg(feature = "memory")]
pub mod memory;
mod outbox;
pub mod private_directory;
mod queue;
mod stream;

pub use advice::connect_advice;
pub use batch::Batch;
pub use descriptors::{FilteredSocket, refuse_descriptors};
pub use inbox::{Inbox, Peek};
pub use link::{Link, Received};
pub use log_limit::{LeftOut, LogLimit};
pub use outbox::OutboxFull;
pub use queue::QueuedFrame;
pub use stream::{StdStream, Stream};
