//! What time it is.

use std::time::Instant;

/// Now, by the clock of tokio's timers: a test that pauses it pauses the whole router.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
