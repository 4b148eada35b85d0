//! The tables of the figures and of the goals.

use std::collections::BTreeSet;

use gsb_load::harness::table::{NO_FIGURE, markdown};

use crate::contender::{Contender, OURS};
use crate::figures::{Figure, Rounds};
use crate::goals::{Goal, Reference};
use crate::rounds::Results;

/// All figures: the medians, and the ranges in parentheses.
pub(crate) fn figures(results: &[Results]) -> String {
    let contenders: BTreeSet<Contender> =
        results.iter().flat_map(|results| results.rounds.keys().copied()).collect();
    let line = |first: String, cell: &dyn Fn(Contender) -> String| -> Vec<String> {
        std::iter::once(first).chain(contenders.iter().map(|contender| cell(*contender))).collect()
    };
    let mut lines = vec![line(String::new(), &|contender| contender.to_string())];
    for Results { row, rounds } in results {
        lines.push(line(format!("**{}**", row.name), &|_| String::new()));
        let measured: BTreeSet<Figure> = rounds.values().flat_map(Rounds::figures).collect();
        if measured.is_empty() {
            lines.push(line(NO_FIGURE.to_owned(), &|contender| {
                rounds.get(&contender).and_then(Rounds::failure).unwrap_or_default()
            }));
        }
        for (number, figure) in measured.into_iter().enumerate() {
            lines.push(line(figure.label().to_owned(), &|contender| {
                let Some(rounds) = rounds.get(&contender) else {
                    return String::new();
                };
                let spread = rounds.spread(figure).map(|spread| spread.to_string());
                let failure = rounds.failure().filter(|_| number == 0);
                let cell: Vec<String> = spread.into_iter().chain(failure).collect();
                if cell.is_empty() { NO_FIGURE.to_owned() } else { cell.join("; ") }
            }));
        }
    }
    markdown(lines)
}

/// All goals with their values, and a list of those that are missed. Our router has a column for each configuration
/// that was measured.
pub(crate) fn goals(results: &[Results]) -> String {
    let mut head: Vec<String> = ["measurement", "target", "bound"].map(str::to_owned).to_vec();
    let mut ours = OURS.to_vec();
    ours.retain(|ours| results.iter().any(|results| results.rounds.contains_key(ours)));
    for ours in &ours {
        head.extend([ours.to_string(), "holds".to_owned()]);
    }
    let mut lines = vec![head];
    let (mut count, mut missed) = (0, Vec::new());
    for Results { row, rounds } in results {
        for goal in row.goals {
            let peer = match goal.reference {
                Reference::Peer(peer) => rounds.get(&peer),
                _ => None,
            };
            let mut line = vec![row.name.to_owned(), goal.to_string(), goal.bound.to_string()];
            for ours in &ours {
                let verdict = rounds.get(ours).and_then(|own| goal.verdict(own, peer));
                count += u32::from(verdict.is_some());
                if let Some(verdict) = verdict.filter(|verdict| !verdict.holds) {
                    let Goal { bound, .. } = goal;
                    missed.push(format!(
                        "- {ours}: {}: {goal} is {verdict}, bound {bound}\n",
                        row.name
                    ));
                }
                line.extend(match verdict {
                    Some(verdict) if verdict.holds => [verdict.to_string(), "yes".to_owned()],
                    Some(verdict) => [verdict.to_string(), "**no**".to_owned()],
                    None => [NO_FIGURE.to_owned(), NO_FIGURE.to_owned()],
                });
            }
            lines.push(line);
        }
    }
    let sum = format!("\nGoals missed: {} of {count}.\n\n{}", missed.len(), missed.concat());
    markdown(lines) + &sum
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rows::ROWS;

    #[test]
    fn tables_show_ranges_failures_and_verdicts_of_what_was_measured() {
        let readings = |calls| Ok(vec![(Figure::Calls, calls), (Figure::Processor, 2.0)]);
        let closed = || Err("closed | by it".to_owned());
        let rounds = BTreeMap::from([
            (Contender::Ours(1), Rounds(vec![readings(100.0), readings(200.0)])),
            (Contender::Ya, Rounds(vec![readings(10.0), closed()])),
            (Contender::Relay, Rounds(vec![closed(), closed()])),
        ]);
        let results = [Results { row: &ROWS[0], rounds }];
        let figures = figures(&results);
        for cell in [
            "| router --workers 1 ",
            "| 150 (100 to 200) ",
            "| 5.00 (0 to 10.0); 1 of 2 rounds failed: closed / by it ",
            "| 0; failed: closed / by it ",
            "| – ",
        ] {
            assert!(figures.contains(cell), "{cell} is not in\n{figures}");
        }
        let goals = goals(&results);
        for cell in ["| calls/s / ya-sb-router 0.6.4 ", "| ≥ 5 ", "| 30.0 ", "| yes ", "| – "] {
            assert!(goals.contains(cell), "{cell} is not in\n{goals}");
        }
        for table in [&figures, &goals] {
            assert!(!table.contains("--workers 2"), "{table}");
        }
    }
}
