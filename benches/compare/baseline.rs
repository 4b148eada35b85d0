//! Whether our router is as fast as another build of it (`--baseline`).
//!
//! Both are measured in turn, so that the two measurements of a pair are neighbours in time and have the same noise.
//! Each pair gives a ratio, new by baseline; the verdict is the median of these ratios.

use std::fmt;

use crate::contender::Contender;
use crate::figures::{Figure, Number, Range, Rounds, Shown};
use crate::goals::Bound::{self, AtLeast, AtMost};
use crate::rounds::Results;
use crate::rows::{ROWS, Row, Work};
use crate::table::{NOTHING, markdown};

/// The build that is judged.
const NEW: Contender = Contender::Ours(1);

/// The build that it is compared with.
const OLD: Contender = Contender::Baseline;

/// Both, in the order of the first pair.
pub(crate) const BUILDS: &[Contender] = &[OLD, NEW];

/// Fewer pairs tell little.
pub(crate) const ENOUGH_PAIRS: u32 = 15;

/// What speed means, and from which ratio on it counts as lost, or as won.
const BOUNDS: &[Judged] = &[
    Judged { figure: Figure::Processor, holds: AtMost(1.03), is_better: AtMost(0.97) },
    Judged { figure: Figure::Calls, holds: AtLeast(0.95), is_better: AtLeast(1.05) },
    Judged { figure: Figure::Mebibytes, holds: AtLeast(0.95), is_better: AtLeast(1.05) },
    Judged { figure: Figure::Deliveries, holds: AtLeast(0.95), is_better: AtLeast(1.05) },
    Judged { figure: Figure::P50, holds: AtMost(1.05), is_better: AtMost(0.95) },
];

#[derive(Debug)]
struct Judged {
    figure: Figure,
    holds: Bound,
    is_better: Bound,
}

/// What came of one figure, or of all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// The new build is better by more than the bound allows it to be worse.
    Better,
    /// It is within the bound.
    Holds,
    /// No pair could be measured.
    Unknown,
    /// It is worse than the bound, or it has failed where it was measured.
    Missed,
}

/// The rows in which builds are compared: all that have a speed.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| matches!(row.work, Work::Calls(_) | Work::Broadcast(_)))
}

/// A table with a line for each figure of each row, then what has failed; and the worst verdict of all.
pub(crate) fn judge(results: &[Results]) -> (String, Verdict) {
    let head = [
        "measurement",
        "figure",
        "baseline",
        "new",
        "new / baseline",
        "quartiles",
        "range",
        "bound",
        "holds",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let mut failures = String::new();
    let mut worst = Verdict::Better;
    for Results { row, rounds } in results {
        let none = Rounds::default();
        let [old, new] = [OLD, NEW].map(|build| rounds.get(&build).unwrap_or(&none));
        for (build, rounds) in [("baseline", old), ("new", new)] {
            for failure in failures_of(rounds) {
                failures += &format!("- {}: {build}: {failure}\n", row.name);
            }
        }
        let has_failed = !failures_of(new).is_empty();
        if has_failed {
            worst = Verdict::Missed;
        }
        for Judged { figure, holds, is_better } in BOUNDS {
            let is_shown = old.figures().chain(new.figures()).any(|shown| shown == *figure);
            if !is_shown {
                continue;
            }
            let ratios = Spread::of(ratios(old, new, *figure));
            let verdict = match ratios {
                _ if has_failed => Verdict::Missed,
                None => Verdict::Unknown,
                Some(Spread { median, .. }) if is_better.holds(median) => Verdict::Better,
                Some(Spread { median, .. }) if holds.holds(median) => Verdict::Holds,
                Some(_) => Verdict::Missed,
            };
            worst = worst.max(verdict);
            let median = |rounds: &Rounds| match rounds.range(*figure) {
                Some(Range { median, .. }) => Number(median).to_string(),
                None => NOTHING.to_owned(),
            };
            let mut line = vec![row.name.to_owned(), figure.label().to_owned()];
            line.extend([median(old), median(new)]);
            line.extend(ratios.map_or([NOTHING; 3].map(str::to_owned), Spread::cells));
            line.extend([holds.to_string(), verdict.to_string()]);
            lines.push(line);
        }
    }
    if !failures.is_empty() {
        failures.insert_str(0, "\nWhat failed:\n\n");
    }
    (markdown(lines) + &failures, worst)
}

/// The ratio of each pair, new by baseline. A pair in which one has failed has none.
fn ratios(old: &Rounds, new: &Rounds, figure: Figure) -> Vec<f64> {
    let value = |round: &Result<Shown, String>| -> Option<f64> {
        round.as_ref().ok()?.iter().find(|(shown, _)| *shown == figure).map(|(_, value)| *value)
    };
    old.0
        .iter()
        .zip(&new.0)
        .filter_map(|(old, new)| Some(value(new)? / value(old).filter(|old| *old > 0.0)?))
        .collect()
}

/// Rounds that have failed, calls that have, and broadcasts that did not arrive.
fn failures_of(rounds: &Rounds) -> Vec<String> {
    let most = |figure| rounds.range(figure).map(|range| range.most).filter(|most| *most > 0.0);
    let counted = [Figure::Failed, Figure::Lost].into_iter().filter_map(|figure| {
        Some(format!("{} {} in the worst round", Number(most(figure)?), figure.label()))
    });
    rounds.failure().into_iter().chain(counted).collect()
}

/// How ratios are spread.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    least: f64,
    lower_quartile: f64,
    median: f64,
    upper_quartile: f64,
    most: f64,
}

impl Spread {
    /// That of these values; a quantile between two of them is interpolated. `None` if there are no values.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let quantile = |part: f64| {
            let position = part * last as f64;
            let (low, high) = (values[position.floor() as usize], values[position.ceil() as usize]);
            low + (high - low) * position.fract()
        };
        Some(Spread {
            least: quantile(0.0),
            lower_quartile: quantile(0.25),
            median: quantile(0.5),
            upper_quartile: quantile(0.75),
            most: quantile(1.0),
        })
    }

    /// Median, quartiles, and range.
    fn cells(self) -> [String; 3] {
        let Spread { least, lower_quartile, median, upper_quartile, most } = self;
        [
            format!("{median:.3}"),
            format!("{lower_quartile:.3} to {upper_quartile:.3}"),
            format!("{least:.3} to {most:.3}"),
        ]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Verdict::Better => "yes, better",
            Verdict::Holds => "yes",
            Verdict::Unknown => NOTHING,
            Verdict::Missed => "**no**",
        })
    }
}

#[cfg(test)]
#[path = "baseline_tests.rs"]
mod tests;
