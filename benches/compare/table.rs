//! Tables of what was measured, and of what came of the goals.

use std::collections::BTreeSet;

use crate::contender::{Contender, OURS};
use crate::figures::{Figure, Rounds};
use crate::goals::{Goal, Than};
use crate::rounds::Results;

/// What has not been measured, or tells nothing.
pub(crate) const NOTHING: &str = "–";

/// All figures: medians, and in which range they were.
pub(crate) fn figures(results: &[Results]) -> String {
    let contenders: BTreeSet<Contender> =
        results.iter().flat_map(|results| results.rounds.keys().copied()).collect();
    let line = |first: String, cell: &dyn Fn(Contender) -> String| -> Vec<String> {
        std::iter::once(first).chain(contenders.iter().map(|contender| cell(*contender))).collect()
    };
    let mut lines = vec![line(String::new(), &|contender| contender.to_string())];
    for Results { row, rounds } in results {
        lines.push(line(format!("**{}**", row.name), &|_| String::new()));
        let shown: BTreeSet<Figure> = rounds.values().flat_map(Rounds::figures).collect();
        if shown.is_empty() {
            lines.push(line(NOTHING.to_owned(), &|contender| {
                rounds.get(&contender).and_then(Rounds::failure).unwrap_or_default()
            }));
        }
        for (number, figure) in shown.into_iter().enumerate() {
            lines.push(line(figure.label().to_owned(), &|contender| {
                let Some(rounds) = rounds.get(&contender) else {
                    return String::new();
                };
                let range = rounds.range(figure).map(|range| range.to_string());
                let failure = rounds.failure().filter(|_| number == 0);
                let cell: Vec<String> = range.into_iter().chain(failure).collect();
                if cell.is_empty() { NOTHING.to_owned() } else { cell.join("; ") }
            }));
        }
    }
    markdown(lines)
}

/// All goals, whether they are reached, and a list of those that are missed.
pub(crate) fn goals(results: &[Results]) -> String {
    let mut head: Vec<String> = ["measurement", "target", "bound"].map(str::to_owned).to_vec();
    for ours in OURS {
        head.extend([ours.to_string(), "holds".to_owned()]);
    }
    let mut lines = vec![head];
    let (mut count, mut missed) = (0, Vec::new());
    for Results { row, rounds } in results {
        for goal in row.goals {
            let peer = match goal.than {
                Than::Peer(peer) => rounds.get(&peer),
                _ => None,
            };
            let mut line = vec![row.name.to_owned(), goal.to_string(), goal.bound.to_string()];
            for ours in OURS {
                let verdict = rounds.get(&ours).and_then(|own| goal.verdict(own, peer));
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
                    None => [NOTHING.to_owned(), NOTHING.to_owned()],
                });
            }
            lines.push(line);
        }
    }
    let sum = format!("\nGoals missed: {} of {count}.\n\n{}", missed.len(), missed.concat());
    markdown(lines) + &sum
}

/// A table that can be read as it stands; the first line is its head.
pub(crate) fn markdown(mut lines: Vec<Vec<String>>) -> String {
    // What others say may contain anything.
    for cell in lines.iter_mut().flatten() {
        *cell = cell.replace(['|', '\n'], "/");
    }
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(&format!("| {cell:<width$} "));
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                text.push_str(&format!("|{}", "-".repeat(width + 2)));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rows::ROWS;

    #[test]
    fn tables_show_ranges_failures_and_verdicts() {
        let shown = |calls| Ok(vec![(Figure::Calls, calls), (Figure::Processor, 2.0)]);
        let closed = || Err("closed | by it".to_owned());
        let rounds = BTreeMap::from([
            (Contender::Ours(1), Rounds(vec![shown(100.0), shown(200.0)])),
            (Contender::Ya, Rounds(vec![shown(10.0), closed()])),
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
    }
}
