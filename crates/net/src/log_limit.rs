//! A rate limit for log messages.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time over which messages are counted.
const PERIOD: Duration = Duration::from_secs(60);

/// The default limit for messages of one kind in a [`PERIOD`].
const DEFAULT_MOST: u32 = 10;

/// Limits how many messages of one kind are logged in a minute: 10 by default.
///
/// The first message after some were left out says how many.
#[derive(Debug)]
pub struct LogLimit {
    most: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the period began.
    begun: Option<Instant>,
    /// Messages logged in this period.
    logged: u32,
    /// Messages that were left out since the last logged one.
    left_out: u64,
}

/// The number of messages that were left out before a logged one. Displays as a suffix for that message; as nothing
/// if there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut(u64);

impl LeftOut {
    /// For a message to which no limit applies.
    pub const NONE: LeftOut = LeftOut(0);
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} like it were not logged)"),
        }
    }
}

impl LogLimit {
    /// Allows at most `most` messages a minute.
    pub fn new(most: u32) -> Self {
        LogLimit { most, state: Mutex::default() }
    }

    /// Counts a message. Returns what to append to it, or `None` if it must not be logged.
    pub fn allow(&self) -> Option<LeftOut> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.begun.is_none_or(|begun| now.duration_since(begun) >= PERIOD) {
            state.begun = Some(now);
            state.logged = 0;
        }
        if state.logged >= self.most {
            state.left_out = state.left_out.saturating_add(1);
            return None;
        }
        state.logged += 1;
        Some(LeftOut(std::mem::take(&mut state.left_out)))
    }
}

impl Default for LogLimit {
    fn default() -> Self {
        LogLimit::new(DEFAULT_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_messages_a_minute_are_logged() {
        let limit = LogLimit::default();
        let allowed = (0..100).filter_map(|_| limit.allow()).collect::<Vec<_>>();
        assert_eq!(allowed, [LeftOut(0); 10]);
        tokio::time::advance(PERIOD).await;
        let left_out = limit.allow().map(|left_out| left_out.to_string());
        assert_eq!(left_out.as_deref(), Some(" (90 like it were not logged)"));
        assert_eq!(limit.allow(), Some(LeftOut(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_one_allows_one_message_a_minute() {
        let limit = LogLimit::new(1);
        for expected in [0, 1, 1] {
            assert_eq!(limit.allow(), Some(LeftOut(expected)));
            assert_eq!(limit.allow(), None);
            tokio::time::advance(PERIOD).await;
        }
    }
}
