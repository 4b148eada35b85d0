//! Judges pairs of measurements.
//!
//! Two contenders are measured in turn, so that the two measurements of a pair follow each other and have the same noise.
//! Each pair gives a ratio; the median of these ratios decides.

use std::fmt;

use gsb_load::harness::table::{NO_FIGURE, markdown};

use crate::contender::Contender;
use crate::figures::{Figure, Number, Readings, Rounds, Spread};
use crate::goals::{Goal, Reference};
use crate::rounds::Results;
use crate::rows::Row;

/// The least number of pairs that can be relied on.
pub(crate) const ENOUGH_PAIRS: u32 = 15;

/// Two contenders, of which the second is judged.
#[derive(Debug)]
pub(crate) struct Pairing {
    pub(crate) contenders: [Contender; 2],
    /// Their names in the table.
    pub(crate) names: [&'static str; 2],
    /// The bounds for the figures of a row: for the ratio of both contenders, or for the worst value of the second one.
    pub(crate) goals: fn(&Row) -> &'static [Goal],
}

/// The judgement of one figure, or the worst of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// The second contender is better by more than the bound allows it to be worse.
    Better,
    /// It is within the bound.
    Holds,
    /// No pair could be measured.
    Unknown,
    /// It is not within the bound, or it failed in the measurement.
    Missed,
}

impl Pairing {
    /// A table with a line for each figure of each row, followed by a list of failures; and the worst verdict.
    pub(crate) fn judge(&self, results: &[Results]) -> (String, Verdict) {
        let [old_name, new_name] = self.names;
        let ratio = format!("{new_name} / {old_name}");
        let head = [
            "measurement",
            "figure",
            old_name,
            new_name,
            &ratio,
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
            let both = self.contenders.map(|contender| rounds.get(&contender).unwrap_or(&none));
            for (name, rounds) in self.names.into_iter().zip(both) {
                for failure in failures_of(rounds) {
                    failures += &format!("- {}: {name}: {failure}\n", row.name);
                }
            }
            let [old, new] = both;
            let has_failed = !failures_of(new).is_empty();
            if has_failed {
                worst = Verdict::Missed;
            }
            for Goal { figure, reference, bound } in (self.goals)(row) {
                let figure = *figure;
                let is_measured = old.figures().chain(new.figures()).any(|known| known == figure);
                if !is_measured {
                    continue;
                }
                let (ratios, value) = match reference {
                    Reference::None => (None, new.spread(figure).map(|spread| spread.most)),
                    Reference::Peer(_) | Reference::Own(_) => {
                        let ratios = Spread::of(ratios(old, new, figure));
                        (ratios, ratios.map(|spread| spread.median))
                    }
                };
                let verdict = match value {
                    _ if has_failed => Verdict::Missed,
                    None => Verdict::Unknown,
                    Some(ratio) if ratios.is_some() && bound.is_better(ratio) => Verdict::Better,
                    Some(value) if bound.holds(value) => Verdict::Holds,
                    Some(_) => Verdict::Missed,
                };
                worst = worst.max(verdict);
                let median = |rounds: &Rounds| match rounds.spread(figure) {
                    Some(Spread { median, .. }) => Number(median).to_string(),
                    None => NO_FIGURE.to_owned(),
                };
                let mut line = vec![row.name.to_owned(), figure.label().to_owned()];
                line.extend(both.map(median));
                line.extend(ratios.map_or([NO_FIGURE; 3].map(str::to_owned), cells));
                line.extend([bound.to_string(), verdict.to_string()]);
                lines.push(line);
            }
        }
        if !failures.is_empty() {
            failures.insert_str(0, "\nFailures:\n\n");
        }
        (markdown(lines) + &failures, worst)
    }
}

/// The ratio of each pair, new / old. A pair in which one contender failed has none.
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

/// The failed rounds, the failed calls and the lost broadcasts of a contender.
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
mod tests {
    use super::*;
    use crate::goals::Bound::AtMost;
    use crate::rows::ROWS;

    #[test]
    fn spreads_have_three_digits() {
        let spread = |values: &[f64]| Spread::of(values.to_vec()).map(cells);
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[1.0]).unwrap(), ["1.000", "1.000 to 1.000", "1.000 to 1.000"]);
        let shuffled = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(spread(&shuffled).unwrap(), ["3.000", "2.000 to 4.000", "1.000 to 5.000"]);
        assert_eq!(spread(&[1.0, 2.0]).unwrap(), ["1.500", "1.250 to 1.750", "1.000 to 2.000"]);
    }

    #[test]
    fn a_bound_for_a_value_is_for_the_worst_one() {
        const CONTENDERS: [Contender; 2] = [Contender::Baseline, Contender::Ours(1)];
        const GOALS: &[Goal] =
            &[Goal { figure: Figure::Memory, reference: Reference::None, bound: AtMost(2.0) }];
        let pairing = Pairing { contenders: CONTENDERS, names: ["a", "b"], goals: |_| GOALS };
        let verdict = |values: &[f64]| {
            let rounds = values.iter().map(|value| Ok(vec![(Figure::Memory, *value)])).collect();
            let rounds = [(CONTENDERS[1], Rounds(rounds))].into();
            pairing.judge(&[Results { row: &ROWS[0], rounds }]).1
        };
        assert_eq!(verdict(&[0.0, 2.0]), Verdict::Holds);
        assert_eq!(verdict(&[1.0, 1.0, 2.1]), Verdict::Missed);
    }
}
