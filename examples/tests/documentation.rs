//! What the documentation shows can be copied: its code needs no crate that it does not name, and constants are
//! documented with their values.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates beyond the README's list; the text beside the code names them.
const ALSO: [(&str, &str); 3] =
    [("encoding.rs", "serde_json"), ("lib.rs", "gsb_router"), ("tower.rs", "tower")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// All source files below a directory.
fn sources(directory: &str) -> Vec<PathBuf> {
    let (mut directories, mut files) = (vec![root().join(directory)], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The lines of the Rust code blocks among lines of Markdown.
fn code<'a>(markdown: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let (mut is_inside, mut is_rust, mut lines) = (false, false, Vec::new());
    for line in markdown {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_inside = !is_inside;
            is_rust = ["", "rust", "no_run", "compile_fail"].contains(&language);
        } else if is_inside && is_rust {
            lines.push(line);
        }
    }
    lines
}

/// The text of documentation comments.
fn comments(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| {
        let line = line.trim_start();
        let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
        Some(text.strip_prefix(' ').unwrap_or(text))
    })
}

/// The crates among these that the code names, other than through `gsb_client`.
fn named<'a>(code: &str, crates: &'a BTreeSet<String>) -> Vec<&'a String> {
    let is_named = |name: &&String| {
        code.match_indices(&format!("{name}::")).any(|(place, _)| {
            let before = code[..place].chars().next_back();
            !before.is_some_and(|before| before.is_alphanumeric() || "_:".contains(before))
        }) && !code.contains(&format!("gsb_client::{name}"))
    };
    crates.iter().filter(is_named).collect()
}

/// The packages that a `Cargo.lock` names.
fn all_crates() -> BTreeSet<String> {
    let lock = read("Cargo.lock");
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \""));
    names.map(|name| name.trim_end_matches('"').replace('-', "_")).collect()
}

/// The dependencies that the README lists.
fn listed_crates() -> BTreeSet<String> {
    let readme = read("README.md");
    let (_, list) = readme.split_once("[dependencies]\n").unwrap();
    let (list, _) = list.split_once("```").unwrap();
    let names = list.lines().filter_map(|line| line.split_once('='));
    names.map(|(name, _)| name.trim().replace('-', "_")).collect()
}

#[test]
fn examples_use_only_crates_that_the_readme_lists() {
    let (crates, listed) = (all_crates(), listed_crates());
    assert!(crates.contains("bytes") && listed.contains("gsb_client"), "{listed:?}");
    let readme = read("README.md");
    let mut places = vec![("README.md".to_owned(), code(readme.lines()).join("\n"))];
    for path in sources("crates/client/src") {
        let source = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        places.push((name, code(comments(&source)).join("\n")));
    }
    assert!(places.iter().filter(|(_, code)| !code.is_empty()).count() > 8, "no code was found");
    for (file, code) in places {
        for name in named(&code, &crates) {
            let is_known = listed.contains(name) || ALSO.contains(&(file.as_str(), name.as_str()));
            assert!(is_known, "{file} uses {name}, which the README does not list");
        }
    }
}

/// The texts that may document a constant of this number of seconds.
fn spellings(seconds: &str) -> [String; 2] {
    [format!("{seconds} s"), format!("{seconds} seconds")]
}

// The pages of rustdoc show no value for a constant that is not a literal.
#[test]
fn durations_are_documented_with_their_value() {
    let mut count = 0;
    for path in sources("crates") {
        let source = fs::read_to_string(&path).unwrap();
        let mut documented = String::new();
        for line in source.lines() {
            if let Some(text) = line.strip_prefix("///") {
                documented.push_str(text);
            } else if let Some(constant) = line.strip_prefix("pub const ") {
                if let Some((_, seconds)) = constant.split_once("Duration::from_secs(") {
                    let seconds = seconds.trim_end_matches(");");
                    let is_said = spellings(seconds).iter().any(|it| documented.contains(it));
                    // A value that is computed is described.
                    let is_computed = seconds.contains(' ');
                    assert!(is_said || is_computed, "{}: {constant}", path.display());
                    count += 1;
                }
                documented.clear();
            } else {
                documented.clear();
            }
        }
    }
    assert!(count >= 5, "only {count} constants were found");
}

#[test]
fn the_pages_have_the_items_of_all_features_and_say_which_feature_each_needs() {
    let manifest = read("crates/client/Cargo.toml");
    let (_, docs) = manifest.split_once("[package.metadata.docs.rs]\n").unwrap();
    assert!(docs.starts_with("all-features = true\nrustdoc-args = [\"--cfg\", \"docsrs\"]\n"));
    assert!(read("crates/client/src/lib.rs").contains("#![cfg_attr(docsrs, feature(doc_cfg))]"));
    let readme = read("README.md");
    let mut commands = readme.split('`').filter(|code| code.starts_with("cargo doc ")).peekable();
    assert!(commands.peek().is_some());
    for command in commands {
        assert!(command.contains("--all-features"), "{command}");
    }
}
