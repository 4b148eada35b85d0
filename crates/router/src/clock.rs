//! The router's clock, which does not count the time in which the router was suspended.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The shortest and the longest time between two readings of the clock: see [`Clock::beat`].
const BEAT: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);

/// The longest time for which the clock stands still after a suspension. In this time the router reads the messages
/// that arrived meanwhile.
const GRACE: Duration = Duration::from_secs(1);

/// A monotonic clock that counts only the time in which the router runs (rule LI-10).
///
/// After a suspension of the process or the machine, all timeouts would be over, before the router could read the
/// messages that have arrived. So the time of a suspension does not count. The clock detects it when it was not read
/// for twice its [beat](Clock::beat).
#[derive(Debug)]
pub(crate) struct Clock {
    beat: Duration,
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the clock was last read, and the time that it showed.
    seen: Instant,
    shown: Instant,
    /// The moment until which it stands still.
    goes_on: Instant,
}

impl Clock {
    /// A clock for timeouts of at least `shortest`.
    pub(crate) fn new(shortest: Duration) -> Self {
        let now = real();
        Clock {
            beat: (shortest / 4).clamp(*BEAT.start(), *BEAT.end()),
            grace: shortest.min(GRACE),
            state: Mutex::new(State { seen: now, shown: now, goes_on: now }),
        }
    }

    /// The longest time that may pass between two readings of the clock.
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

/// The current time of tokio's timers, so that a test that pauses them pauses the whole router.
fn real() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
