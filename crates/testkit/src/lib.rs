//! Routers and raw peers for the tests of this workspace.
//!
//! Everything here panics with a clear message when it does not get what it waits for in time.

mod background_calls;
mod descriptors;
mod peer;
mod process;
mod router;
mod usage;

use std::time::Duration;

pub use background_calls::BackgroundCalls;
pub use descriptors::{send_descriptor, slow_to_close};
pub use peer::{FakeRouter, Peer, all_kinds_of_peers};
pub use process::{RouterProcess, Spawned};
pub use router::{RouterPlace, TestRouter};
pub use usage::{Usage, mebibytes, raise_descriptor_limit};

/// How long a test waits for what must come: 20 s. Only a broken test ever waits so long.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Waits for what must come.
///
/// # Panics
/// It does not come within [`TIMEOUT`].
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(TIMEOUT, future).await {
            Ok(result) => result,
            Err(_) => panic!("{place}: waited in vain for {what}"),
        }
    }
}
