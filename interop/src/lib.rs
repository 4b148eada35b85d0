//! Shared by the interoperability tests and the peer programs.

pub mod classic;
pub mod commands;
pub mod messages;
pub mod peer;
pub mod router;
pub mod witness;

use std::time::Duration;

/// How long a test waits before it fails.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// Waits for a future. `awaited` names its result in the message of a panic.
///
/// # Panics
/// The future takes longer than [`TIMEOUT`].
pub async fn within<F: Future>(awaited: &str, future: F) -> F::Output {
    match tokio::time::timeout(TIMEOUT, future).await {
        Ok(output) => output,
        Err(_) => panic!("{awaited} did not come within {TIMEOUT:?}"),
    }
}
