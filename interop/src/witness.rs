//! The lines that name the real peers of a test run.

/// Prints that a peer took part. A test prints this line at its end, and `interop/run` collects the lines.
pub fn took_part(peer: &str, version: &str, roles: &str, with: &str) {
    println!("peer: {peer} {version} ({roles}) <-> {with}");
}

/// The linked version of `package` that begins with `series`.
///
/// # Panics
/// There is no such version, or more than one.
pub fn locked_version(package: &str, series: &str) -> &'static str {
    let name = format!("name = \"{package}\"");
    let mut lines = include_str!("../Cargo.lock").lines();
    let mut found = Vec::new();
    while lines.by_ref().any(|line| line == name) {
        let version =
            lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
        found.extend(version.filter(|version| version.starts_with(series)));
    }
    match found[..] {
        [version] => version,
        _ => panic!("Cargo.lock has {found:?} for {package} {series}"),
    }
}
