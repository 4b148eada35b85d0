//! The page of the figures, `docs/performance.md`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

/// The figures are written between these marks.
const BEGIN: &str = "<!-- compare -->\n";
const END: &str = "<!-- /compare -->";

/// The machine of the measurement: processor and memory, and the kernel.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let (processor, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let processor = entry(&processor, "model name").unwrap_or("an unknown processor");
    let memory = entry(&memory, "MemTotal").and_then(|text| text.strip_suffix(" kB")?.parse().ok());
    let memory = memory.map_or(0.0, |kibibytes: f64| kibibytes / f64::from(1 << 20));
    // The rest says who built the kernel, and where.
    let kernel: Vec<String> =
        read("/proc/version").split_whitespace().take(3).map(str::to_owned).collect();
    format!("- {cores} cores of {processor}, {memory:.1} GiB of memory\n- {}\n", kernel.join(" "))
}

/// Replaces the text between the marks of the page.
///
/// # Errors
/// The page cannot be read or written, or has no marks.
pub(crate) fn write(measured: &str) -> io::Result<()> {
    let path = path();
    let page = fs::read_to_string(&path)?;
    let page = replace(&page, measured).ok_or_else(|| {
        let problem = format!("{} has no lines {BEGIN:?} and {END:?}", path.display());
        io::Error::other(problem)
    })?;
    fs::write(path, page)
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md")
}

fn replace(page: &str, measured: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n\n{END}{after}", measured.trim()))
}

/// The value of the first line `key: value` with this key.
fn entry<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_marks_is_replaced() {
        let page = "# A\n\n<!-- compare -->\nold\n\nolder\n<!-- /compare -->\n\nend\n";
        let new = replace(page, "\nnew\n\n").unwrap();
        assert_eq!(new, "# A\n\n<!-- compare -->\n\nnew\n\n<!-- /compare -->\n\nend\n");
        assert_eq!(replace(&new, "new").unwrap(), new);
        assert_eq!(replace("# A\n", "new"), None);
        assert_eq!(replace("<!-- compare -->\n", "new"), None);
    }

    #[test]
    fn the_page_has_marks() {
        assert!(replace(&fs::read_to_string(path()).unwrap(), "new").is_some());
    }

    #[test]
    fn entries_are_found() {
        let text = "processor\t: 0\nmodel name\t: A Processor\nmodel name\t: B\n";
        assert_eq!(entry(text, "model name"), Some("A Processor"));
        assert_eq!(entry(text, "MemTotal"), None);
    }
}
