//! The layout of the workspace that ARCHITECTURE.md states: which crate knows which, no circle of imports between the
//! files of a crate, no long file.

#![allow(clippy::unwrap_used)]

#[path = "house/imports.rs"]
mod imports;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imports::Crate;

const MAX_LINES: usize = 600;

/// The crates of this workspace that each library may depend on, for other purposes than its tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("gsb-proto", &[]),
    ("gsb-derive", &[]),
    ("gsb-core", &["gsb-proto"]),
    ("gsb-net", &["gsb-proto"]),
    ("gsb-identity", &["gsb-proto"]),
    ("gsb-client", &["gsb-derive", "gsb-net", "gsb-proto"]),
    ("gsb-router", &["gsb-core", "gsb-net", "gsb-proto"]),
];

/// Crates that know no runtime.
const WITHOUT_RUNTIME: &[&str] = &["gsb-proto", "gsb-core", "gsb-identity"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The folders of all crates below `crates/`.
fn crates() -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .collect();
    found.sort();
    assert!(found.len() >= 8, "{found:?}");
    found
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_file_is_long() {
    let mut files = Vec::new();
    for path in crates() {
        rust_files(&path.join("src"), &mut files);
    }
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let long: Vec<_> = files.iter().filter(|path| lines(path) > MAX_LINES).collect();
    assert!(long.is_empty(), "files of more than {MAX_LINES} lines: {long:#?}");
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let mut circles = Vec::new();
    for path in crates() {
        let roots: Vec<_> = ["src/lib.rs", "src/main.rs", "src/bin/router/main.rs"]
            .iter()
            .map(|root| path.join(root))
            .filter(|root| root.is_file())
            .collect();
        for root in roots {
            circles.extend(Crate::read(&root).circles());
        }
    }
    assert!(circles.is_empty(), "files that import each other: {circles:#?}");
}

#[test]
fn crates_depend_only_on_those_that_they_may_know() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut dependencies = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let names: Vec<String> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
            .collect();
        dependencies.insert(package["name"].as_str().unwrap().to_owned(), names);
    }
    for (name, allowed) in ALLOWED {
        for dependency in &dependencies[*name] {
            let is_ours = dependency.starts_with("gsb-");
            assert!(
                !is_ours || allowed.contains(&dependency.as_str()),
                "{name} depends on {dependency}"
            );
        }
    }
    for name in WITHOUT_RUNTIME {
        assert!(!dependencies[*name].contains(&"tokio".to_owned()), "{name} depends on tokio");
    }
}
