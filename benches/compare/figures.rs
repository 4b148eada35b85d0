//! What measurements have shown, over several rounds.

use std::fmt;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Calls,
    Mebibytes,
    Deliveries,
    /// How many calls were made before there was a crowd.
    CallsBefore,
    /// How many beside it.
    CallsBeside,
    /// Processor time of the server for each call, stream or delivery.
    Processor,
    P50,
    P99,
    P999,
    /// Calls that ended with an error.
    Failed,
    /// Deliveries that did not happen, in parts of a hundred.
    Lost,
    /// Memory for each connection or name.
    Memory,
}

impl Figure {
    /// What it is, with its unit.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Figure::Calls => "calls/s",
            Figure::Mebibytes => "MiB/s",
            Figure::Deliveries => "deliveries/s",
            Figure::CallsBefore => "calls/s before",
            Figure::CallsBeside => "calls/s beside them",
            Figure::Processor => "CPU µs each",
            Figure::P50 => "p50 µs",
            Figure::P99 => "p99 µs",
            Figure::P999 => "p99.9 µs",
            Figure::Failed => "calls that failed",
            Figure::Lost => "% lost",
            Figure::Memory => "bytes each",
        }
    }

    /// Whether a measurement that fails has shown none of it, rather than nothing.
    fn is_speed(self) -> bool {
        use Figure::{Calls, CallsBefore, CallsBeside, Deliveries, Mebibytes};
        matches!(self, Calls | Mebibytes | Deliveries | CallsBefore | CallsBeside)
    }
}

/// What one measurement has shown.
pub(crate) type Shown = Vec<(Figure, f64)>;

/// What the rounds of one measurement have shown, or why one came to nothing.
#[derive(Debug, Default)]
pub(crate) struct Rounds(pub(crate) Vec<Result<Shown, String>>);

impl Rounds {
    /// A figure over all rounds. Those that failed count as 0 where it is a speed, and not at all elsewhere.
    pub(crate) fn range(&self, figure: Figure) -> Option<Range> {
        let is_known = self.figures().any(|known| known == figure);
        let in_round = |round: &Result<Shown, String>| match round {
            Ok(shown) => shown.iter().find(|(known, _)| *known == figure).map(|(_, value)| *value),
            Err(_) => (figure.is_speed() && (is_known || self.is_nothing())).then_some(0.0),
        };
        Range::of(self.0.iter().filter_map(in_round).collect())
    }

    /// The figures that some round has shown.
    pub(crate) fn figures(&self) -> impl Iterator<Item = Figure> {
        self.0.iter().flatten().flatten().map(|(figure, _)| *figure)
    }

    /// Whether all rounds have failed.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.iter().all(Result::is_err)
    }

    /// Which rounds have failed, in a few words.
    pub(crate) fn failure(&self) -> Option<String> {
        let mut failures = self.0.iter().filter_map(|round| round.as_ref().err());
        let first = failures.next()?;
        Some(match (failures.count() + 1, self.0.len()) {
            (failed, all) if failed == all => format!("failed: {first}"),
            (failed, all) => format!("{failed} of {all} rounds failed: {first}"),
        })
    }
}

/// A figure over several rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Range {
    /// That of these values; of two in the middle the median is their mean. `None` if there are no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Range { median: low + (high - low) / 2.0, least, most })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { median, least, most } = *self;
        write!(formatter, "{}", Number(median))?;
        if least < most {
            write!(formatter, " ({} to {})", Number(least), Number(most))?;
        }
        Ok(())
    }
}

/// A number with as many digits as tell something.
pub(crate) struct Number(pub(crate) f64);

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0 {
            0.0 => 0,
            ..10.0 => 2,
            10.0..100.0 => 1,
            _ => 0,
        };
        write!(formatter, "{:.digits$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(values: &[f64]) -> Option<(f64, f64, f64)> {
        Range::of(values.to_vec()).map(|range| (range.median, range.least, range.most))
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(range(&[]), None);
        assert_eq!(range(&[3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(range(&[9.0, 1.0, 2.0]), Some((2.0, 1.0, 9.0)));
        assert_eq!(range(&[4.0, 1.0, 2.0, 9.0]), Some((3.0, 1.0, 9.0)));
    }

    #[test]
    fn ranges_are_written_with_what_matters() {
        let text = |values: &[f64]| Range::of(values.to_vec()).unwrap().to_string();
        assert_eq!(text(&[123_456.7]), "123457");
        assert_eq!(text(&[1.234, 12.34, 123.4]), "12.3 (1.23 to 123)");
        assert_eq!(text(&[0.0, 0.0]), "0");
    }

    #[test]
    fn a_round_that_fails_has_no_speed() {
        let shown = |calls, p50| Ok(vec![(Figure::Calls, calls), (Figure::P50, p50)]);
        let rounds = Rounds(vec![shown(10.0, 1.0), Err("closed".to_owned()), shown(20.0, 3.0)]);
        assert_eq!(rounds.range(Figure::Calls).unwrap().median, 10.0);
        assert_eq!(rounds.range(Figure::P50).unwrap().median, 2.0);
        assert_eq!(rounds.range(Figure::Mebibytes), None);
        assert_eq!(rounds.failure().unwrap(), "1 of 3 rounds failed: closed");

        let rounds = Rounds(vec![Err("closed".to_owned())]);
        assert_eq!(rounds.range(Figure::Mebibytes).unwrap().median, 0.0);
        assert_eq!(rounds.range(Figure::P50), None);
        assert_eq!(rounds.failure().unwrap(), "failed: closed");
    }
}
