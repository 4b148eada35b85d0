//! The attempts to connect to the router.

use std::time::Duration;

use crate::reconnect::Reconnect;

/// After a connection that has lasted at least this long, the pauses begin anew.
const STABLE: Duration = Duration::from_secs(1);

/// The most failures that count if the router was restarted. With the default delays the pauses are up to 1.6 s then.
const MAX_AFTER_RESTART: u32 = 4;

/// Counts the failed attempts to connect, and chooses the pause before the next one.
#[derive(Debug)]
pub(crate) struct Backoff {
    options: Reconnect,
    /// How many attempts in a row have failed.
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(options: Reconnect) -> Self {
        Backoff { options, failures: 0 }
    }

    /// How many attempts in a row have failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The pause before the next attempt. `None` if the attempts are used up.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        if self.options.attempts.is_some_and(|attempts| self.failures >= attempts) {
            return None;
        }
        let delay = self.options.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        Some(delay)
    }

    /// A connection was lost after `time`. If it was lost at once, the attempt counts as failed, so that a client does
    /// not connect without pauses to a router that rejects it, or that crashes again and again. If the router was
    /// restarted, few failures count, so that its clients are back within seconds.
    pub(crate) fn lasted(&mut self, time: Duration, is_new_router: bool) {
        if time >= STABLE.min(self.options.longest_delay) {
            self.failures = 0;
        } else if is_new_router {
            self.failures = self.failures.min(MAX_AFTER_RESTART);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn attempts_end_when_they_are_limited() {
        let mut backoff = Backoff::new(Reconnect::default().attempts(2));
        assert!(backoff.next().is_some());
        assert!(backoff.next().is_some());
        assert_eq!(backoff.next(), None);
        backoff.lasted(SECOND, false);
        assert!(backoff.next().is_some());
        assert_eq!(Backoff::new(Reconnect::default().attempts(0)).next(), None);
    }

    #[test]
    fn a_connection_that_does_not_last_counts_as_a_failure() {
        let mut backoff = Backoff::new(Reconnect::default());
        for failures in 1..=6 {
            backoff.next();
            backoff.lasted(Duration::from_millis(50), false);
            assert_eq!(backoff.failures(), failures);
        }
        backoff.lasted(SECOND, false);
        assert_eq!(backoff.failures(), 0);
    }

    #[test]
    fn a_router_in_a_crash_loop_is_not_connected_to_without_a_pause() {
        let mut backoff = Backoff::new(Reconnect::default());
        for failures in [1, 2, 3, 4, 5, 5, 5] {
            backoff.next();
            assert_eq!(backoff.failures(), failures);
            backoff.lasted(Duration::from_millis(300), true);
        }
        assert_eq!(backoff.options.ceiling(backoff.failures()), Duration::from_millis(1600));
        backoff.lasted(SECOND, true);
        assert_eq!(backoff.failures(), 0);
    }
}
