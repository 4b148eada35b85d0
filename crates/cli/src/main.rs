//! The program `gsb`.

mod bench;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  gsb bench call                                  4 callers, 4 services, 64 calls open each
  gsb bench call --depth 1 --payload 8KiB -d 10s  one open call, for ten seconds
  gsb bench call --json                           the same figures in JSON
  gsb bench stream --chunks 100 --payload 4KiB    streams of replies
  gsb bench broadcast --subscribers 16            a publisher and 16 subscribers
  gsb bench idle --connections 10000 -d 1m        idle connections, for a minute
  gsb bench register --names 1000000              registered names

Exit codes: 0 done, and no call or broadcast was lost; 2 unusable options; 1 any other failure.";

/// Tools for the Golem Service Bus.
#[derive(Debug, Parser)]
#[command(name = "gsb", version, after_help = EXAMPLES, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Loads a router and measures it
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    let Options { command: Command::Bench(command) } = Options::parse();
    match bench::run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "gsb: {failure}");
            if failure.is_unusable_load() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
