//! Saying the same thing now and then, and not each time.

use std::time::Duration;

use tokio::time::Instant;

/// A trouble that lasts is logged once in this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// How often many may say the same in [`INTERVAL`], each once.
const BURST: u32 = 10;

/// Keeps a log from being filled by one lasting trouble.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    until: Option<Instant>,
}

impl Quiet {
    /// Whether it is time to say it again. If so, not for a while from now.
    pub(crate) fn may_log(&mut self) -> bool {
        let now = Instant::now();
        let may = self.until.is_none_or(|until| now >= until);
        if may {
            self.until = Some(now + INTERVAL);
        }
        may
    }
}

/// Keeps a log from being filled by many that have the same trouble.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    begin: Quiet,
    count: u32,
}

impl Burst {
    /// Whether it may be said once more.
    pub(crate) fn may_log(&mut self) -> bool {
        if self.begin.may_log() {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count <= BURST
    }
}
