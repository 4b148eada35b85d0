//! Compares our router with other programs, with another build of it, or with itself under another load, in one run:
//! `cargo run --release -p gsb-benches --bin compare`.
//!
//! All programs are measured in turn, round after round, each time on a server that was just started. The output has
//! the medians over the rounds with their ranges, and says whether our router reaches its goals.

mod baseline;
mod clients;
mod contender;
mod figures;
mod goals;
mod measure;
mod page;
mod pairs;
mod programs;
mod rounds;
mod rows;
mod steered;
mod table;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use gsb_load::raise_descriptor_limit;

use crate::baseline::BUILDS;
use crate::contender::Contender;
use crate::measure::Timing;
use crate::pairs::{ENOUGH_PAIRS, Pairing, Verdict};
use crate::programs::Programs;
use crate::rounds::Results;
use crate::rows::{ROWS, Row};
use crate::steered::{LOADS, SLOW_READER};

const EXAMPLES: &str = "\
Examples:
  compare                          with other programs; takes some sixteen minutes
  compare --quick                  the same, but too short for reliable figures
  compare --quick --only '64 B'    only measurements with this text in their names
  compare --rounds 9 --write       writes docs/performance.md
  compare --baseline ../old/router with another build of the router; takes some twelve minutes
  compare --baseline ../old/router --only '64 B' --pairs 31
  compare --steered                calls with deadlines, credit and so on, with those without

Other programs: compare installs ya-sb-router and nats-server 2.15 below the target directory. This
needs protoc (Debian: protobuf-compiler) and pip (Debian: python3-pip). An installed nats-server
(Debian: nats-server) is measured as well. A nats-server that is missing is left out.

Another build: both builds are measured in turn, with one worker each. Each pair of measurements
has a ratio, new / baseline. The bounds for the median of the ratios are
  CPU each at most 1.03;  calls, bytes or deliveries per second at least 0.95;  p50 at most 1.05.
A build that is compared with itself shows the noise of the machine.

Steered calls: one build is measured with two loads in turn, without and with deadlines, shared names
and credit. A cancelled call is compared with a push. The bounds are in the table. At the end a slow
reader reads a stream for 10 s (--quick: 300ms), and the memory that it takes is shown.

With --baseline and --steered, if a bound lies between the quartiles, the verdict is chance: take more
--pairs.

Run nothing else on the machine meanwhile.

Exit codes: 0 done, and with --baseline or --steered every figure is within its bound; 3 one is not;
2 unusable options; 1 any other failure.";

/// The exit code if a figure is not within its bound.
const MISSED: u8 = 3;

/// How long the slow reader reads.
const SLOW_TIME: Duration = Duration::from_secs(10);

/// Compares our router with ya-sb-router, nats-server and a relay that only copies bytes, with another build of it, or
/// steered calls with others.
#[derive(Debug, Parser)]
#[command(name = "compare", after_help = EXAMPLES, max_term_width = 100)]
struct Options {
    /// How often each program is measured
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Compares with another build of the router: the path of that program
    #[arg(long, value_name = "PATH", group = "paired", conflicts_with_all = ["rounds", "write"])]
    baseline: Option<PathBuf>,

    /// Compares calls that are steered, by deadlines, credit and so on, with those that are not
    #[arg(long, group = "paired", conflicts_with_all = ["rounds", "write"])]
    steered: bool,

    /// How often both builds or loads are measured [default: 15, with --quick 3]
    #[arg(long, value_name = "COUNT", requires = "paired", value_parser = clap::value_parser!(u32).range(1..))]
    pairs: Option<u32>,

    /// The length of each measurement [default: 2s; 1.5s with --baseline or
    /// --steered; 300ms with --quick]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    /// How long a server is loaded before each measurement
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = duration)]
    warm_up: Duration,

    /// Only measurements with this text in their names
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    only: String,

    /// Measures once, for 300ms
    #[arg(long, conflicts_with_all = ["rounds", "duration"])]
    quick: bool,

    /// Writes the figures to docs/performance.md
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
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    // The servers inherit the limit, and need a descriptor for each connection.
    raise_descriptor_limit();
    match &options.baseline {
        Some(baseline) => compare_builds(options, baseline),
        None if options.steered => compare_loads(options),
        None => compare_programs(options),
    }
}

/// Compares our router with other programs, and says which goals it reaches.
fn compare_programs(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let rows = options.chosen(ROWS.iter())?;
    let programs = Programs::of_all()?;
    let timing = options.timing(2000);
    let count = if options.quick { 1 } else { options.rounds };
    let results = rounds::measure(count, timing, &rows, |row| row.contenders, &programs);
    let versions: Vec<String> =
        programs.versions().iter().map(|version| format!("- {version}\n")).collect();
    let measured = format!(
        "{}{}- rounds: {count}, {timing}\n\n    {}\n\n{}\n{}",
        page::machine(),
        versions.concat(),
        command(),
        table::figures(&results),
        table::goals(&results)
    );
    println!("{measured}");
    if options.write {
        page::write(&measured)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares our router with another build of it, and says whether it is as fast.
fn compare_builds(options: &Options, baseline: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let rows = options.chosen(baseline::rows())?;
    let programs = Programs::of_builds(baseline)?;
    let (pairs, timing) = (options.pairs(), options.timing(1500));
    let results = rounds::measure(pairs, timing, &rows, |_| &BUILDS.contenders, &programs);
    println!(
        "{}- new: {}, of the source at {}\n- baseline: {}, {}",
        page::machine(),
        programs.version(Contender::Ours(1)),
        programs::revision(),
        programs.version(Contender::Baseline),
        baseline.display(),
    );
    judge(&BUILDS, &results, pairs, timing)
}

/// Compares two loads of our router, in pairs, and says whether the second one is as fast.
fn compare_loads(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let rows = options.chosen(steered::ROWS.iter().chain([&SLOW_READER]))?;
    let programs = Programs::of_loads()?;
    let (pairs, timing) = (options.pairs(), options.timing(1500));
    let (slow, rows): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.name == SLOW_READER.name);
    let mut results = rounds::measure(pairs, timing, &rows, |row| row.contenders, &programs);
    let duration = if options.quick { timing.duration } else { SLOW_TIME };
    let slowly = Timing { duration, ..timing };
    results.extend(rounds::measure(1, slowly, &slow, |row| row.contenders, &programs));
    println!(
        "{}- {}, of the source at {}",
        page::machine(),
        programs.version(Contender::Steered),
        programs::revision(),
    );
    judge(&LOADS, &results, pairs, timing)
}

/// Prints the judgement.
fn judge(
    pairing: &Pairing,
    results: &[Results],
    pairs: u32,
    timing: Timing,
) -> Result<ExitCode, Box<dyn Error>> {
    let (table, verdict) = pairing.judge(results);
    let few = if pairs < ENOUGH_PAIRS { ", which are too few to judge by" } else { "" };
    println!("- pairs: {pairs}{few}, {timing}\n\n    {}\n\n{table}", command());
    match verdict {
        Verdict::Better | Verdict::Holds => Ok(ExitCode::SUCCESS),
        Verdict::Missed => {
            eprintln!("compare: not every figure is within its bound; see the lines with **no**");
            Ok(ExitCode::from(MISSED))
        }
        Verdict::Unknown => {
            Err(format!("{} could not be measured in every row", pairing.names[0]).into())
        }
    }
}

impl Options {
    /// The rows with `--only` in their names.
    fn chosen(
        &self,
        rows: impl Iterator<Item = &'static Row>,
    ) -> Result<Vec<&'static Row>, String> {
        let (chosen, others): (Vec<_>, Vec<_>) =
            rows.partition(|row| row.name.contains(&self.only));
        if chosen.is_empty() {
            let names: Vec<_> = others.iter().map(|row| row.name).collect();
            return Err(format!(
                "no measurement has --only {:?} in its name; the names are:\n{}",
                self.only,
                names.join("\n")
            ));
        }
        Ok(chosen)
    }

    /// The number of pairs.
    fn pairs(&self) -> u32 {
        self.pairs.unwrap_or(if self.quick { 3 } else { ENOUGH_PAIRS })
    }

    /// The length of each measurement: `--duration`, or else `default` milliseconds.
    fn timing(&self, default: u64) -> Timing {
        let default = Duration::from_millis(if self.quick { 300 } else { default });
        Timing { warm_up: self.warm_up, duration: self.duration.unwrap_or(default) }
    }
}

/// The command that started this program.
fn command() -> String {
    let mut command = "cargo run --release -p gsb-benches --bin compare".to_owned();
    for (number, argument) in std::env::args().skip(1).enumerate() {
        let before = if number == 0 { " -- " } else { " " };
        let quote = if argument.contains(' ') { "'" } else { "" };
        command += &format!("{before}{quote}{argument}{quote}");
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn options_are_consistent() {
        Options::command().debug_assert();
        let parse = |arguments: &[&str]| {
            Options::try_parse_from(["compare"].iter().chain(arguments)).map(drop)
        };
        for arguments in
            [&["--baseline", "x", "--pairs", "31"][..], &["--steered", "--pairs", "3", "--quick"]]
        {
            assert!(parse(arguments).is_ok(), "{arguments:?}");
        }
        for arguments in [
            &["--pairs", "15"][..],
            &["--baseline", "x", "--rounds", "5"],
            &["--baseline", "x", "--write"],
            &["--baseline", "x", "--steered"],
            &["--steered", "--write"],
            &["--baseline", "x", "--pairs", "0"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
    }
}
