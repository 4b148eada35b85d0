//! Compares our router with others, in one run: `cargo run --release -p gsb-benches --bin compare`.
//!
//! Each is measured in turn, round after round, on a server that was just started. What is shown are medians over
//! the rounds, in which range they were, and whether our router is as fast as it is meant to be.

mod figures;
mod goals;
mod measure;
mod nats;
mod page;
mod programs;
mod rows;
mod server;
mod table;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::figures::{Number, Rounds, Shown};
use crate::measure::Timing;
use crate::programs::Programs;
use crate::rows::{Contender, ROWS, Row};
use crate::table::Results;

const EXAMPLES: &str = "\
Examples:
  compare                          all, which takes some twelve minutes
  compare --quick                  all, but so briefly that the figures tell little
  compare --quick --only '64 B'    only what has this in its name
  compare --rounds 9 --write       writes docs/performance.md

It needs nats-server (Debian: nats-server), and without leaves it out. ya-sb-router is installed
below the target directory, for which protoc is needed (Debian: protobuf-compiler). Let nothing else
run meanwhile.";

/// Compares our router with ya-sb-router, nats-server and a relay that reads nothing.
#[derive(Debug, Parser)]
#[command(name = "compare", after_help = EXAMPLES, max_term_width = 100)]
struct Options {
    /// How often everything is measured
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// How long each is measured
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    duration: Duration,

    /// How long a server is loaded before
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = duration)]
    warm_up: Duration,

    /// Only measurements that have this in their names
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    only: String,

    /// Measures once, and for 300ms
    #[arg(long, conflicts_with_all = ["rounds", "duration"])]
    quick: bool,

    /// Writes what was measured to docs/performance.md
    #[arg(long, conflicts_with_all = ["only", "quick"])]
    write: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "write a number with a unit, as in 500ms or 2s".to_owned())
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.quick {
        (options.rounds, options.duration) = (1, Duration::from_millis(300));
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let rows: Vec<_> = ROWS.iter().filter(|row| row.name.contains(&options.only)).collect();
    if rows.is_empty() {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        return Err(format!("--only leaves nothing of:\n{}", names.join("\n")).into());
    }
    // The servers inherit it, and need one for each connection.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;

    let programs = Programs::find()?;
    if !programs.has(Contender::Nats) {
        eprintln!("nats-server is not installed (Debian: nats-server), and is left out");
    }
    let results = measure(options, &rows, &programs);
    let measured = format!(
        "{}- rounds: {}, of {:?} each after {:?} of the same load\n\n    {}\n\n{}\n{}",
        page::circumstances(&programs),
        options.rounds,
        options.duration,
        options.warm_up,
        command(),
        table::figures(&results),
        table::goals(&results)
    );
    println!("{measured}");
    if options.write {
        page::write(&measured)?;
    }
    Ok(())
}

/// Measures everything, in turns.
fn measure(options: &Options, rows: &[&'static Row], programs: &Programs) -> Vec<Results> {
    let timing = Timing { warm_up: options.warm_up, duration: options.duration };
    let mut results: Vec<Results> =
        rows.iter().map(|row| Results { row, rounds: BTreeMap::new() }).collect();
    let contenders = |row: &Row| -> Vec<Contender> {
        row.contenders.iter().copied().filter(|contender| programs.has(*contender)).collect()
    };
    let count: usize = rows.iter().map(|row| contenders(row).len()).sum();
    let progress = Progress::new(u64::from(options.rounds) * count as u64);
    for round in 0..options.rounds {
        for Results { row, rounds } in &mut results {
            let mut turn = contenders(row);
            // So that nobody always follows the same one.
            let first = round as usize % turn.len().max(1);
            turn.rotate_left(first);
            for contender in turn {
                let what = format!("round {}: {}: {contender}", round + 1, row.name);
                progress.begin(&what);
                let shown = timing.measure(row, contender, programs);
                progress.end(&what, &shown);
                rounds.entry(contender).or_insert_with(Rounds::default).0.push(shown);
            }
        }
    }
    results
}

/// How far it is: a bar on a terminal, else lines.
struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    fn new(count: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(count) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} left\n{msg}");
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar, is_terminal }
    }

    fn begin(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    fn end(&self, what: &str, shown: &Result<Shown, String>) {
        self.bar.inc(1);
        if !self.is_terminal {
            eprintln!("{what}: {}", line(shown));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn line(shown: &Result<Shown, String>) -> String {
    match shown {
        Ok(shown) => {
            let figure = |(figure, value): &(figures::Figure, f64)| {
                format!("{} {}", figure.label(), Number(*value))
            };
            shown.iter().map(figure).collect::<Vec<_>>().join(", ")
        }
        Err(error) => format!("failed: {error}"),
    }
}

/// What this was run with.
fn command() -> String {
    let mut command = "cargo run --release -p gsb-benches --bin compare".to_owned();
    for (number, argument) in std::env::args().skip(1).enumerate() {
        let before = if number == 0 { " -- " } else { " " };
        let quote = if argument.contains(' ') { "'" } else { "" };
        command += &format!("{before}{quote}{argument}{quote}");
    }
    command
}
