//! Loads a router and measures it.

mod arguments;
mod broadcast;
mod call;
mod crowd;
mod report;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Args, ValueEnum};
use gsb_load::{Failure, Gsb, Measure, Process, Target, router_process};
use gsb_proto::{Address, Framing};
use indicatif::{ProgressBar, ProgressStyle};

use self::arguments::{measured_time, time};

/// What can be measured.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Calls and their replies
    Call(call::Call),
    /// Calls that are answered with a stream of replies
    Stream(call::Stream),
    /// Broadcasts to those who have subscribed
    Broadcast(broadcast::Broadcast),
    /// Connections that do nothing
    Idle(crowd::Idle),
    /// Many names
    Register(crowd::Register),
}

/// What goes for every measurement.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The router: unix:/path or tcp://host:port
    #[arg(short, long, env = "GSB_URL", value_name = "URL")]
    address: Option<Address>,

    /// How messages are framed
    #[arg(long, value_enum, default_value = "packet")]
    framing: FramingName,

    /// The router's process, of which processor time and memory are shown. Without, it is looked for
    #[arg(long)]
    pid: Option<u32>,

    /// Prints JSON, for programs
    #[arg(long)]
    json: bool,
}

/// How long is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct Timing {
    /// How long is measured
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = measured_time)]
    duration: Duration,

    /// How long the router is loaded before
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = time)]
    warm_up: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FramingName {
    Packet,
    Classic,
}

/// Measures, and prints what came of it.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Call(options) => options.run(),
        Command::Stream(options) => options.run(),
        Command::Broadcast(options) => options.run(),
        Command::Idle(options) => options.run(),
        Command::Register(options) => options.run(),
    }
}

impl Common {
    /// The router's process: `--pid`, or else the process at the other end of the socket.
    fn router(&self, target: &Target<Gsb>) -> Result<Option<u32>, Failure> {
        match self.pid {
            Some(pid) => Process::look(pid).map(|_| Some(pid)),
            None => router_process(&target.address),
        }
    }

    fn target(&self) -> Result<Target<Gsb>, Failure> {
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

    /// A bar from nothing to `whole`, on a terminal that nothing else is to be read from.
    fn progress(&self, what: &str, whole: u64) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} %");
        let bar = ProgressBar::new(whole).with_message(what.to_owned());
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

impl Timing {
    /// Lets `load` be measured.
    fn measure<R>(
        &self,
        common: &Common,
        pid: Option<u32>,
        load: impl FnOnce(&Measure<'_>) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let bar = common.progress("measuring", millis(self.duration));
        let result = load(&Measure {
            warm_up: self.warm_up,
            duration: self.duration,
            pid,
            progress: &|time| bar.set_position(millis(time)),
        });
        bar.finish_and_clear();
        result
    }
}
