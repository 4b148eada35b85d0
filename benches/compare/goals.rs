//! What our router is to reach, and whether it does.

use std::fmt;

use crate::contender::Contender;
use crate::figures::{Figure, Number, Rounds};

/// Something that our router is to reach.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) figure: Figure,
    pub(crate) than: Than,
    pub(crate) bound: Bound,
}

/// What a figure is divided by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Than {
    /// The same figure of somebody else.
    Peer(Contender),
    /// Another of our own.
    Own(Figure),
    /// Nothing: the figure itself is meant, that of the worst round.
    Nothing,
}

/// What a ratio, or a figure, has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What came of a goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) value: f64,
    pub(crate) holds: bool,
}

impl Goal {
    /// What came of it, from medians over all rounds. Nothing holds that has failed in a round; `None` if there is
    /// nothing to compare with.
    pub(crate) fn verdict(&self, own: &Rounds, peer: Option<&Rounds>) -> Option<Verdict> {
        let range = own.range(self.figure)?;
        let value = match self.than {
            Than::Peer(_) => range.median / peer?.range(self.figure)?.median,
            Than::Own(figure) => range.median / own.range(figure)?.median,
            Than::Nothing => range.most,
        };
        Some(Verdict { value, holds: self.bound.holds(value) && own.failure().is_none() })
    }
}

impl Bound {
    /// Whether a value is within it.
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.figure.label())?;
        match self.than {
            Than::Peer(peer) => write!(formatter, " / {peer}"),
            Than::Own(figure) => write!(formatter, " / {}", figure.label()),
            Than::Nothing => Ok(()),
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
        let (figure, than) = (Figure::Calls, Than::Peer(Contender::InstalledNats));
        let own = rounds(figure, &[1.0, 30.0, 31.0]);
        let peer = rounds(figure, &[20.0, 19.0, 100.0]);
        for (bound, holds) in [
            (Bound::AtLeast(1.5), true),
            (Bound::AtLeast(1.51), false),
            (Bound::AtMost(1.5), true),
            (Bound::AtMost(1.49), false),
        ] {
            let goal = Goal { figure, than, bound };
            assert_eq!(verdict(&goal, &own, Some(&peer)), Some((1.5, holds)), "{goal:?}");
            assert_eq!(verdict(&goal, &own, None), None);
        }
    }

    #[test]
    fn failures_are_no_speed_and_hold_nothing() {
        let goal =
            |figure| Goal { figure, than: Than::Peer(Contender::Ya), bound: Bound::AtLeast(5.0) };
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
    fn own_figures_and_bare_ones_need_nobody_else() {
        let shown = vec![(Figure::CallsBefore, 10.0), (Figure::CallsBeside, 9.0)];
        let goal = Goal {
            figure: Figure::CallsBeside,
            than: Than::Own(Figure::CallsBefore),
            bound: Bound::AtLeast(0.95),
        };
        assert_eq!(verdict(&goal, &Rounds(vec![Ok(shown)]), None), Some((0.9, false)));

        let own = rounds(Figure::Lost, &[0.0, 0.0, 0.1]);
        let goal = Goal { figure: Figure::Lost, than: Than::Nothing, bound: Bound::AtMost(0.0) };
        assert_eq!(verdict(&goal, &own, None), Some((0.1, false)));
    }
}
