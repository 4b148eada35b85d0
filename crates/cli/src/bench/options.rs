//! Options that several measurements share.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Args, ValueEnum};
use gsb_load::{Failure, Gsb, Measurement, ResourceUse, Target, router_process};
use gsb_proto::{Address, Framing};
use indicatif::{ProgressBar, ProgressStyle};

use super::arguments::{measured_time, time};

/// The options of every measurement.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The address of the router: unix:/path or tcp://host:port
    #[arg(short, long, env = "GSB_URL", value_name = "URL")]
    address: Option<Address>,

    /// The framing of messages
    #[arg(long, value_enum, default_value = "packet")]
    framing: FramingName,

    /// The process of the router, whose processor time and memory are shown [default: the process that
    /// listens at the address]
    #[arg(long)]
    pub(crate) pid: Option<u32>,

    /// Prints JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The time span of a measurement.
#[derive(Debug, Clone, Args)]
pub(crate) struct Timing {
    /// The length of the measurement
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = measured_time)]
    duration: Duration,

    /// How long the router is loaded before the measurement
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = time)]
    warm_up: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FramingName {
    Packet,
    Classic,
}

impl Common {
    /// The process of the router: `--pid`, or the process that listens at the address. `None` if it is not found.
    pub(crate) fn router(&self, target: &Target<Gsb>) -> Result<Option<u32>, Failure> {
        match self.pid {
            Some(pid) => ResourceUse::of(pid).map(|_| Some(pid)),
            None => router_process(&target.address),
        }
    }

    /// The router that is measured.
    pub(crate) fn target(&self) -> Result<Target<Gsb>, Failure> {
        let address = match &self.address {
            Some(address) => address.clone(),
            None => Address::from_environment()?,
        };
        let framing = match self.framing {
            FramingName::Packet => Framing::Packet,
            FramingName::Classic => Framing::Classic,
        };
        Ok(Target { address, protocol: Gsb(framing) })
    }

    /// A progress bar of `whole` steps; hidden if standard error is no terminal, or the output is JSON.
    pub(crate) fn progress(&self, name: &str, whole: u64) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} %");
        let bar = ProgressBar::new(whole).with_message(name.to_owned());
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

impl Timing {
    /// Measures a load.
    pub(crate) fn measure<R>(
        &self,
        common: &Common,
        pid: Option<u32>,
        load: impl FnOnce(&Measurement<'_>) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let bar = common.progress("measuring", millis(self.duration));
        let result = load(&Measurement {
            warm_up: self.warm_up,
            duration: self.duration,
            pid,
            progress: &|time| bar.set_position(millis(time)),
        });
        bar.finish_and_clear();
        result
    }
}
