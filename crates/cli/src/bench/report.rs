//! What is printed of a measurement.

use std::time::Duration;

use bytesize::ByteSize;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::process::Need;

/// The figures of one measurement, for people or for programs.
#[derive(Debug)]
pub(crate) struct Report {
    is_json: bool,
    lines: Vec<String>,
    values: Map<String, Value>,
}

/// Which of the times are shown, in parts of a hundred.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

impl Report {
    pub(crate) fn new(what: &'static str, is_json: bool) -> Self {
        let values = Map::from_iter([("what".to_owned(), json!(what))]);
        Report { is_json, lines: Vec::new(), values }
    }

    /// Something that was set.
    pub(crate) fn setting(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_owned(), value.into());
    }

    /// How many there were of something in a time, and with how many bytes each.
    pub(crate) fn throughput(&mut self, unit: &str, count: u64, bytes: u64, time: Duration) {
        let rate = count as f64 / time.as_secs_f64();
        let volume = ByteSize::b((rate * bytes as f64) as u64);
        self.lines.push(format!("{rate:.0} {unit}/s ({volume}/s), {count} in {time:.1?}"));
        self.setting("count", count);
        self.setting("seconds", time.as_secs_f64());
        self.setting("per_second", rate);
    }

    /// How long something took, in nanoseconds.
    pub(crate) fn times(&mut self, times: &Histogram<u64>) {
        let at = |percentile| times.value_at_percentile(percentile);
        let shown = PERCENTILES.map(|percentile| {
            let time = Duration::from_nanos(at(percentile));
            format!("p{percentile} {time:.1?}")
        });
        self.lines.push(shown.join(", "));
        let values = PERCENTILES
            .map(|percentile| (format!("p{percentile}"), json!(at(percentile) as f64 / 1000.0)));
        self.setting("microseconds", Map::from_iter(values));
    }

    pub(crate) fn errors(&mut self, count: u64, example: Option<&str>) {
        if let Some(example) = example {
            self.lines.push(format!("{count} errors, such as: {example}"));
            self.setting("error", example);
        }
        self.setting("errors", count);
    }

    /// What the router's process has needed for so many of something.
    pub(crate) fn need(&mut self, need: Option<Need>, unit: &str, count: u64) {
        let Some(Need { processor, peak_memory }) = need else {
            return;
        };
        let each = processor.as_secs_f64() * 1e6 / count.max(1) as f64;
        let memory = ByteSize::b(peak_memory);
        self.lines
            .push(format!("router: {each:.2} µs of processor time per {unit}, at most {memory}"));
        self.setting("processor_microseconds_each", each);
        self.setting("peak_memory_bytes", peak_memory);
    }

    pub(crate) fn print(self) {
        if self.is_json {
            println!("{}", Value::Object(self.values));
        } else {
            println!("{}", self.lines.join("\n"));
        }
    }
}
