//! `gsb bench`: loads a router and measures it.

mod arguments;
mod broadcast;
mod call;
mod idle;
mod options;
mod report;

use gsb_load::Failure;

/// The measurements.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Calls and their replies
    Call(call::Call),
    /// Calls that are answered with a stream of replies
    Stream(call::Stream),
    /// Broadcasts to subscribers
    Broadcast(broadcast::Broadcast),
    /// Idle connections
    Idle(idle::Idle),
    /// Registered names
    Register(idle::Register),
}

/// Measures, and prints the figures.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Call(options) => options.run(),
        Command::Stream(options) => options.run(),
        Command::Broadcast(options) => options.run(),
        Command::Idle(options) => options.run(),
        Command::Register(options) => options.run(),
    }
}
