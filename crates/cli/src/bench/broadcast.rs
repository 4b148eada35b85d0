//! Broadcasts to those who have subscribed.

use clap::Args;
use gsb_load::broadcast::{Load, run};
use gsb_load::{Failure, Measure};

use super::arguments::broadcast_payload;
use super::report::Report;
use super::{Common, Timing};

/// A load of broadcasts.
#[derive(Debug, Clone, Args)]
pub(crate) struct Broadcast {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    timing: Timing,

    /// Connections that have subscribed
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,

    /// Broadcasts that are sent before the slowest subscriber has the first of them
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    ahead: u64,

    /// Bytes that each broadcast carries, 8 at least. Bytes, or with a unit as in 8KiB
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = broadcast_payload)]
    payload: usize,
}

impl Broadcast {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let Broadcast { subscribers, ahead, payload, .. } = *self;
        let load = Load { subscribers, ahead, payload };
        let target = self.common.target()?;
        let pid = self.common.router(&target)?;
        let measure = |measure: &Measure<'_>| run(&load, &target, measure);
        let outcome = self.timing.measure(&self.common, pid, measure)?;
        let mut report = Report::new("broadcast", self.common.json);
        report.setting("subscribers", load.subscribers);
        report.setting("ahead", load.ahead);
        report.setting("payload_bytes", load.payload);
        report.throughput(&outcome, "deliveries", load.payload as u64);
        report.need(&outcome, pid, "delivery");
        report.missed(&outcome);
        report.print();
        outcome.check("deliveries")
    }
}
