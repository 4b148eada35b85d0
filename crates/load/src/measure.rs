//! When is measured, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Failure;
use crate::process::{Need, Process};

/// How often progress is reported.
const PROGRESS: Duration = Duration::from_millis(100);

/// When is measured, and what beside the load itself.
pub struct Measure<'a> {
    /// How long the bus is loaded before.
    pub warm_up: Duration,
    /// How long is measured.
    pub duration: Duration,
    /// The process of the bus.
    pub pid: Option<u32>,
    /// Is told how much of the time is over, again and again.
    pub progress: &'a dyn Fn(Duration),
}

/// What was measured.
#[derive(Debug)]
pub struct Outcome {
    /// How long.
    pub elapsed: Duration,
    /// How many calls, streams or deliveries there were.
    pub count: u64,
    /// How long each took, in nanoseconds; empty if that was not measured.
    pub times: Histogram<u64>,
    /// How many calls failed, or broadcasts did not arrive.
    pub errors: u64,
    /// What one of the errors said.
    pub example: Option<String>,
    /// What the process of the bus has needed.
    pub need: Option<Need>,
}

impl Outcome {
    /// Whether all that was measured has come through, and anything at all. `units` is what was measured, as in `calls`.
    ///
    /// # Errors
    /// A sentence with the number of those that have failed.
    pub fn check(&self, units: &str) -> Result<(), Failure> {
        let units = units.to_owned();
        match (self.errors, self.count) {
            (0, 0) => Err(Failure::Nothing { units, time: self.elapsed }),
            (0, _) => Ok(()),
            (failed, count) => {
                let of = failed.saturating_add(count);
                Err(Failure::Failed { failed, of, units, example: self.example.clone() })
            }
        }
    }

    /// How many there were in a second.
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    /// How much processor time the process of the bus has needed for one, in microseconds; `None` if there were none.
    pub fn processor_microseconds(&self) -> Option<f64> {
        let need = self.need.filter(|_| self.count > 0)?;
        Some(need.processor.as_secs_f64() * 1e6 / self.count as f64)
    }
}

/// In which part of a measurement the load is.
#[derive(Debug, Clone)]
pub(crate) struct Stage(Arc<AtomicU8>);

impl Stage {
    const WARM_UP: u8 = 0;
    const MEASURED: u8 = 1;
    const OVER: u8 = 2;

    pub(crate) fn new() -> Self {
        Stage(Arc::new(AtomicU8::new(Stage::WARM_UP)))
    }

    pub(crate) fn is_measured(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Stage::MEASURED
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Stage::OVER
    }

    fn set(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }
}

/// How long was measured, and what the process of the bus has needed meanwhile.
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    pub(crate) need: Option<Need>,
}

impl Measure<'_> {
    /// Lets the load, which has begun, go on through all stages, or until it has failed.
    pub(crate) fn run(
        &self,
        stage: &Stage,
        has_failed: impl Fn() -> bool,
    ) -> Result<Measured, Failure> {
        let pause = |time: Duration, progress: &dyn Fn(Duration)| {
            let begin = Instant::now();
            while !has_failed()
                && let Some(left) = time.checked_sub(begin.elapsed()).filter(|left| !left.is_zero())
            {
                thread::sleep(left.min(PROGRESS));
                progress(begin.elapsed());
            }
        };
        pause(self.warm_up, &|_| {});
        let process = self.pid.map(Process::look).transpose();
        stage.set(Stage::MEASURED);
        let begin = Instant::now();
        pause(self.duration, self.progress);
        let elapsed = begin.elapsed();
        let need = process.and_then(|process| process.map(|process| process.need()).transpose());
        stage.set(Stage::OVER);
        Ok(Measured { elapsed, need: need? })
    }
}
