//! Busy polling: a worker thread that runs out of work asks for more for a moment before it sleeps.
//!
//! Waking up takes a thread tens of microseconds, several times as long as routing a call takes. Busy polling saves
//! that time where a processor is free. Where none is free, it takes processor time from the peers, and the
//! scheduler then makes the thread wait for its turn. So each polling phase has an [`Outcome`], and the [`Backoff`]
//! decides from the outcomes how many wake-ups go by without polling.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio::task::yield_now;

/// Time between two checks for preemption in a polling phase.
const PREEMPTION_CHECK: Duration = Duration::from_millis(1);

/// The longest polling phase.
const LONGEST_PHASE: Duration = Duration::from_millis(20);

/// A thread that is preempted within this time of polling shares its processor with another busy thread: the scheduler
/// lets the two run in turn, for a few milliseconds each. Kernel threads, which run rarely, preempt less often.
const CONTENDED: Duration = Duration::from_millis(10);

/// After this much polling without preemption, half as many wake-ups are skipped because of preemption.
const CALM: Duration = Duration::from_millis(20);

/// The most wake-ups to skip after idle phases. Idle polling then takes a few hundredths of the thread's processor
/// time.
const MOST_SKIPPED_IDLE: u32 = 255;

/// The most wake-ups to skip after preempted phases. Their work takes about 50 ms of processor time, and a polling
/// phase up to a millisecond.
const MOST_SKIPPED_PREEMPTED: u32 = 1 << 12;

/// The busy polling of one worker thread.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    /// How long the thread polls without finding work; zero disables polling.
    time: Duration,
    /// A task has run since the flag was cleared.
    has_worked: AtomicBool,
    /// [`run`](BusyPoll::run) waits for `wake`.
    is_asleep: AtomicBool,
    wake: Notify,
}

/// How a polling phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It found work.
    Useful,
    /// It found no work.
    Idle,
    /// The scheduler gave the processor to another thread meanwhile.
    Preempted,
}

/// Decides at which wake-ups of the thread it polls.
///
/// After each phase it skips some wake-ups: none in the best case, more each time that a phase is idle, or preempted
/// on a contended processor. One useful phase ends the skipping that idle phases caused. Only [`CALM`] polling reduces
/// what preempted phases caused, because short phases are often not preempted even where all processors are busy.
#[derive(Debug, Default, PartialEq, Eq)]
struct Backoff {
    /// Wake-ups to skip because of idle phases.
    after_idle: u32,
    /// Wake-ups to skip because of preempted phases.
    after_preempted: u32,
    /// How long the thread has polled since it was preempted, or since `after_preempted` was halved.
    calm: Duration,
    /// Wake-ups still to skip.
    left: u32,
}

impl Backoff {
    /// Counts a wake-up. Returns whether the thread polls this time.
    fn should_poll(&mut self) -> bool {
        let should_poll = self.left == 0;
        self.left = self.left.saturating_sub(1);
        should_poll
    }

    /// Records the outcome of a polling phase that took `time`.
    fn record(&mut self, outcome: Outcome, time: Duration) {
        self.calm += time;
        match outcome {
            Outcome::Useful => self.after_idle = 0,
            Outcome::Idle => {
                self.after_idle = (self.after_idle * 2).clamp(1, MOST_SKIPPED_IDLE);
            }
            Outcome::Preempted => {
                if self.calm < CONTENDED {
                    self.after_preempted =
                        (self.after_preempted * 4).clamp(1, MOST_SKIPPED_PREEMPTED);
                }
                self.calm = Duration::ZERO;
            }
        }
        if self.calm >= CALM {
            self.after_preempted /= 2;
            self.calm = Duration::ZERO;
        }
        self.left = self.after_idle.max(self.after_preempted);
    }
}

impl BusyPoll {
    /// `time` is how long a thread polls without finding work; zero disables polling.
    pub(crate) fn new(time: Duration) -> Self {
        BusyPoll {
            time,
            has_worked: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Polls whenever the current thread has run out of work, and never ends. Runs on the thread of the tasks, each
    /// of which is [watched](BusyPoll::watch).
    pub(crate) async fn run(&self) {
        let mut backoff = Backoff::default();
        while !self.time.is_zero() {
            if backoff.should_poll() {
                let begin = Instant::now();
                let outcome = self.poll_once().await;
                backoff.record(outcome, begin.elapsed());
            }
            self.is_asleep.store(true, Ordering::Relaxed);
            self.wake.notified().await;
        }
        std::future::pending().await
    }

    /// One polling phase. It ends when there was no work for the configured time, when the thread was preempted, or
    /// after [`LONGEST_PHASE`].
    async fn poll_once(&self) -> Outcome {
        // The task that woke the thread does not count.
        self.has_worked.store(false, Ordering::Relaxed);
        let switches = involuntary_switches();
        let begin = Instant::now();
        let (mut last_work, mut last_check) = (begin, begin);
        let mut outcome = Outcome::Idle;
        loop {
            yield_now().await;
            let now = Instant::now();
            if self.has_worked.swap(false, Ordering::Relaxed) {
                outcome = Outcome::Useful;
                last_work = now;
            }
            let is_over = now - last_work >= self.time || now - begin >= LONGEST_PHASE;
            if is_over || now - last_check >= PREEMPTION_CHECK {
                last_check = now;
                if involuntary_switches() != switches {
                    return Outcome::Preempted;
                }
            }
            if is_over {
                return outcome;
            }
        }
    }

    /// Wraps a task of the thread, to record when it runs.
    pub(crate) fn watch<F: Future>(self: &Arc<Self>, task: F) -> Watched<F> {
        Watched { task, busy_poll: self.clone() }
    }

    fn note_work(&self) {
        self.has_worked.store(true, Ordering::Relaxed);
        if self.is_asleep.load(Ordering::Relaxed) {
            self.is_asleep.store(false, Ordering::Relaxed);
            self.wake.notify_one();
        }
    }
}

/// How often the scheduler has preempted the current thread (involuntary context switches). Always 0 where the system
/// does not count this.
fn involuntary_switches() -> std::ffi::c_long {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.involuntary_context_switches())
    }
    #[cfg(not(target_os = "linux"))]
    0
}

pin_project! {
    /// A task of the thread; see [`BusyPoll::watch`].
    pub(crate) struct Watched<F> {
        #[pin]
        task: F,
        busy_poll: Arc<BusyPoll>,
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.busy_poll.note_work();
        this.task.poll(context)
    }
}

#[cfg(test)]
#[path = "busy_poll_tests.rs"]
mod tests;
