//! What was measured, and its three forms: for a terminal, for a document, for a program.

use std::fmt;
use std::time::Duration;

use comfy_table::{Table, TableComponent, presets};
use serde::Serialize;

use crate::process::Kind;

/// One figure. In JSON: times in seconds, memory in bytes.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "unit", content = "value", rename_all = "snake_case")]
pub enum Value {
    /// Memory or data.
    Bytes(u64),
    /// A number of things.
    Count(u64),
    /// Of so many as the second number says.
    OutOf(u64, u64),
    /// A time.
    #[serde(serialize_with = "seconds")]
    Time(Duration),
    /// A time that was not over when the measurement ended.
    #[serde(serialize_with = "seconds")]
    MoreThan(Duration),
    /// What no number says.
    Text(String),
    /// There is nothing to measure.
    None,
}

/// The figures of one case with one router, each with its name, in a fixed order.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Figures(Vec<Figure>);

#[derive(Debug, Clone, Serialize)]
struct Figure {
    name: String,
    #[serde(flatten)]
    value: Value,
}

/// One case with one router.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The case's number.
    pub number: usize,
    /// The case in a few words.
    pub case: &'static str,
    /// Which router.
    pub router: Kind,
    /// The router's name and version, and what kind of socket it had.
    pub title: String,
    /// How long it took, in seconds.
    #[serde(serialize_with = "seconds")]
    pub took: Duration,
    /// What was measured.
    pub figures: Figures,
}

impl Figures {
    /// Adds a figure.
    pub fn add(&mut self, name: &str, value: Value) {
        self.0.push(Figure { name: name.to_owned(), value });
    }

    /// Adds a sentence, or less.
    pub fn say(&mut self, name: &str, text: impl Into<String>) {
        self.add(name, Value::Text(text.into()));
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|figure| figure.name == name).map(|figure| &figure.value)
    }
}

/// For a terminal.
pub fn plain(outcomes: &[Outcome]) -> String {
    let mut table = table(outcomes, str::to_owned, |name| format!("  {name}"));
    table.load_preset(presets::NOTHING);
    table.set_style(TableComponent::HeaderLines, '─');
    table.set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.trim_fmt()
}

/// For a document.
pub fn markdown(outcomes: &[Outcome]) -> String {
    let mut table = table(outcomes, |case| format!("**{case}**"), str::to_owned);
    table.load_preset(presets::ASCII_MARKDOWN);
    table.trim_fmt()
}

/// For a program.
pub fn json(outcomes: &[Outcome]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(outcomes)
}

/// A column for each router, and a row for each figure below a row for its case.
fn table(
    outcomes: &[Outcome],
    case_cell: impl Fn(&str) -> String,
    figure_cell: impl Fn(&str) -> String,
) -> Table {
    let titles = unique(outcomes.iter().map(|outcome| outcome.title.as_str()));
    let mut cases = unique(outcomes.iter().map(|outcome| (outcome.number, outcome.case)));
    cases.sort_unstable();

    let mut table = Table::new();
    table.set_header([""].iter().chain(&titles));
    for (number, case) in cases {
        table.add_row([case_cell(&format!("{number} {case}"))]);
        let of_case: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| outcome.number == number).collect();
        let figures = of_case.iter().flat_map(|outcome| &outcome.figures.0);
        for name in unique(figures.map(|figure| figure.name.as_str())) {
            let mut cells = vec![figure_cell(name)];
            for title in &titles {
                let outcome = of_case.iter().find(|outcome| outcome.title == *title);
                let value = outcome.and_then(|outcome| outcome.figures.value(name));
                cells.push(value.unwrap_or(&Value::None).to_string());
            }
            table.add_row(cells);
        }
    }
    table
}

/// Each once, in the order of their first coming.
fn unique<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut unique = Vec::new();
    for one in all {
        if !unique.contains(&one) {
            unique.push(one);
        }
    }
    unique
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bytes(bytes) => f.write_str(&size(*bytes)),
            Value::Count(count) => write!(f, "{count}"),
            Value::OutOf(part, all) => write!(f, "{part} of {all}"),
            Value::Time(time) => f.write_str(&duration(*time)),
            Value::MoreThan(time) => write!(f, "more than {}", duration(*time)),
            Value::Text(text) => f.write_str(text),
            Value::None => f.write_str("–"),
        }
    }
}

/// With as many digits as a reader compares.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        1.0.. => format!("{seconds:.1} s"),
        0.01.. => format!("{:.0} ms", seconds * 1e3),
        0.001.. => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.0} µs", seconds * 1e6),
    }
}

/// With as many digits as a reader compares.
pub fn size(bytes: u64) -> String {
    const KIBI: u64 = 1 << 10;
    const MEBI: u64 = 1 << 20;
    // Tenths, so that nothing is lost on the way through a float.
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..KIBI => format!("{bytes} B"),
        KIBI..MEBI => format!("{} KiB", tenths(KIBI)),
        _ => format!("{} MiB", tenths(MEBI)),
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
