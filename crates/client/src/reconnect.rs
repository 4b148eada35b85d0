//! When to try again.

use std::time::Duration;

use crate::shared::FOREVER;

/// How a lost connection is made again: after a random time between nothing and a limit that doubles
/// with each failure, so that clients which lost the same router do not all come back at once.
///
/// ```
/// use std::time::Duration;
/// use gsb_client::{Bus, Reconnect};
///
/// let patient = Reconnect::default().longest_delay(Duration::from_secs(60));
/// let impatient = Reconnect::default().first_delay(Duration::from_millis(10)).attempts(20);
/// # let _ = (Bus::builder().reconnect(patient), Bus::builder().reconnect(impatient));
/// let never = Bus::builder().reconnect(None);
/// # let _ = never;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconnect {
    first_delay: Duration,
    longest_delay: Duration,
    attempts: Option<u32>,
}

impl Default for Reconnect {
    /// Up to 100 ms at first, up to 30 s in the end, for ever.
    fn default() -> Self {
        Reconnect {
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(30),
            attempts: None,
        }
    }
}

impl Reconnect {
    /// The longest time before the first attempt. 100 ms by default.
    #[must_use]
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.first_delay = delay;
        self
    }

    /// The longest time before any attempt. 30 s by default.
    #[must_use]
    pub fn longest_delay(mut self, delay: Duration) -> Self {
        self.longest_delay = delay;
        self
    }

    /// How many attempts in a row may fail before the connection is lost for good. `None`, the default,
    /// is for ever.
    #[must_use]
    pub fn attempts(mut self, attempts: impl Into<Option<u32>>) -> Self {
        self.attempts = attempts.into();
        self
    }

    /// The longest time before an attempt that comes after so many failures.
    fn ceiling(&self, failures: u32) -> Duration {
        let factor = 2_u32.checked_pow(failures).unwrap_or(u32::MAX);
        let first = self.first_delay.max(SHORTEST);
        first.saturating_mul(factor).min(self.longest_delay).min(FOREVER)
    }

    /// How long to wait after so many failures.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        self.ceiling(failures).mul_f64(fastrand::f64())
    }
}

/// Least of the longest delays: one of zero would never grow.
const SHORTEST: Duration = Duration::from_millis(1);

/// A connection that has lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(1);

/// As how many failures a connection counts at most that was lost at once, if its router is another one than before.
/// With the default delays, the pauses are up to 1.6 s then.
const RESTARTS: u32 = 4;

/// Where the attempts to connect stand.
#[derive(Debug)]
pub(crate) struct Backoff {
    options: Reconnect,
    /// Attempts in a row that came to nothing.
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(options: Reconnect) -> Self {
        Backoff { options, failures: 0 }
    }

    /// Attempts in a row that came to nothing.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// How long to wait before the next attempt; `None` if there is to be none.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        if self.options.attempts.is_some_and(|attempts| self.failures >= attempts) {
            return None;
        }
        let delay = self.options.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        Some(delay)
    }

    /// A connection has lasted so long. One that was lost at once is a failure, so that neither a router that turns
    /// its clients away nor one in a crash loop is connected to without a pause. A router that was restarted turns
    /// no client away, though: its clients are back within seconds.
    pub(crate) fn lasted(&mut self, time: Duration, is_new_router: bool) {
        if time >= GOOD.min(self.options.longest_delay) {
            self.failures = 0;
        } else if is_new_router {
            self.failures = self.failures.min(RESTARTS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_longest_delay_doubles_up_to_a_limit() {
        let options = Reconnect::default();
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000];
        for (failures, expected) in (0..).zip(expected) {
            assert_eq!(options.ceiling(failures), Duration::from_millis(expected));
        }
        assert_eq!(options.ceiling(u32::MAX), 30 * SECOND);
        let endless = options.first_delay(Duration::MAX).longest_delay(Duration::MAX);
        assert_eq!(endless.ceiling(5), FOREVER);
    }

    #[test]
    fn delays_are_spread_over_the_whole_range() {
        fastrand::seed(7);
        let options = Reconnect::default().first_delay(SECOND).longest_delay(SECOND);
        let mut tenths = [0; 10];
        for _ in 0..1000 {
            let delay = options.delay(0);
            assert!(delay <= SECOND);
            tenths[(delay.as_secs_f64() * 10.0) as usize % 10] += 1;
        }
        assert!(tenths.iter().all(|&count| count > 50), "{tenths:?}");
    }

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
