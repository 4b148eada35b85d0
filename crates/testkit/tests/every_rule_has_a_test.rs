//! Every rule of docs/protocol.md has a test that names it, and every rule that a test names exists.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All rule marks in a text, such as `CA-12`.
fn marks(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| {
            let (letters, digits) = word.split_once('-').unwrap_or_default();
            ["FR", "CO", "SV", "CA", "TO", "LI"].contains(&letters)
                && !digits.is_empty()
                && digits.bytes().all(|b| b.is_ascii_digit())
        })
        .map(str::to_owned)
        .collect()
}

/// The Rust files of tests below a directory.
fn test_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            test_files(&path, found);
        } else {
            let name = path.to_string_lossy();
            if name.ends_with("_tests.rs") || (name.ends_with(".rs") && name.contains("/tests/")) {
                found.push(path);
            }
        }
    }
}

#[test]
fn every_rule_has_a_test() {
    let protocol = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let rules: BTreeSet<String> = protocol
        .lines()
        .filter_map(|line| line.strip_prefix("**")?.split_once("**"))
        .map(|(mark, _)| mark.to_owned())
        .collect();
    assert!(rules.len() > 50, "only {} rules were found", rules.len());
    let mut files = Vec::new();
    test_files(&root().join("crates"), &mut files);
    let tested: BTreeSet<String> = files
        .iter()
        .filter(|file| !file.ends_with("every_rule_has_a_test.rs"))
        .flat_map(|file| marks(&fs::read_to_string(file).unwrap()))
        .collect();
    let untested: Vec<_> = rules.difference(&tested).collect();
    assert!(untested.is_empty(), "rules without a test: {untested:?}");
    let unknown: Vec<_> = tested.difference(&rules).collect();
    assert!(unknown.is_empty(), "tests of rules that do not exist: {unknown:?}");
}
