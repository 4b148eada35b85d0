//! Measures idle connections, and registered names.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use gsb_load::Failure;
use gsb_load::idle::{Load, connect};

use super::arguments::{name_length, time};
use super::options::Common;
use super::report::Report;

/// How often the connections are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A load of idle connections.
#[derive(Debug, Clone, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    common: Common,

    /// The number of connections
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// The number of names that they register together [default: one for each connection]
    #[arg(long, value_name = "COUNT")]
    names: Option<u32>,

    /// How long the connections are kept
    #[arg(short, long, value_name = "TIME", default_value = "0s", value_parser = time)]
    duration: Duration,
}

/// A load of registered names.
#[derive(Debug, Clone, Args)]
pub(crate) struct Register {
    #[command(flatten)]
    common: Common,

    /// The number of names
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    names: u32,

    /// The length of each name in bytes, from 40 to 1024
    #[arg(long, value_name = "SIZE", default_value = "60", value_parser = name_length)]
    length: usize,

    /// Connections that the names are distributed over
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// How long the connections are kept
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

/// `what` is the unit of the figures, how many of it there are, and the number of steps of progress.
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
    let connections = connect(load, &target, pid, &|done| bar.set_position(done));
    bar.finish_and_clear();
    let connections = connections?;
    report.setting("connections", load.connections);
    report.setting("names", load.names);
    report.idle(&connections, pid, unit, count);
    report.print();
    let begin = Instant::now();
    while let Some(left) = duration.checked_sub(begin.elapsed()).filter(|left| !left.is_zero())
        && !connections.has_failed()
    {
        thread::sleep(left.min(CHECK_INTERVAL));
    }
    connections.close()
}
