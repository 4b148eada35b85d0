//! Programs: building them, finding installed ones, and their versions.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The prefixes of environment variables that set options of the measured servers.
const SERVER_VARIABLES: [&str; 3] = ["GSB_", "YA_SB_", "RUST_LOG"];

/// The prefixes of the variables that `cargo run` sets. They would make build scripts run again.
const CARGO_VARIABLES: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// Builds the optimized program `name` of a workspace into its directory `target`, and returns the program's path.
/// `options` are passed to `cargo build`.
///
/// It is built each time, because figures of a program that is older than its source are misleading.
///
/// # Errors
/// The build failed.
pub fn build(workspace: &Path, target: &Path, name: &str, options: &[&str]) -> io::Result<PathBuf> {
    let mut cargo = cargo("build");
    cargo.args(["--quiet", "--release", "--bin", name]).args(options);
    cargo.arg("--target-dir").arg(target).current_dir(workspace);
    run(&mut cargo, &format!("`cargo build --release --bin {name}` failed"))?;
    Ok(target.join("release").join(name))
}

/// A cargo command without the variables that `cargo run` set for this process.
pub fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    remove_variables(&mut cargo, &CARGO_VARIABLES);
    cargo.arg(command);
    cargo
}

/// Runs a command to its end.
///
/// # Errors
/// `problem`, if the command cannot be run or fails.
pub fn run(command: &mut Command, problem: &str) -> io::Result<()> {
    let status = command
        .status()
        .map_err(|error| io::Error::new(error.kind(), format!("{problem} ({error})")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(problem)) }
}

/// The path of an installed program. Beside `PATH` it searches the directories of Debian's servers, which are not in
/// the `PATH` of an ordinary user.
pub fn find_installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let server_directories = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(server_directories)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// The first line that a program prints with `--version`, as in `router 0.1.0`; empty if there is none.
pub fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    // `nats-server` prints `nats-server: v2.9.10`.
    text.unwrap_or_default().lines().next().unwrap_or_default().replace(": v", " ")
}

/// Removes variables that would change the default options of a server.
pub(crate) fn remove_server_variables(command: &mut Command) {
    remove_variables(command, &SERVER_VARIABLES);
}

fn remove_variables(command: &mut Command, prefixes: &[&str]) {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))) {
        command.env_remove(name);
    }
}
