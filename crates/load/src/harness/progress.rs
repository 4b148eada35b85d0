//! The progress of a series of measurements: a bar on a terminal, otherwise one line for each.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of a series of measurements, on standard error.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    /// The progress of `count` measurements.
    pub fn new(count: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(count) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} left\n{msg}");
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar, is_terminal }
    }

    /// A measurement begins.
    pub fn begin(&self, name: &str) {
        self.bar.set_message(name.to_owned());
    }

    /// A measurement has ended. `figures` is its outcome in one line.
    pub fn end(&self, name: &str, figures: &str) {
        self.bar.inc(1);
        if !self.is_terminal {
            eprintln!("{name}: {figures}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
