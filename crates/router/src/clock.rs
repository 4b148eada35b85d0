//! A clock that stands still while the router does.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the clock is looked at, at least and at most: see [`Clock::beat`].
const BEAT: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);

/// How long the clock goes on standing still after the router has begun to run again, at most: time to read
/// what was sent meanwhile.
const GRACE: Duration = Duration::from_secs(1);

/// The time that the router has spent running, by the monotonic clock (rule LI-10).
///
/// A process that is stopped, or whose machine is, wakes up with all its timeouts over, and nothing read of
/// what was sent to it. So the time in which nothing of the router ran does not count. It is noticed when the clock was
/// not looked at for twice its [beat](Clock::beat).
#[derive(Debug)]
pub(crate) struct Clock {
    beat: Duration,
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the clock was looked at last, and the time that it showed.
    seen: Instant,
    shown: Instant,
    /// It stands still until then.
    goes_on: Instant,
}

impl Clock {
    /// For timeouts of which the shortest is this.
    pub(crate) fn new(shortest: Duration) -> Self {
        let now = real();
        Clock {
            beat: (shortest / 4).clamp(*BEAT.start(), *BEAT.end()),
            grace: shortest.min(GRACE),
            state: Mutex::new(State { seen: now, shown: now, goes_on: now }),
        }
    }

    /// How often the clock has to be looked at.
    pub(crate) fn beat(&self) -> Duration {
        self.beat
    }

    /// The current time.
    pub(crate) fn now(&self) -> Instant {
        let mut state = self.state.lock();
        let now = real();
        if now.saturating_duration_since(state.seen) > 2 * self.beat {
            state.goes_on = now + self.grace;
        }
        let since = state.seen.max(state.goes_on);
        state.shown += now.saturating_duration_since(since);
        state.seen = now;
        state.shown
    }

    /// Completes at a time of this clock.
    pub(crate) async fn sleep_until(&self, deadline: Instant) {
        loop {
            let left = deadline.saturating_duration_since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// Now, by the clock of tokio's timers: a test that pauses it pauses the whole router.
fn real() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
