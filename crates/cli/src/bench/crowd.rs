//! Connections that do nothing, and many names.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use gsb_load::Failure;
use gsb_load::crowd::{Load, gather};

use super::Common;
use super::arguments::{name_length, time};
use super::report::Report;

/// How often is looked whether somebody has left.
const LOOK: Duration = Duration::from_millis(100);

/// Connections that do nothing.
#[derive(Debug, Clone, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    common: Common,

    /// How many
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Names that they have in all; without, one each
    #[arg(long, value_name = "COUNT")]
    names: Option<u32>,

    /// How long they stay
    #[arg(short, long, value_name = "TIME", default_value = "0s", value_parser = time)]
    duration: Duration,
}

/// Many names.
#[derive(Debug, Clone, Args)]
pub(crate) struct Register {
    #[command(flatten)]
    common: Common,

    /// How many
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    names: u32,

    /// How long each is. Bytes, 40 to 1024
    #[arg(long, value_name = "SIZE", default_value = "60", value_parser = name_length)]
    length: usize,

    /// Connections that they are spread over
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// How long they stay
    #[arg(short, long, value_name = "TIME", default_value = "0s", value_parser = time)]
    duration: Duration,
}

impl Idle {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let connections = self.connections;
        let names = self.names.unwrap_or(connections);
        let load = Load { connections, names, name_length: 0 };
        let counted = if names == 0 { connections } else { names };
        let report = Report::new("idle", self.common.json);
        measure(&load, &self.common, report, ("connection", connections, counted), self.duration)
    }
}

impl Register {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let Register { connections, names, .. } = *self;
        let load = Load { connections, names, name_length: self.length };
        let report = Report::new("register", self.common.json);
        measure(&load, &self.common, report, ("name", names, names), self.duration)
    }
}

/// `what` is what there are many of, how many, and how many steps of progress there are.
fn measure(
    load: &Load,
    common: &Common,
    mut report: Report,
    what: (&str, u32, u32),
    duration: Duration,
) -> Result<(), Failure> {
    let (unit, count, counted) = what;
    let bar = common.progress(&format!("making {unit}s"), counted.into());
    let target = common.target()?;
    let pid = common.router(&target)?;
    let crowd = gather(load, &target, pid, &|done| bar.set_position(done));
    bar.finish_and_clear();
    let crowd = crowd?;
    report.setting("connections", load.connections);
    report.setting("names", load.names);
    report.crowd(&crowd, pid, unit, count);
    report.print();
    let begin = Instant::now();
    while let Some(left) = duration.checked_sub(begin.elapsed()).filter(|left| !left.is_zero())
        && !crowd.has_ended()
    {
        thread::sleep(left.min(LOOK));
    }
    crowd.disperse()
}
