//! How far the measurements are: a bar on a terminal, else a line for each.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

use crate::figures::{Figure, Number, Shown};

/// How far the measurements are.
pub(crate) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    /// A bar for `count` measurements.
    pub(crate) fn new(count: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(count) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} left\n{msg}");
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar, is_terminal }
    }

    /// A measurement begins.
    pub(crate) fn begin(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// A measurement has ended.
    pub(crate) fn end(&self, what: &str, shown: &Result<Shown, String>) {
        self.bar.inc(1);
        if !self.is_terminal {
            eprintln!("{what}: {}", line(shown));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn line(shown: &Result<Shown, String>) -> String {
    match shown {
        Ok(shown) => {
            let figure =
                |(figure, value): &(Figure, f64)| format!("{} {}", figure.label(), Number(*value));
            shown.iter().map(figure).collect::<Vec<_>>().join(", ")
        }
        Err(error) => format!("failed: {error}"),
    }
}
