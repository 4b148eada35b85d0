//! What is printed of a measurement.

use std::time::Duration;

use bytesize::ByteSize;
use gsb_load::Outcome;
use gsb_load::crowd::Crowd;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// The figures of one measurement, for people or for programs.
#[derive(Debug)]
pub(crate) struct Report {
    is_json: bool,
    lines: Vec<String>,
    values: Map<String, Value>,
}

/// Which of the times are shown, in parts of a hundred.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

/// Said where the router's process is neither named nor found.
const NO_PROCESS: &str =
    "router: its process was not found; name it with --pid to see what it needs";

impl Report {
    pub(crate) fn new(what: &'static str, is_json: bool) -> Self {
        let values = Map::from_iter([("what".to_owned(), json!(what))]);
        Report { is_json, lines: Vec::new(), values }
    }

    /// Something that was set.
    pub(crate) fn setting(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_owned(), value.into());
    }

    /// How many there were of something in a time, of `size` bytes each.
    pub(crate) fn throughput(&mut self, outcome: &Outcome, unit: &str, size: u64) {
        let (rate, count, elapsed) = (outcome.per_second(), outcome.count, outcome.elapsed);
        let volume = ByteSize::b((rate * size as f64) as u64);
        self.lines.push(format!("{rate:.0} {unit}/s ({volume}/s), {count} in {elapsed:.1?}"));
        self.setting("count", count);
        self.setting("seconds", elapsed.as_secs_f64());
        self.setting("per_second", rate);
        self.setting("mebibytes_per_second", rate * size as f64 / f64::from(1 << 20));
    }

    /// How long something took, in nanoseconds. Where nothing has ended there is no time to show.
    pub(crate) fn times(&mut self, times: &Histogram<u64>) {
        let at = |percentile| (!times.is_empty()).then(|| times.value_at_percentile(percentile));
        let shown = PERCENTILES.map(|percentile| match at(percentile).map(Duration::from_nanos) {
            Some(time) => format!("p{percentile} {time:.1?}"),
            None => format!("p{percentile} –"),
        });
        self.lines.push(shown.join(", "));
        let values = PERCENTILES.map(|percentile| {
            let microseconds = at(percentile).map(|time| time as f64 / 1000.0);
            (format!("p{percentile}"), json!(microseconds))
        });
        self.setting("microseconds", Map::from_iter(values));
    }

    /// What has failed.
    pub(crate) fn errors(&mut self, outcome: &Outcome) {
        if let Some(example) = &outcome.example {
            self.lines.push(format!("{} errors, such as: {example}", outcome.errors));
            self.setting("error", example.as_str());
        }
        self.setting("errors", outcome.errors);
    }

    /// What did not arrive.
    pub(crate) fn missed(&mut self, outcome: &Outcome) {
        if outcome.errors > 0 {
            self.lines.push(format!("{} did not arrive", outcome.errors));
        }
        self.setting("missed", outcome.errors);
    }

    /// What the router's process has needed for each.
    pub(crate) fn need(&mut self, outcome: &Outcome, pid: Option<u32>, unit: &str) {
        let (Some(pid), Some(need)) = (pid, outcome.need) else {
            self.lines.push(NO_PROCESS.to_owned());
            return;
        };
        let memory = ByteSize::b(need.peak_memory);
        let each = outcome.processor_microseconds();
        let shown = each.map_or_else(|| "–".to_owned(), |each| format!("{each:.2} µs"));
        self.lines.push(format!(
            "router (process {pid}): {shown} of processor time per {unit}, at most {memory}"
        ));
        self.setting("pid", pid);
        self.setting("processor_microseconds_each", each);
        self.setting("peak_memory_bytes", need.peak_memory);
    }

    /// What so many connections or names cost.
    pub(crate) fn crowd(&mut self, crowd: &Crowd, pid: Option<u32>, unit: &str, count: u32) {
        let rate = f64::from(count) / crowd.elapsed.as_secs_f64();
        self.lines.push(format!("{count} {unit}s in {:.1?}, {rate:.0}/s", crowd.elapsed));
        self.setting("seconds", crowd.elapsed.as_secs_f64());
        self.setting("per_second", rate);
        let (Some(pid), Some(memory)) = (pid, crowd.memory) else {
            self.lines.push(NO_PROCESS.to_owned());
            return;
        };
        let each = memory as f64 / f64::from(count.max(1));
        let memory = ByteSize::b(memory);
        self.lines.push(format!(
            "router (process {pid}): {each:.0} bytes per {unit}, {memory} more than before"
        ));
        self.setting("pid", pid);
        self.setting("bytes_each", each);
    }

    pub(crate) fn print(self) {
        if self.is_json {
            println!("{}", Value::Object(self.values));
        } else {
            println!("{}", self.lines.join("\n"));
        }
    }
}
