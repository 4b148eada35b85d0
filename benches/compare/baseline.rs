//! Whether our router is as fast as another build of it (`--baseline`).
//!
//! Both builds are measured in turn, so that the two measurements of a pair follow each other and have the same noise.
//! Each pair gives a ratio, new / baseline; the median of these ratios decides.

use std::fmt;

use gsb_load::harness::table::{NO_FIGURE, markdown};

use crate::contender::Contender;
use crate::figures::{Figure, Number, Readings, Rounds, Spread};
use crate::goals::Bound::{self, AtLeast, AtMost};
use crate::rounds::Results;
use crate::rows::{ROWS, Row, Work};

/// The build that is judged.
const NEW: Contender = Contender::Ours(1);

/// The build that it is compared with.
const OLD: Contender = Contender::Baseline;

/// Both builds, in the order of the first pair.
pub(crate) const BUILDS: &[Contender] = &[OLD, NEW];

/// The least number of pairs that can be relied on.
pub(crate) const ENOUGH_PAIRS: u32 = 15;

/// The figures that are judged, and their bounds.
const BOUNDS: &[FigureBounds] = &[
    FigureBounds { figure: Figure::Processor, holds: AtMost(1.03), is_better: AtMost(0.97) },
    FigureBounds { figure: Figure::Calls, holds: AtLeast(0.95), is_better: AtLeast(1.05) },
    FigureBounds { figure: Figure::Mebibytes, holds: AtLeast(0.95), is_better: AtLeast(1.05) },
    FigureBounds { figure: Figure::Deliveries, holds: AtLeast(0.95), is_better: AtLeast(1.05) },
    FigureBounds { figure: Figure::P50, holds: AtMost(1.05), is_better: AtMost(0.95) },
];

#[derive(Debug)]
struct FigureBounds {
    figure: Figure,
    holds: Bound,
    is_better: Bound,
}

/// The judgement of one figure, or the worst of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// The new build is better by more than the bound allows it to be worse.
    Better,
    /// The new build is within the bound.
    Holds,
    /// No pair could be measured.
    Unknown,
    /// The new build is not within the bound, or it failed in the measurement.
    Missed,
}

/// The rows in which builds are compared: all that measure a speed.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| matches!(row.work, Work::Calls(_) | Work::Broadcast(_)))
}

/// A table with a line for each figure of each row, followed by a list of failures; and the worst verdict.
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
        for FigureBounds { figure, holds, is_better } in BOUNDS {
            let is_measured = old.figures().chain(new.figures()).any(|known| known == *figure);
            if !is_measured {
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
            let median = |rounds: &Rounds| match rounds.spread(*figure) {
                Some(Spread { median, .. }) => Number(median).to_string(),
                None => NO_FIGURE.to_owned(),
            };
            let mut line = vec![row.name.to_owned(), figure.label().to_owned()];
            line.extend([median(old), median(new)]);
            line.extend(ratios.map_or([NO_FIGURE; 3].map(str::to_owned), cells));
            line.extend([holds.to_string(), verdict.to_string()]);
            lines.push(line);
        }
    }
    if !failures.is_empty() {
        failures.insert_str(0, "\nFailures:\n\n");
    }
    (markdown(lines) + &failures, worst)
}

/// The ratio of each pair, new / baseline. A pair in which one build failed has none.
fn ratios(old: &Rounds, new: &Rounds, figure: Figure) -> Vec<f64> {
    let value = |round: &Result<Readings, String>| -> Option<f64> {
        round.as_ref().ok()?.iter().find(|(known, _)| *known == figure).map(|(_, value)| *value)
    };
    old.0
        .iter()
        .zip(&new.0)
        .filter_map(|(old, new)| Some(value(new)? / value(old).filter(|old| *old > 0.0)?))
        .collect()
}

/// The failed rounds, the failed calls and the lost broadcasts of a build.
fn failures_of(rounds: &Rounds) -> Vec<String> {
    let most = |figure| rounds.spread(figure).map(|spread| spread.most).filter(|most| *most > 0.0);
    let counted = [Figure::Failed, Figure::Lost].into_iter().filter_map(|figure| {
        Some(format!("{} {} in the worst round", Number(most(figure)?), figure.label()))
    });
    rounds.failure().into_iter().chain(counted).collect()
}

/// Median, quartiles and range of ratios.
fn cells(spread: Spread) -> [String; 3] {
    let Spread { least, lower_quartile, median, upper_quartile, most } = spread;
    [
        format!("{median:.3}"),
        format!("{lower_quartile:.3} to {upper_quartile:.3}"),
        format!("{least:.3} to {most:.3}"),
    ]
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Verdict::Better => "yes, better",
            Verdict::Holds => "yes",
            Verdict::Unknown => NO_FIGURE,
            Verdict::Missed => "**no**",
        })
    }
}

#[cfg(test)]
#[path = "baseline_tests.rs"]
mod tests;
