//! What the interoperability tests and the peer programs share.

pub mod classic;
pub mod commands;
pub mod messages;
pub mod peer;
pub mod router;
pub mod witness;

use std::time::Duration;

/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What `future` gives, unless it takes longer than [`PATIENCE`].
///
/// # Panics
/// When it does; `awaited` says what did not come.
pub async fn within<F: Future>(awaited: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{awaited} did not come within {PATIENCE:?}"),
    }
}
