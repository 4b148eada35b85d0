//! The time limit of tests.

use std::panic::Location;
use std::time::Duration;

/// How long a test waits for what must arrive: 20 s. Only a failing test waits so long.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Waits for a future. `what` names its result in the message of a panic.
///
/// # Panics
/// The future does not end within [`TIMEOUT`].
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        match tokio::time::timeout(TIMEOUT, future).await {
            Ok(result) => result,
            Err(_) => panic!("{caller}: {what} did not come within {TIMEOUT:?}"),
        }
    }
}
