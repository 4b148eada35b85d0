//! Loads a router and measures it.

mod call;
mod peer;
mod process;
mod report;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use gsb_proto::{Address, Framing};
use indicatif::{ProgressBar, ProgressStyle};

use process::Process;
use report::Report;

/// What can be measured.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Calls and their replies
    Call(call::Options),
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

    /// How long is measured
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    duration: Duration,

    /// How long the router is loaded before
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    warm_up: Duration,

    /// The router's process, of which processor time and memory are shown
    #[arg(long)]
    pid: Option<u32>,

    /// Prints JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FramingName {
    Packet,
    Classic,
}

/// Why a measurement came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Address(#[from] gsb_proto::AddressError),
    #[error("cannot connect to {address}: {error}; is a router running there?")]
    Connect { address: Address, error: std::io::Error },
    #[error("the connection to the router failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the router has closed a connection")]
    Closed,
    #[error("the router does not keep to the protocol: {0}")]
    Protocol(#[from] gsb_proto::Violation),
    #[error("the router refuses the name {name}: {message}")]
    Refused { name: String, message: String },
    #[error("a reply came to a call {0:?} that was not made")]
    ForeignReply(String),
    #[error("the times cannot be counted: {0}")]
    Times(String),
    #[error("no process {0} can be looked at; it is the number that `pidof router` prints")]
    Process(u32),
    #[error("a thread of the load has panicked")]
    Panicked,
}

impl From<hdrhistogram::CreationError> for Failure {
    fn from(error: hdrhistogram::CreationError) -> Self {
        Failure::Times(error.to_string())
    }
}

impl From<hdrhistogram::AdditionError> for Failure {
    fn from(error: hdrhistogram::AdditionError) -> Self {
        Failure::Times(error.to_string())
    }
}

impl From<hdrhistogram::RecordError> for Failure {
    fn from(error: hdrhistogram::RecordError) -> Self {
        Failure::Times(error.to_string())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number with a unit, as in 500ms or 2m".to_owned())
}

/// Measures, and prints what came of it.
pub(crate) fn run(command: Command) -> Result<(), Failure> {
    let report = match &command {
        Command::Call(options) => call::run(options)?,
    };
    report.print();
    Ok(())
}

/// In which part of a measurement the load is.
#[derive(Debug, Clone)]
struct Stage(Arc<AtomicU8>);

impl Stage {
    const WARM_UP: u8 = 0;
    const MEASURED: u8 = 1;
    const OVER: u8 = 2;

    fn new() -> Self {
        Stage(Arc::new(AtomicU8::new(Stage::WARM_UP)))
    }

    fn is_measured(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Stage::MEASURED
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Stage::OVER
    }
}

impl Common {
    fn address(&self) -> Result<Address, Failure> {
        match &self.address {
            Some(address) => Ok(address.clone()),
            None => Ok(Address::from_environment()?),
        }
    }

    fn framing(&self) -> Framing {
        match self.framing {
            FramingName::Packet => Framing::Packet,
            FramingName::Classic => Framing::Classic,
        }
    }

    /// Lets the load, which has begun, go on through all stages; how long was measured, and what the router's
    /// process has needed meanwhile.
    fn measure(&self, stage: &Stage) -> Result<(Duration, Option<process::Need>), Failure> {
        thread::sleep(self.warm_up);
        let process = self.pid.map(Process::look).transpose()?;
        stage.0.store(Stage::MEASURED, Ordering::Relaxed);
        let begin = Instant::now();
        let progress = self.progress();
        while let Some(left) =
            self.duration.checked_sub(begin.elapsed()).filter(|left| !left.is_zero())
        {
            thread::sleep(left.min(Duration::from_millis(100)));
            progress.set_position(begin.elapsed().as_millis() as u64);
        }
        stage.0.store(Stage::OVER, Ordering::Relaxed);
        let time = begin.elapsed();
        progress.finish_and_clear();
        Ok((time, process.map(|process| process.need()).transpose()?))
    }

    fn progress(&self) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("measuring {wide_bar} {percent} %");
        let bar = ProgressBar::new(self.duration.as_millis() as u64);
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    fn report(&self, what: &'static str) -> Report {
        Report::new(what, self.json)
    }
}
