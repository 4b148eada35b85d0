//! Measures several contenders in turn, round after round.

use std::collections::BTreeMap;

use gsb_load::harness::Progress;

use crate::contender::Contender;
use crate::figures::{Rounds, line};
use crate::measure::Timing;
use crate::programs::Programs;
use crate::rows::Row;

/// A row with the figures of each contender.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) row: &'static Row,
    pub(crate) rounds: BTreeMap<Contender, Rounds>,
}

/// Measures every row in every round. `contenders_of` names the contenders of a row; those without a program are left
/// out.
pub(crate) fn measure(
    rounds: u32,
    timing: Timing,
    rows: &[&'static Row],
    contenders_of: impl Fn(&Row) -> &'static [Contender],
    programs: &Programs,
) -> Vec<Results> {
    let mut results: Vec<Results> =
        rows.iter().map(|row| Results { row, rounds: BTreeMap::new() }).collect();
    let contenders = |row: &Row| -> Vec<Contender> {
        contenders_of(row).iter().copied().filter(|contender| programs.has(*contender)).collect()
    };
    let count: usize = rows.iter().map(|row| contenders(row).len()).sum();
    let progress = Progress::new(u64::from(rounds) * count as u64);
    for round in 0..rounds {
        for Results { row, rounds } in &mut results {
            for contender in order(contenders(row), round) {
                let name = format!("round {}: {}: {contender}", round + 1, row.name);
                progress.begin(&name);
                let readings = timing.measure(row, contender, programs);
                progress.end(&name, &line(&readings));
                rounds.entry(contender).or_insert_with(Rounds::default).0.push(readings);
            }
        }
    }
    results
}

/// The order in a round. It is rotated in each round, so that each contender is the first one at times.
fn order(mut contenders: Vec<Contender>, round: u32) -> Vec<Contender> {
    let first = round as usize % contenders.len().max(1);
    contenders.rotate_left(first);
    contenders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_contenders_take_turns_at_being_first() {
        let (old, new) = (Contender::Baseline, Contender::Ours(1));
        let orders: Vec<_> = (0..3).map(|round| order(vec![old, new], round)).collect();
        assert_eq!(orders, [[old, new], [new, old], [old, new]]);
        assert_eq!(order(Vec::new(), 7), []);
    }
}
