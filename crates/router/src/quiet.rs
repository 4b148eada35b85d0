//! Saying the same thing now and then, and not each time.

use std::time::{Duration, Instant};

use crate::clock;

/// A trouble that lasts is logged once in this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// Keeps a log from being filled by one lasting trouble.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    until: Option<Instant>,
}

impl Quiet {
    /// Whether it is time to say it again. If so, not for a while from now.
    pub(crate) fn may_log(&mut self) -> bool {
        let now = clock::now();
        let may = self.until.is_none_or(|until| now >= until);
        if may {
            self.until = Some(now + INTERVAL);
        }
        may
    }
}
