//! What time it is.

use std::time::{Duration, Instant};

/// Whoever wakes up so much later than planned was not let run in time: the whole process, or its machine,
/// stood still.
pub(crate) const LATE: Duration = Duration::from_secs(1);

/// Now, by the clock of tokio's timers: a test that pauses it pauses the whole router.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
