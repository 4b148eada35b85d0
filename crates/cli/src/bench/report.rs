//! The output of a measurement.

use bytesize::ByteSize;
use gsb_load::Outcome;
use gsb_load::idle::IdleConnections;
use serde_json::{Map, Value, json};

/// The figures of one measurement, as text or JSON.
#[derive(Debug)]
pub(crate) struct Report {
    is_json: bool,
    lines: Vec<String>,
    values: Map<String, Value>,
}

/// The percentiles of the latency that are shown.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

/// Printed if the process of the router is not known.
const NO_PROCESS: &str =
    "router: its process was not found; with --pid its processor time and memory are shown";

impl Report {
    /// An empty report. `what` is the name of the measurement.
    pub(crate) fn new(what: &'static str, is_json: bool) -> Self {
        let values = Map::from_iter([("what".to_owned(), json!(what))]);
        Report { is_json, lines: Vec::new(), values }
    }

    /// Adds a value to the JSON output.
    pub(crate) fn setting(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_owned(), value.into());
    }

    /// Adds how many calls, streams or deliveries of `size` bytes each ended, and their rate.
    pub(crate) fn throughput(&mut self, outcome: &Outcome, unit: &str, size: u64) {
        let (rate, count, elapsed) = (outcome.per_second(), outcome.count, outcome.elapsed);
        let volume = ByteSize::b((rate * size as f64) as u64);
        self.lines.push(format!("{rate:.0} {unit}/s ({volume}/s), {count} in {elapsed:.1?}"));
        self.setting("count", count);
        self.setting("seconds", elapsed.as_secs_f64());
        self.setting("per_second", rate);
        self.setting("mebibytes_per_second", rate * size as f64 / f64::from(1 << 20));
    }

    /// Adds the percentiles of the latency.
    pub(crate) fn latencies(&mut self, outcome: &Outcome) {
        let shown = PERCENTILES.map(|percentile| match outcome.latency(percentile) {
            Some(latency) => format!("p{percentile} {latency:.1?}"),
            None => format!("p{percentile} –"),
        });
        self.lines.push(shown.join(", "));
        let values = PERCENTILES.map(|percentile| {
            let latency = outcome.latency(percentile);
            let microseconds = latency.map(|latency| latency.as_nanos() as f64 / 1000.0);
            (format!("p{percentile}"), json!(microseconds))
        });
        self.setting("microseconds", Map::from_iter(values));
    }

    /// Adds the number of errors, and one of them.
    pub(crate) fn errors(&mut self, outcome: &Outcome) {
        if let Some(example) = &outcome.example {
            self.lines.push(format!("{} errors, for example: {example}", outcome.errors));
            self.setting("error", example.as_str());
        }
        self.setting("errors", outcome.errors);
    }

    /// Adds the number of lost broadcasts.
    pub(crate) fn lost(&mut self, outcome: &Outcome) {
        if outcome.errors > 0 {
            self.lines.push(format!("{} did not arrive", outcome.errors));
        }
        self.setting("missed", outcome.errors);
    }

    /// Adds the processor time and memory of the router.
    pub(crate) fn resources(&mut self, outcome: &Outcome, pid: Option<u32>, unit: &str) {
        let (Some(pid), Some(resources)) = (pid, outcome.resources) else {
            self.lines.push(NO_PROCESS.to_owned());
            return;
        };
        let memory = ByteSize::b(resources.peak_memory);
        let each = outcome.processor_microseconds();
        let shown = each.map_or_else(|| "–".to_owned(), |each| format!("{each:.2} µs"));
        self.lines.push(format!(
            "router (process {pid}): {shown} of processor time per {unit}, at most {memory}"
        ));
        self.setting("pid", pid);
        self.setting("processor_microseconds_each", each);
        self.setting("peak_memory_bytes", resources.peak_memory);
    }

    /// Adds what connections or names cost.
    pub(crate) fn idle(
        &mut self,
        connections: &IdleConnections,
        pid: Option<u32>,
        unit: &str,
        count: u32,
    ) {
        let rate = f64::from(count) / connections.elapsed.as_secs_f64();
        self.lines.push(format!("{count} {unit}s in {:.1?}, {rate:.0}/s", connections.elapsed));
        self.setting("seconds", connections.elapsed.as_secs_f64());
        self.setting("per_second", rate);
        let (Some(pid), Some(memory)) = (pid, connections.memory) else {
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

    /// Prints the report to standard output.
    pub(crate) fn print(self) {
        if self.is_json {
            println!("{}", Value::Object(self.values));
        } else {
            println!("{}", self.lines.join("\n"));
        }
    }
}
