//! Time limits.

use std::io;
use std::time::Duration;

/// Waits for a future.
///
/// # Errors
/// `awaited` did not come within `limit`.
pub async fn within<F: Future>(awaited: &str, limit: Duration, future: F) -> io::Result<F::Output> {
    tokio::time::timeout(limit, future).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("{awaited} did not come within {limit:?}"))
    })
}
