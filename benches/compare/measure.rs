//! One measurement.

use std::fmt;
use std::time::Duration;

use gsb_load::call::{Answer, Load as Calls};
use gsb_load::{Failure, Gsb, Measure, Outcome, Protocol, Target, broadcast, call, crowd};
use gsb_proto::Framing;

use crate::contender::Contender;
use crate::figures::{Figure, Shown};
use crate::nats::Nats;
use crate::programs::Programs;
use crate::rows::{Row, SMALL_CALLS, Work};
use crate::server::Server;

/// How long a measurement may take beyond what is measured: the largest crowd takes some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes from which on calls are counted by what they carry.
const BULK: usize = 1 << 10;

/// How long is measured, and how long a server is loaded before.
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
    /// Measures one contender, on a server of its own.
    ///
    /// # Errors
    /// A sentence about what has failed.
    pub(crate) fn measure(
        self,
        row: &Row,
        contender: Contender,
        programs: &Programs,
    ) -> Result<Shown, String> {
        let server =
            Server::start(programs, contender, row.socket).map_err(|error| error.to_string())?;
        let (address, pid) = (server.address.clone(), server.pid());
        let is_paired = contender == Contender::Relay;
        let limit = 2 * (self.warm_up + self.duration) + PATIENCE;
        let shown = server.within(limit, || {
            if contender.is_nats() {
                let target = Target { address, protocol: Nats::default() };
                self.work(&row.work, is_paired, &target, pid)
            } else {
                let target = Target { address, protocol: Gsb(Framing::Packet) };
                self.work(&row.work, is_paired, &target, pid)
            }
        });
        match shown {
            Some(shown) => shown,
            None => Err(format!("something was lost, and waited for until {limit:.1?} were over")),
        }
    }

    fn work<P: Protocol>(
        self,
        work: &Work,
        is_paired: bool,
        target: &Target<P>,
        pid: u32,
    ) -> Result<Shown, String> {
        match work {
            Work::Calls(load) => {
                let load = Calls { is_paired, ..load.clone() };
                let outcome = self.load(pid, |measure| call::run(&load, target, measure))?;
                let mut shown = vec![match load.answer {
                    Answer::Echo if load.payload < BULK => (Figure::Calls, outcome.per_second()),
                    Answer::Echo => mebibytes(&outcome, 2 * load.payload),
                    Answer::Stream { chunks, payload } => {
                        mebibytes(&outcome, chunks as usize * payload)
                    }
                }];
                shown.extend(processor(&outcome));
                let times = [(Figure::P50, 50.0), (Figure::P99, 99.0), (Figure::P999, 99.9)];
                shown.extend(times.map(|(figure, percentile)| {
                    (figure, outcome.times.value_at_percentile(percentile) as f64 / 1000.0)
                }));
                if outcome.errors > 0 {
                    shown.push((Figure::Failed, outcome.errors as f64));
                }
                Ok(shown)
            }
            Work::Broadcast(load) => {
                let outcome = self.load(pid, |measure| broadcast::run(load, target, measure))?;
                let mut shown = vec![(Figure::Deliveries, outcome.per_second())];
                shown.extend(processor(&outcome));
                let (errors, count) = (outcome.errors as f64, outcome.count as f64);
                shown.push((Figure::Lost, 100.0 * errors / (errors + count)));
                Ok(shown)
            }
            Work::Crowd { load, is_beside_calls } => {
                let calls = |figure| -> Result<_, String> {
                    let run = |measure: &Measure<'_>| call::run(&SMALL_CALLS, target, measure);
                    Ok((figure, self.load(pid, run)?.per_second()))
                };
                let mut shown = Vec::new();
                if *is_beside_calls {
                    shown.push(calls(Figure::CallsBefore)?);
                }
                let crowd = crowd::gather(load, target, Some(pid), &|_| {}).map_err(sentence)?;
                if *is_beside_calls {
                    shown.push(calls(Figure::CallsBeside)?);
                }
                let memory = crowd.memory.unwrap_or_default();
                shown.push((Figure::Memory, memory as f64 / f64::from(load.names)));
                crowd.disperse().map_err(sentence)?;
                Ok(shown)
            }
        }
    }

    fn load(
        self,
        pid: u32,
        run: impl FnOnce(&Measure<'_>) -> Result<Outcome, Failure>,
    ) -> Result<Outcome, String> {
        let Timing { warm_up, duration } = self;
        let outcome = run(&Measure { warm_up, duration, pid: Some(pid), progress: &|_| {} })
            .map_err(sentence)?;
        match (outcome.count, outcome.example) {
            (0, Some(example)) => Err(example),
            (0, None) => Err("nothing has come through".to_owned()),
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

/// What has failed, without where: that is another place each time.
fn sentence(failure: Failure) -> String {
    match failure {
        Failure::Connect { error, .. } => format!("no more connections: {error}"),
        failure => failure.to_string(),
    }
}
