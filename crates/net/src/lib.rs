//! What router and client share of a socket.
//!
//! A [`Stream`] is a TCP or Unix socket. An [`Inbox`] reads frames from it. A [`Link`] is the stream
//! with an outbox: any task on any thread may append frames and write them at once as far as the
//! socket takes them; what it does not take is left to the one task that drives the link.

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
pub use link::{Link, Received, Stuck};
pub use log_limit::{LeftOut, LogLimit};
pub use outbox::{Fate, OutboxFull, TakenBack};
pub use queue::Ticket;
pub use stream::{StdStream, Stream};
