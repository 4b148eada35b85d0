//! Measures calls, and streams of replies.

use clap::Args;
use gsb_load::Failure;
use gsb_load::call::{Answer, Distribution, Load, run};

use super::arguments::payload;
use super::options::{Common, Timing};
use super::report::Report;

/// Payload in bytes of a call that asks for a stream.
const REQUEST: usize = 8;

/// A load of calls.
#[derive(Debug, Clone, Args)]
pub(crate) struct Call {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    timing: Timing,

    #[command(flatten)]
    peers: Peers,

    /// Open calls of each caller
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,

    /// Payload of each call and each reply; with a unit as in 8KiB, otherwise in bytes
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = payload)]
    payload: usize,
}

/// A load of streams.
#[derive(Debug, Clone, Args)]
pub(crate) struct Stream {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    timing: Timing,

    #[command(flatten)]
    peers: Peers,

    /// Open streams of each caller
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,

    /// Replies of each stream
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    chunks: u32,

    /// Payload of each reply; with a unit as in 4KiB, otherwise in bytes
    #[arg(long, value_name = "SIZE", default_value = "4KiB", value_parser = payload)]
    payload: usize,
}

#[derive(Debug, Clone, Args)]
struct Peers {
    /// Connections of callers
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    callers: u32,

    /// Connections of services; the callers are distributed over them
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    services: u32,

    /// Threads of the load: 1, or 2, one for callers and one for services
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    threads: u32,

    /// Registers nothing, and connects each caller directly after its own service: for a relay that joins every
    /// two consecutive connections
    #[arg(long, hide = true)]
    paired: bool,
}

impl Call {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let load = self.peers.load(self.depth, self.payload, Answer::Echo);
        let report = Report::new("call", self.common.json);
        measure(&load, &self.common, &self.timing, report, "call", 2 * self.payload as u64)
    }
}

impl Stream {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let answer = Answer::Stream { chunks: self.chunks, payload: self.payload };
        let load = self.peers.load(self.depth, REQUEST, answer);
        let mut report = Report::new("stream", self.common.json);
        report.setting("chunks", self.chunks);
        report.setting("chunk_bytes", self.payload);
        let size = u64::from(self.chunks) * self.payload as u64;
        measure(&load, &self.common, &self.timing, report, "stream", size)
    }
}

impl Peers {
    fn load(&self, depth: u32, payload: usize, answer: Answer) -> Load {
        let Peers { callers, services, threads, paired: is_paired } = *self;
        let (distribution, timeout_ms) = (Distribution::PerCaller, 0);
        Load {
            callers,
            services,
            depth,
            payload,
            answer,
            threads,
            is_paired,
            distribution,
            timeout_ms,
        }
    }
}

fn measure(
    load: &Load,
    common: &Common,
    timing: &Timing,
    mut report: Report,
    unit: &str,
    size: u64,
) -> Result<(), Failure> {
    let target = common.target()?;
    // Finding the process makes a connection, and a relay would join that with one of the load.
    let pid = if load.is_paired { common.pid } else { common.router(&target)? };
    let outcome = timing.measure(common, pid, |measurement| run(load, &target, measurement))?;
    report.setting("callers", load.callers);
    report.setting("services", load.services);
    report.setting("depth", load.depth);
    report.setting("payload_bytes", load.payload);
    report.throughput(&outcome, &format!("{unit}s"), size);
    report.latencies(&outcome);
    report.resources(&outcome, pid, unit);
    report.errors(&outcome);
    report.print();
    outcome.check(&format!("{unit}s"))
}
