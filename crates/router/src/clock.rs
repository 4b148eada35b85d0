//! A clock that stands still while the router does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the clock is looked at, at least and at most: see [`Clock::beat`].
const BEAT: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);

/// How long the clock goes on standing still after the router has begun to run again, at most: time to read
/// what was sent meanwhile.
const GRACE: Duration = Duration::from_secs(1);

/// How many standstills are remembered one by one.
const REMEMBERED: usize = 16;

/// The time that the router has spent running, by the monotonic clock.
///
/// A process that is stopped, or whose machine is, wakes up with all its timeouts over, and nothing read of
/// what was sent to it. So the time in which nothing of the router ran does not count for any of them (rule
/// LI-10). That it stood still is noticed when nobody has looked at the clock for twice its
/// [beat](Clock::beat).
#[derive(Debug)]
pub(crate) struct Clock {
    beat: Duration,
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the clock was looked at last.
    seen: Instant,
    /// When it stood still, oldest first, and apart from each other.
    standstills: VecDeque<Standstill>,
    /// How long it stood still before those.
    before: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Standstill {
    from: Instant,
    until: Instant,
}

impl Clock {
    /// For timeouts of which the shortest is this.
    pub(crate) fn new(shortest: Duration) -> Self {
        Clock {
            beat: (shortest / 4).clamp(*BEAT.start(), *BEAT.end()),
            grace: shortest.min(GRACE),
            state: Mutex::new(State {
                seen: real(),
                standstills: VecDeque::new(),
                before: Duration::ZERO,
            }),
        }
    }

    /// How often somebody has to look at the clock.
    pub(crate) fn beat(&self) -> Duration {
        self.beat
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Instant {
        let mut state = self.state.lock();
        let now = real();
        if now.saturating_duration_since(state.seen) > 2 * self.beat {
            let standstill = Standstill { from: state.seen, until: now + self.grace };
            state.add(standstill);
        }
        state.seen = now;
        state.running(now)
    }

    /// What time it was at a moment of the clock of tokio.
    pub(crate) fn at(&self, moment: Instant) -> Instant {
        self.state.lock().running(moment)
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

impl State {
    fn add(&mut self, standstill: Standstill) {
        match self.standstills.back_mut() {
            Some(last) if last.until >= standstill.from => last.until = standstill.until,
            _ => self.standstills.push_back(standstill),
        }
        if self.standstills.len() > REMEMBERED
            && let Some(oldest) = self.standstills.pop_front()
        {
            self.before += oldest.until - oldest.from;
        }
    }

    fn running(&self, moment: Instant) -> Instant {
        let stood = |it: &Standstill| moment.min(it.until).saturating_duration_since(it.from);
        let lost = self.before + self.standstills.iter().map(stood).sum::<Duration>();
        // Before the first moment there is none.
        moment.checked_sub(lost).unwrap_or(moment)
    }
}

/// Now, by the clock of tokio's timers: a test that pauses it pauses the whole router.
fn real() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
