//! A rate limit for log messages.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time in which [`MOST`] messages are logged. The first of the next period says how many were left out.
const PERIOD: Duration = Duration::from_secs(60);

/// How many messages of a kind are logged in a [`PERIOD`].
const MOST: u32 = 10;

/// Limits how often messages of one kind are logged.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the period began.
    begun: Option<Instant>,
    logged: u32,
    /// Messages that were not logged since the last one that was.
    left_out: u64,
}

/// How many messages were left out before one that is logged; shows nothing if there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} like it were not logged)"),
        }
    }
}

impl LogLimit {
    /// Whether a message may be logged; if so, what to add to it.
    pub(crate) fn allow(&self) -> Option<LeftOut> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.begun.is_none_or(|begun| now.duration_since(begun) >= PERIOD) {
            state.begun = Some(now);
            state.logged = 0;
        }
        if state.logged == MOST {
            state.left_out = state.left_out.saturating_add(1);
            return None;
        }
        state.logged += 1;
        Some(LeftOut(std::mem::take(&mut state.left_out)))
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
}
