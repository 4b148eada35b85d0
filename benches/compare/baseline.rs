//! Whether our router is as fast as another build of it (`--baseline`).

use crate::contender::Contender;
use crate::figures::Figure;
use crate::goals::Bound::{AtLeast, AtMost};
use crate::goals::{Goal, Reference};
use crate::pairs::Pairing;
use crate::rows::{ROWS, Row, Work};

/// The other build, and ours.
pub(crate) static BUILDS: Pairing = Pairing {
    contenders: [Contender::Baseline, Contender::Ours(1)],
    names: ["baseline", "new"],
    goals: |_| GOALS,
};

const REFERENCE: Reference = Reference::Peer(Contender::Baseline);

/// The figures that are judged, in each row that has them.
const GOALS: &[Goal] = &[
    Goal { figure: Figure::Processor, reference: REFERENCE, bound: AtMost(1.03) },
    Goal { figure: Figure::Calls, reference: REFERENCE, bound: AtLeast(0.95) },
    Goal { figure: Figure::Mebibytes, reference: REFERENCE, bound: AtLeast(0.95) },
    Goal { figure: Figure::Deliveries, reference: REFERENCE, bound: AtLeast(0.95) },
    Goal { figure: Figure::P50, reference: REFERENCE, bound: AtMost(1.05) },
];

/// The rows in which builds are compared: all that measure a speed.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| matches!(row.work, Work::Calls(_) | Work::Broadcast(_)))
}

#[cfg(test)]
#[path = "baseline_tests.rs"]
mod tests;
