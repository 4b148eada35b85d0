//! One measurement.

use std::fmt;
use std::time::Duration;

use gsb_load::call::{Answer, Load as Calls};
use gsb_load::harness::within;
use gsb_load::{Failure, Gsb, Measurement, Nats, Outcome, Protocol, Target, broadcast, call, idle};
use gsb_proto::Framing;

use crate::contender::Contender;
use crate::figures::{Figure, Readings};
use crate::programs::Programs;
use crate::rows::{Row, SMALL_CALLS, Work};

/// How long a measurement may take beside its load: a million names take some seconds.
const EXTRA_TIME: Duration = Duration::from_secs(30);

/// Payload in bytes from which on the rate of calls is shown in bytes.
const BULK: usize = 1 << 10;

/// The length of a measurement, and of the load before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

impl fmt::Display for Timing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timing { warm_up, duration } = self;
        write!(formatter, "of {duration:?} each after {warm_up:?} of the same load")
    }
}

impl Timing {
    /// Measures one contender, on a server that is started for this.
    ///
    /// # Errors
    /// The text of a failure.
    pub(crate) fn measure(
        self,
        row: &Row,
        contender: Contender,
        programs: &Programs,
    ) -> Result<Readings, String> {
        let server = programs.start(contender, row.socket).map_err(|error| error.to_string())?;
        let (address, pid) = (server.address.clone(), server.pid());
        let work = row.work.of(contender);
        let is_paired = contender == Contender::Relay;
        let limit = 2 * (self.warm_up + self.duration) + EXTRA_TIME;
        let readings = within(pid, limit, || {
            if contender.is_nats() {
                let target = Target { address, protocol: Nats::default() };
                self.work(work, is_paired, &target, pid)
            } else {
                let target = Target { address, protocol: Gsb(Framing::Packet) };
                self.work(work, is_paired, &target, pid)
            }
        });
        readings.unwrap_or_else(|| Err(format!("it did not end within {limit:.1?}")))
    }

    fn work<P: Protocol>(
        self,
        work: &Work,
        is_paired: bool,
        target: &Target<P>,
        pid: u32,
    ) -> Result<Readings, String> {
        match work {
            Work::Calls(load) => {
                let load = Calls { is_paired, ..load.clone() };
                let outcome =
                    self.load(pid, |measurement| call::run(&load, target, measurement))?;
                let mut readings = vec![match load.answer {
                    Answer::Echo if load.payload < BULK => (Figure::Calls, outcome.per_second()),
                    Answer::Echo => mebibytes(&outcome, 2 * load.payload),
                    Answer::Stream { chunks, payload } => {
                        mebibytes(&outcome, chunks as usize * payload)
                    }
                }];
                readings.extend(processor(&outcome));
                let percentiles = [(Figure::P50, 50.0), (Figure::P99, 99.0), (Figure::P999, 99.9)];
                readings.extend(percentiles.into_iter().filter_map(|(figure, percentile)| {
                    let latency = outcome.latency(percentile)?;
                    Some((figure, latency.as_nanos() as f64 / 1000.0))
                }));
                if outcome.errors > 0 {
                    readings.push((Figure::Failed, outcome.errors as f64));
                }
                Ok(readings)
            }
            Work::Clients(load) => load.measure(&target.address, pid, self.warm_up, self.duration),
            Work::Pair { .. } => Err("it has two loads".to_owned()),
            Work::Broadcast(load) => {
                let outcome =
                    self.load(pid, |measurement| broadcast::run(load, target, measurement))?;
                let mut readings = vec![(Figure::Deliveries, outcome.per_second())];
                readings.extend(processor(&outcome));
                let (errors, count) = (outcome.errors as f64, outcome.count as f64);
                readings.push((Figure::Lost, 100.0 * errors / (errors + count)));
                Ok(readings)
            }
            Work::Idle { load, with_calls } => {
                let calls = |figure| -> Result<_, String> {
                    let run = |measurement: &Measurement<'_>| {
                        call::run(&SMALL_CALLS, target, measurement)
                    };
                    Ok((figure, self.load(pid, run)?.per_second()))
                };
                let mut readings = Vec::new();
                if *with_calls {
                    readings.push(calls(Figure::CallsBefore)?);
                }
                let connections = idle::connect(load, target, Some(pid), &|_| {}).map_err(text)?;
                if *with_calls {
                    readings.push(calls(Figure::CallsBeside)?);
                }
                let memory = connections.memory.unwrap_or_default();
                readings.push((Figure::Memory, memory as f64 / f64::from(load.names)));
                connections.close().map_err(text)?;
                Ok(readings)
            }
        }
    }

    fn load(
        self,
        pid: u32,
        run: impl FnOnce(&Measurement<'_>) -> Result<Outcome, Failure>,
    ) -> Result<Outcome, String> {
        let Timing { warm_up, duration } = self;
        let outcome = run(&Measurement { warm_up, duration, pid: Some(pid), progress: &|_| {} })
            .map_err(text)?;
        match (outcome.count, outcome.example) {
            (0, Some(example)) => Err(example),
            (0, None) => Err("nothing ended".to_owned()),
            (_, example) => Ok(Outcome { example, ..outcome }),
        }
    }
}

fn mebibytes(outcome: &Outcome, size: usize) -> (Figure, f64) {
    (Figure::Mebibytes, outcome.per_second() * size as f64 / f64::from(1 << 20))
}

fn processor(outcome: &Outcome) -> Option<(Figure, f64)> {
    Some((Figure::Processor, outcome.processor_microseconds()?))
}

/// The text of a failure without the address, which differs in each round.
fn text(failure: Failure) -> String {
    match failure {
        Failure::Connect { error, .. } => format!("cannot connect: {error}"),
        failure => failure.to_string(),
    }
}
