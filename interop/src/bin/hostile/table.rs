//! The output: a table for a terminal, a table in Markdown, or JSON.

use gsb_load::harness::table;

use crate::figures::{Outcome, Value};

/// A table for a terminal.
pub fn plain(outcomes: &[Outcome]) -> String {
    table::plain(&rows(outcomes, str::to_owned, |name| format!("  {name}")))
}

/// A table in Markdown.
pub fn markdown(outcomes: &[Outcome]) -> String {
    table::markdown(rows(outcomes, |case| format!("**{case}**"), str::to_owned))
}

/// All figures in JSON.
pub fn json(outcomes: &[Outcome]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(outcomes)
}

/// A column for each server. A row for each case, and below it a row for each of its figures.
fn rows(
    outcomes: &[Outcome],
    case_cell: impl Fn(&str) -> String,
    figure_cell: impl Fn(&str) -> String,
) -> Vec<Vec<String>> {
    let titles = unique(outcomes.iter().map(|outcome| outcome.title.as_str()));
    let mut cases = unique(outcomes.iter().map(|outcome| (outcome.number, outcome.case)));
    cases.sort_unstable();

    let row = |first: String, cell: &dyn Fn(&str) -> String| -> Vec<String> {
        std::iter::once(first).chain(titles.iter().map(|title| cell(title))).collect()
    };
    let mut rows = vec![row(String::new(), &str::to_owned)];
    for (number, case) in cases {
        rows.push(row(case_cell(&format!("{number} {case}")), &|_| String::new()));
        let of_case: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| outcome.number == number).collect();
        let figures = of_case.iter().flat_map(|outcome| &outcome.figures.0);
        for name in unique(figures.map(|figure| figure.name.as_str())) {
            rows.push(row(figure_cell(name), &|title| {
                let outcome = of_case.iter().find(|outcome| outcome.title == *title);
                let value = outcome.and_then(|outcome| outcome.figures.value(name));
                value.unwrap_or(&Value::None).to_string()
            }));
        }
    }
    rows
}

/// Each item once, in the order of first appearance.
fn unique<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut unique = Vec::new();
    for item in items {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}
