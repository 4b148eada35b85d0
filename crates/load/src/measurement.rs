//! The time span of a measurement, and its outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::resources::ResourceUse;

/// Time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The time span of a measurement, and the process that is measured beside the load.
pub struct Measurement<'a> {
    /// How long the bus is loaded before the measurement begins.
    pub warm_up: Duration,
    /// The length of the measurement.
    pub duration: Duration,
    /// The process of the bus, whose resources are measured; `None` leaves them out.
    pub pid: Option<u32>,
    /// Called every 100 ms with the elapsed part of `duration`.
    pub progress: &'a dyn Fn(Duration),
}

/// The outcome of a measurement.
#[derive(Debug)]
pub struct Outcome {
    /// The length of the measurement.
    pub elapsed: Duration,
    /// How many calls, streams or deliveries ended.
    pub count: u64,
    /// The latency of each in nanoseconds; empty if it was not measured.
    pub latencies: Histogram<u64>,
    /// How many calls failed, or how many broadcasts were lost.
    pub errors: u64,
    /// The text of one of the errors.
    pub example: Option<String>,
    /// What the process of the bus used; its processor time is that of the measurement.
    pub resources: Option<ResourceUse>,
}

impl Outcome {
    /// Checks that something ended and nothing failed. `units` is what was measured, as in `calls`.
    ///
    /// # Errors
    /// [`Failure::Failed`] or [`Failure::Nothing`].
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

    /// Calls, streams or deliveries per second.
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    /// A percentile of the latency; `None` if no latency was measured.
    pub fn latency(&self, percentile: f64) -> Option<Duration> {
        let value = || self.latencies.value_at_percentile(percentile);
        (!self.latencies.is_empty()).then(|| Duration::from_nanos(value()))
    }

    /// Processor time of the bus for each call, stream or delivery, in microseconds. `None` if it was not measured, or
    /// nothing ended.
    pub fn processor_microseconds(&self) -> Option<f64> {
        let resources = self.resources.filter(|_| self.count > 0)?;
        Some(resources.processor.as_secs_f64() * 1e6 / self.count as f64)
    }
}

/// The phase that a load is in, shared by its threads.
#[derive(Debug, Clone)]
pub(crate) struct Phase(Arc<AtomicU8>);

impl Phase {
    const WARM_UP: u8 = 0;
    const MEASURED: u8 = 1;
    const OVER: u8 = 2;

    pub(crate) fn new() -> Self {
        Phase(Arc::new(AtomicU8::new(Phase::WARM_UP)))
    }

    pub(crate) fn is_measured(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Phase::MEASURED
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Phase::OVER
    }

    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }
}

/// What was measured beside the load itself.
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    pub(crate) resources: Option<ResourceUse>,
}

impl Measurement<'_> {
    /// Takes a load that has started through all phases, or until it fails.
    pub(crate) fn run(
        &self,
        phase: &Phase,
        has_failed: impl Fn() -> bool,
    ) -> Result<Measured, Failure> {
        let wait = |time: Duration, progress: &dyn Fn(Duration)| {
            let begin = Instant::now();
            while !has_failed()
                && let Some(left) = time.checked_sub(begin.elapsed()).filter(|left| !left.is_zero())
            {
                thread::sleep(left.min(PROGRESS_INTERVAL));
                progress(begin.elapsed());
            }
        };
        wait(self.warm_up, &|_| {});
        let before = self.pid.map(ResourceUse::of).transpose();
        phase.set(Phase::MEASURED);
        let begin = Instant::now();
        wait(self.duration, self.progress);
        let elapsed = begin.elapsed();
        let after = self.pid.map(ResourceUse::of).transpose();
        phase.set(Phase::OVER);
        let resources = after?.zip(before?).map(|(after, before)| after.since(before));
        Ok(Measured { elapsed, resources })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_measured_call_there_is_no_latency() {
        let mut outcome = Outcome {
            elapsed: Duration::from_secs(1),
            count: 0,
            latencies: Histogram::new(3).expect("a histogram"),
            errors: 0,
            example: None,
            resources: None,
        };
        assert_eq!(outcome.latency(50.0), None);
        outcome.latencies.saturating_record(1000);
        assert_eq!(outcome.latency(50.0), Some(Duration::from_micros(1)));
    }
}
