//! The pauses between attempts to connect.

use std::time::Duration;

use crate::timeouts::FOREVER;

/// How a lost connection is made again. Before each attempt there is a random pause between zero and a limit that
/// doubles with each failure, so that the clients of a router do not all reconnect at once.
///
/// ```
/// use std::time::Duration;
/// use gsb_client::{Bus, Reconnect};
///
/// let slow = Reconnect::default().longest_delay(Duration::from_secs(60));
/// let fast = Reconnect::default().first_delay(Duration::from_millis(10)).attempts(20);
/// # let _ = (Bus::builder().reconnect(slow), Bus::builder().reconnect(fast));
/// let never = Bus::builder().reconnect(None);
/// # let _ = never;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconnect {
    first_delay: Duration,
    pub(crate) longest_delay: Duration,
    pub(crate) attempts: Option<u32>,
}

impl Default for Reconnect {
    /// Pauses of up to 100 ms at first and up to 30 s in the end, without a limit on the attempts.
    fn default() -> Self {
        Reconnect {
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(30),
            attempts: None,
        }
    }
}

impl Reconnect {
    /// The longest pause before the first attempt. Default: 100 ms.
    #[must_use]
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.first_delay = delay;
        self
    }

    /// The longest pause before any attempt. Default: 30 s.
    #[must_use]
    pub fn longest_delay(mut self, delay: Duration) -> Self {
        self.longest_delay = delay;
        self
    }

    /// How many attempts in a row may fail before the bus ends. Default: `None`, which is no limit.
    #[must_use]
    pub fn attempts(mut self, attempts: impl Into<Option<u32>>) -> Self {
        self.attempts = attempts.into();
        self
    }

    /// The longest pause after `failures` attempts in a row have failed.
    pub(crate) fn ceiling(&self, failures: u32) -> Duration {
        let factor = 2_u32.checked_pow(failures).unwrap_or(u32::MAX);
        let first = self.first_delay.max(SHORTEST);
        first.saturating_mul(factor).min(self.longest_delay).min(FOREVER)
    }

    /// A random pause after `failures` attempts in a row have failed.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        self.ceiling(failures).mul_f64(fastrand::f64())
    }
}

/// The least of [`first_delay`](Reconnect::first_delay): zero would never grow.
const SHORTEST: Duration = Duration::from_millis(1);

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
}
