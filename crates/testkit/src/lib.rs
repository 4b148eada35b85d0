//! Routers and raw peers for the tests of this workspace.
//!
//! Everything here panics with a message that names what is missing, if it does not arrive within [`TIMEOUT`].

mod background_calls;
mod descriptors;
mod fake_router;
mod peer;
mod process;
mod router;
mod timeout;
mod usage;

pub use background_calls::BackgroundCalls;
pub use descriptors::{send_descriptor, slow_to_close};
pub use fake_router::FakeRouter;
pub use peer::{Peer, all_kinds_of_peers};
pub use process::{RouterProcess, Spawned};
pub use router::{RouterPlace, TestRouter};
pub use timeout::{TIMEOUT, within};
pub use usage::{Usage, mebibytes, raise_descriptor_limit};
