//! Measures broadcasts.

use clap::Args;
use gsb_load::broadcast::{Load, run};
use gsb_load::{Failure, Measurement};

use super::arguments::broadcast_payload;
use super::options::{Common, Timing};
use super::report::Report;

/// A load of broadcasts.
#[derive(Debug, Clone, Args)]
pub(crate) struct Broadcast {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    timing: Timing,

    /// Connections of subscribers
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,

    /// How many broadcasts the publisher may be ahead of the slowest subscriber
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    ahead: u64,

    /// Payload of each broadcast, at least 8 bytes; with a unit as in 8KiB, otherwise in bytes
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = broadcast_payload)]
    payload: usize,
}

impl Broadcast {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let Broadcast { subscribers, ahead, payload, .. } = *self;
        let load = Load { subscribers, ahead, payload };
        let target = self.common.target()?;
        let pid = self.common.router(&target)?;
        let measure = |measurement: &Measurement<'_>| run(&load, &target, measurement);
        let outcome = self.timing.measure(&self.common, pid, measure)?;
        let mut report = Report::new("broadcast", self.common.json);
        report.setting("subscribers", load.subscribers);
        report.setting("ahead", load.ahead);
        report.setting("payload_bytes", load.payload);
        report.throughput(&outcome, "deliveries", load.payload as u64);
        report.resources(&outcome, pid, "delivery");
        report.lost(&outcome);
        report.print();
        outcome.check("deliveries")
    }
}
