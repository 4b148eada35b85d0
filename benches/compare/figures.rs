//! Figures, and their spread over several rounds.

use std::fmt;

/// A measured quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Calls,
    Mebibytes,
    Deliveries,
    /// Calls per second before there are idle connections.
    CallsBefore,
    /// Calls per second beside them.
    CallsBeside,
    /// Processor time of the server for each call, stream or delivery, in microseconds.
    Processor,
    P50,
    P99,
    P999,
    /// Calls that ended with an error.
    Failed,
    /// Deliveries that were lost, in percent.
    Lost,
    /// Memory of the server for each connection or name, in bytes.
    Memory,
    /// Growth of the memory of the server.
    Growth,
    /// What a service has produced and its reader has not read.
    Ahead,
}

impl Figure {
    /// Its name with its unit, as in the tables.
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
            Figure::Growth => "MiB more in the router",
            Figure::Ahead => "MiB ahead of the reader",
        }
    }

    /// Whether a measurement that fails counts as 0 of it. Other figures of a failed measurement do not count.
    fn is_speed(self) -> bool {
        use Figure::{Calls, CallsBefore, CallsBeside, Deliveries, Mebibytes};
        matches!(self, Calls | Mebibytes | Deliveries | CallsBefore | CallsBeside)
    }
}

/// The figures of one measurement.
pub(crate) type Readings = Vec<(Figure, f64)>;

/// The figures of each round, or its error.
#[derive(Debug, Default)]
pub(crate) struct Rounds(pub(crate) Vec<Result<Readings, String>>);

impl Rounds {
    /// The spread of a figure. A round that failed counts as 0 if the figure is a speed, otherwise not at all.
    pub(crate) fn spread(&self, figure: Figure) -> Option<Spread> {
        let is_known = self.figures().any(|known| known == figure);
        let in_round = |round: &Result<Readings, String>| match round {
            Ok(readings) => {
                readings.iter().find(|(known, _)| *known == figure).map(|(_, value)| *value)
            }
            Err(_) => (figure.is_speed() && (is_known || self.is_nothing())).then_some(0.0),
        };
        Spread::of(self.0.iter().filter_map(in_round).collect())
    }

    /// The figures of all rounds, with repetitions.
    pub(crate) fn figures(&self) -> impl Iterator<Item = Figure> {
        self.0.iter().flatten().flatten().map(|(figure, _)| *figure)
    }

    /// Whether all rounds failed.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.iter().all(Result::is_err)
    }

    /// How many rounds failed, and why the first of them did.
    pub(crate) fn failure(&self) -> Option<String> {
        let mut failures = self.0.iter().filter_map(|round| round.as_ref().err());
        let first = failures.next()?;
        Some(match (failures.count() + 1, self.0.len()) {
            (failed, all) if failed == all => format!("failed: {first}"),
            (failed, all) => format!("{failed} of {all} rounds failed: {first}"),
        })
    }
}

/// How values are spread. A quantile between two values is interpolated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) lower_quartile: f64,
    pub(crate) median: f64,
    pub(crate) upper_quartile: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// The spread of these values; `None` if there are none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
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
}

/// The median, and the range in parentheses.
impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { median, least, most, .. } = *self;
        write!(formatter, "{}", Number(median))?;
        if least < most {
            write!(formatter, " ({} to {})", Number(least), Number(most))?;
        }
        Ok(())
    }
}

/// The figures of one measurement in one line.
pub(crate) fn line(readings: &Result<Readings, String>) -> String {
    match readings {
        Ok(readings) => {
            let figure =
                |(figure, value): &(Figure, f64)| format!("{} {}", figure.label(), Number(*value));
            readings.iter().map(figure).collect::<Vec<_>>().join(", ")
        }
        Err(error) => format!("failed: {error}"),
    }
}

/// A number with its significant digits.
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

    #[test]
    fn quantiles_are_interpolated() {
        assert_eq!(Spread::of(Vec::new()), None);
        let spread = |values: &[f64]| {
            let Spread { least, lower_quartile, median, upper_quartile, most } =
                Spread::of(values.to_vec()).unwrap();
            [least, lower_quartile, median, upper_quartile, most]
        };
        assert_eq!(spread(&[3.0]), [3.0; 5]);
        assert_eq!(spread(&[9.0, 1.0, 2.0]), [1.0, 1.5, 2.0, 5.5, 9.0]);
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]), [1.0, 1.75, 3.0, 5.25, 9.0]);
    }

    #[test]
    fn spreads_are_written_with_significant_digits() {
        let text = |values: &[f64]| Spread::of(values.to_vec()).unwrap().to_string();
        assert_eq!(text(&[123_456.7]), "123457");
        assert_eq!(text(&[1.234, 12.34, 123.4]), "12.3 (1.23 to 123)");
        assert_eq!(text(&[0.0, 0.0]), "0");
    }

    #[test]
    fn a_failed_round_has_no_speed() {
        let readings = |calls, p50| Ok(vec![(Figure::Calls, calls), (Figure::P50, p50)]);
        let rounds =
            Rounds(vec![readings(10.0, 1.0), Err("closed".to_owned()), readings(20.0, 3.0)]);
        assert_eq!(rounds.spread(Figure::Calls).unwrap().median, 10.0);
        assert_eq!(rounds.spread(Figure::P50).unwrap().median, 2.0);
        assert_eq!(rounds.spread(Figure::Mebibytes), None);
        assert_eq!(rounds.failure().unwrap(), "1 of 3 rounds failed: closed");

        let rounds = Rounds(vec![Err("closed".to_owned())]);
        assert_eq!(rounds.spread(Figure::Mebibytes).unwrap().median, 0.0);
        assert_eq!(rounds.spread(Figure::P50), None);
        assert_eq!(rounds.failure().unwrap(), "failed: closed");
    }
}
