//! The lines that say which real peers took part in a run.

/// Says that a peer took part. `interop/run` gathers these lines; a test writes one when it has passed.
pub fn took_part(peer: &str, version: &str, roles: &str, with: &str) {
    println!("peer: {peer} {version} ({roles}) <-> {with}");
}

/// The version of `package` that is linked, where there is only one beginning with `series`.
///
/// # Panics
/// When there is none, or more than one.
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
