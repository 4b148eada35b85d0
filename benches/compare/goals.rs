//! The goals of our router, and whether it reaches them.

use std::fmt;

use crate::contender::Contender;
use crate::figures::{Figure, Number, Rounds};

/// A bound for a figure of our router, or for its ratio to another figure.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) figure: Figure,
    pub(crate) reference: Reference,
    pub(crate) bound: Bound,
}

/// The figure that a figure is divided by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reference {
    /// The same figure of another program.
    Peer(Contender),
    /// Another figure of our router.
    Own(Figure),
    /// None: the bound is for the figure itself, in the worst round.
    None,
}

/// The range of values that are good enough.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// The value of a goal, and whether it is within its bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) value: f64,
    pub(crate) holds: bool,
}

impl Goal {
    /// Judges the medians over all rounds. A goal does not hold if a round failed. `None` if a figure is missing.
    pub(crate) fn verdict(&self, own: &Rounds, peer: Option<&Rounds>) -> Option<Verdict> {
        let spread = own.spread(self.figure)?;
        let value = match self.reference {
            Reference::Peer(_) => spread.median / peer?.spread(self.figure)?.median,
            Reference::Own(figure) => spread.median / own.spread(figure)?.median,
            Reference::None => spread.most,
        };
        Some(Verdict { value, holds: self.bound.holds(value) && own.failure().is_none() })
    }
}

impl Bound {
    /// Whether a value is within the bound.
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
        }
    }

    /// Whether a ratio is better than 1 by more than the bound allows it to be worse.
    pub(crate) fn is_better(self, ratio: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => ratio >= 2.0 - bound,
            Bound::AtMost(bound) => ratio <= 2.0 - bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.figure.label())?;
        match self.reference {
            Reference::Peer(peer) => write!(formatter, " / {peer}"),
            Reference::Own(figure) => write!(formatter, " / {}", figure.label()),
            Reference::None => Ok(()),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtLeast(bound) => write!(formatter, "≥ {bound}"),
            Bound::AtMost(bound) => write!(formatter, "≤ {bound}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            value if value.is_infinite() => write!(formatter, "∞"),
            value => write!(formatter, "{}", Number(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(figure: Figure, values: &[f64]) -> Rounds {
        Rounds(values.iter().map(|value| Ok(vec![(figure, *value)])).collect())
    }

    fn verdict(goal: &Goal, own: &Rounds, peer: Option<&Rounds>) -> Option<(f64, bool)> {
        goal.verdict(own, peer).map(|verdict| (verdict.value, verdict.holds))
    }

    #[test]
    fn a_ratio_of_medians_is_held_to_its_bound() {
        let (figure, reference) = (Figure::Calls, Reference::Peer(Contender::InstalledNats));
        let own = rounds(figure, &[1.0, 30.0, 31.0]);
        let peer = rounds(figure, &[20.0, 19.0, 100.0]);
        for (bound, holds) in [
            (Bound::AtLeast(1.5), true),
            (Bound::AtLeast(1.51), false),
            (Bound::AtMost(1.5), true),
            (Bound::AtMost(1.49), false),
        ] {
            let goal = Goal { figure, reference, bound };
            assert_eq!(verdict(&goal, &own, Some(&peer)), Some((1.5, holds)), "{goal:?}");
            assert_eq!(verdict(&goal, &own, None), None);
        }
    }

    #[test]
    fn a_failure_counts_as_no_speed_and_holds_nothing() {
        let goal = |figure| Goal {
            figure,
            reference: Reference::Peer(Contender::Ya),
            bound: Bound::AtLeast(5.0),
        };
        let calls = rounds(Figure::Calls, &[7.0]);
        let times = rounds(Figure::P50, &[7.0]);
        let failed = Rounds(vec![Err("closed".to_owned())]);
        let beside_none = verdict(&goal(Figure::Calls), &calls, Some(&failed));
        assert_eq!(beside_none, Some((f64::INFINITY, true)));
        assert_eq!(verdict(&goal(Figure::P50), &times, Some(&failed)), None);
        assert_eq!(verdict(&goal(Figure::Calls), &failed, Some(&calls)), Some((0.0, false)));

        let mut mostly = rounds(Figure::Calls, &[70.0, 70.0]);
        mostly.0.push(Err("closed".to_owned()));
        assert_eq!(verdict(&goal(Figure::Calls), &mostly, Some(&calls)), Some((10.0, false)));
    }

    #[test]
    fn goals_without_a_peer_need_no_other_program() {
        let readings = vec![(Figure::CallsBefore, 10.0), (Figure::CallsBeside, 9.0)];
        let goal = Goal {
            figure: Figure::CallsBeside,
            reference: Reference::Own(Figure::CallsBefore),
            bound: Bound::AtLeast(0.95),
        };
        assert_eq!(verdict(&goal, &Rounds(vec![Ok(readings)]), None), Some((0.9, false)));

        let own = rounds(Figure::Lost, &[0.0, 0.0, 0.1]);
        let goal =
            Goal { figure: Figure::Lost, reference: Reference::None, bound: Bound::AtMost(0.0) };
        assert_eq!(verdict(&goal, &own, None), Some((0.1, false)));
    }
}
