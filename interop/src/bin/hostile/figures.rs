//! The figures of the cases.

use std::fmt;
use std::time::Duration;

use gsb_load::harness::table::NO_FIGURE;
use serde::Serialize;

use crate::server::Kind;

/// A value. In JSON, times are in seconds and memory is in bytes.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "unit", content = "value", rename_all = "snake_case")]
pub enum Value {
    /// Memory or data in bytes.
    Bytes(u64),
    /// A number of things.
    Count(u64),
    /// A part of a number of things.
    OutOf(u64, u64),
    /// A time.
    #[serde(serialize_with = "seconds")]
    Time(Duration),
    /// A time that had not ended when the measurement ended.
    #[serde(serialize_with = "seconds")]
    MoreThan(Duration),
    /// A text.
    Text(String),
    /// There is no value.
    None,
}

/// The named figures of one case with one server, in order.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Figures(pub Vec<Figure>);

/// A value with its name.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// The name.
    pub name: String,
    /// The value.
    #[serde(flatten)]
    pub value: Value,
}

/// The outcome of one case with one server.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The number of the case.
    pub number: usize,
    /// The title of the case.
    pub case: &'static str,
    /// The server.
    pub router: Kind,
    /// The name and version of the server, and its kind of socket.
    pub title: String,
    /// How long the case took, in seconds.
    #[serde(serialize_with = "seconds")]
    pub took: Duration,
    /// The figures.
    pub figures: Figures,
}

impl Figures {
    /// Adds a figure.
    pub fn add(&mut self, name: &str, value: Value) {
        self.0.push(Figure { name: name.to_owned(), value });
    }

    /// Adds a text.
    pub fn add_text(&mut self, name: &str, text: impl Into<String>) {
        self.add(name, Value::Text(text.into()));
    }

    /// The value with this name.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|figure| figure.name == name).map(|figure| &figure.value)
    }
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
            Value::None => f.write_str(NO_FIGURE),
        }
    }
}

/// A time with its significant digits.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        1.0.. => format!("{seconds:.1} s"),
        0.01.. => format!("{:.0} ms", seconds * 1e3),
        0.001.. => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.0} µs", seconds * 1e6),
    }
}

/// A size with its significant digits.
pub fn size(bytes: u64) -> String {
    const KIBI: u64 = 1 << 10;
    const MEBI: u64 = 1 << 20;
    // In integers, so that no digit is lost in a float.
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..KIBI => format!("{bytes} B"),
        KIBI..MEBI => format!("{} KiB", tenths(KIBI)),
        _ => format!("{} MiB", tenths(MEBI)),
    }
}

/// The median of several times, or no value.
pub fn median(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(Value::None, |&time| Value::Time(time))
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
