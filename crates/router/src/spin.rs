//! Staying awake for a moment.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio::task::yield_now;

/// Keeps a thread from going to sleep just before it is needed again.
///
/// To wake up takes a thread tens of microseconds, several times what it takes to route a call. So after its last
/// task it asks the system for more, without waiting, for a moment before it waits.
#[derive(Debug)]
pub(crate) struct Spin {
    /// For how long; zero is never.
    time: Duration,
    /// Some task has run.
    is_busy: AtomicBool,
    is_asleep: AtomicBool,
    wake: Notify,
}

/// Whether it is worth it. Where what comes comes too late each time, it is tried more and more seldom, and in
/// the end costs a few hundredths of what the thread does.
#[derive(Debug, Default, PartialEq, Eq)]
struct Worth {
    /// So often it is left out after it was in vain, and so often still.
    pause: u8,
    left: u8,
}

impl Worth {
    /// The thread has woken; whether to stay awake this time.
    fn is_worth_it(&mut self) -> bool {
        let is_worth_it = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_worth_it
    }

    /// The thread has stayed awake; whether anything came.
    fn has_stayed(&mut self, was_needed: bool) {
        self.pause = if was_needed { 0 } else { self.pause.saturating_mul(2).max(1) };
        self.left = self.pause;
    }
}

impl Spin {
    /// `time` is how long a thread stays awake for nothing.
    pub(crate) fn new(time: Duration) -> Self {
        Spin {
            time,
            is_busy: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Keeps the current thread awake, again and again. To be run beside its tasks, each of them
    /// [watched](Spin::watch).
    pub(crate) async fn stay_awake(&self) {
        let mut worth = Worth::default();
        while !self.time.is_zero() {
            if worth.is_worth_it() {
                worth.has_stayed(self.stay_awake_once().await);
            }
            self.is_asleep.store(true, Ordering::Relaxed);
            self.wake.notified().await;
        }
        std::future::pending().await
    }

    /// Stays awake until nothing has run for as long as is set; whether anything has.
    async fn stay_awake_once(&self) -> bool {
        // What has woken the thread.
        self.is_busy.store(false, Ordering::Relaxed);
        let mut was_needed = false;
        let mut begin = Instant::now();
        while begin.elapsed() < self.time {
            yield_now().await;
            if self.is_busy.swap(false, Ordering::Relaxed) {
                was_needed = true;
                begin = Instant::now();
            }
        }
        was_needed
    }

    /// A task of which is noted when it runs.
    pub(crate) fn watch<F: Future>(self: &Arc<Self>, task: F) -> Watched<F> {
        Watched { task, spin: self.clone() }
    }

    fn note(&self) {
        self.is_busy.store(true, Ordering::Relaxed);
        if self.is_asleep.load(Ordering::Relaxed) {
            self.is_asleep.store(false, Ordering::Relaxed);
            self.wake.notify_one();
        }
    }
}

pin_project! {
    /// See [`Spin::watch`].
    pub(crate) struct Watched<F> {
        #[pin]
        task: F,
        spin: Arc<Spin>,
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.spin.note();
        this.task.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_vain_is_tried_ever_more_seldom() {
        let mut worth = Worth::default();
        let mut tried = Vec::new();
        for time in 0..1000 {
            if worth.is_worth_it() {
                tried.push(time);
                worth.has_stayed(false);
            }
        }
        assert_eq!(tried, [0, 2, 5, 10, 19, 36, 69, 134, 263, 519, 775]);
        // Once it helps, it is tried each time.
        while !worth.is_worth_it() {}
        worth.has_stayed(true);
        assert_eq!(worth, Worth::default());
    }

    #[tokio::test]
    async fn a_task_that_runs_keeps_the_thread_awake() {
        let spin = Arc::new(Spin::new(Duration::from_millis(1)));
        assert!(!spin.stay_awake_once().await);
        let task = spin.watch(async {
            for _ in 0..10 {
                yield_now().await;
            }
        });
        let (was_needed, ()) = tokio::join!(spin.stay_awake_once(), task);
        assert!(was_needed);
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_with_the_tasks_and_never_for_no_time() {
        for time in [Duration::ZERO, Duration::from_micros(1)] {
            let spin = Arc::new(Spin::new(time));
            let awake = tokio::spawn({
                let spin = spin.clone();
                async move { spin.stay_awake().await }
            });
            for _ in 0..20 {
                // Time passes only while nothing is to be done: whoever spins for ever would hold it up.
                tokio::time::sleep(Duration::from_secs(1)).await;
                spin.watch(yield_now()).await;
            }
            assert!(!awake.is_finished());
            awake.abort();
        }
    }
}
