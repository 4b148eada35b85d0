//! The programs that are measured: where they are, and how they are started.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use gsb_proto::Address;

use crate::rows::Contender;

/// The version of `ya-sb-router` that is measured.
pub(crate) const YA_VERSION: &str = "0.6.4";

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    router: PathBuf,
    relay: PathBuf,
    ya: PathBuf,
    nats: Option<PathBuf>,
}

impl Programs {
    /// Finds them, and builds what is ours. What is of others is installed where it is not yet, but for
    /// `nats-server`, which may be missing.
    pub(crate) fn find() -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let target = own.parent().and_then(Path::parent);
        let target = target.ok_or_else(|| io::Error::other("this program lies in no directory"))?;
        build(target, &["--bin", "router", "--features", "bin"])?;
        build(target, &["--package", "gsb-benches", "--bin", "relay"])?;
        Ok(Programs {
            router: target.join("release/router"),
            relay: target.join("release/relay"),
            ya: install_ya(&target.join("peers"))?,
            nats: installed("nats-server"),
        })
    }

    /// Whether there is such a program.
    pub(crate) fn has(&self, contender: Contender) -> bool {
        contender != Contender::Nats || self.nats.is_some()
    }

    /// What starts it at an address, with its default options.
    pub(crate) fn start(&self, contender: Contender, address: &Address) -> io::Result<Command> {
        let listen = address.to_string();
        let mut command;
        match contender {
            Contender::Ours(workers) => {
                command = Command::new(&self.router);
                command.args(["--listen", &listen, "--workers", &workers.to_string()]);
            }
            Contender::Ya => {
                command = Command::new(&self.ya);
                command.args(["-l", &listen]);
            }
            Contender::Nats => {
                let Address::Tcp { host, port } = address else {
                    return Err(io::Error::other("nats-server listens on TCP only"));
                };
                command = Command::new(self.nats.as_deref().unwrap_or(Path::new("nats-server")));
                command.args(["--addr", host, "--port", &port.to_string()]);
            }
            Contender::Relay => {
                command = Command::new(&self.relay);
                command.arg(&listen);
            }
        }
        // Options that come from the environment are not the default ones.
        let inherited = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in inherited.filter(|name| {
            name.starts_with("GSB_") || name.starts_with("YA_SB_") || name == "RUST_LOG"
        }) {
            command.env_remove(name);
        }
        Ok(command)
    }

    /// Their versions, and that of the compiler.
    pub(crate) fn versions(&self) -> Vec<String> {
        let mut versions = vec![
            first_line(&self.router),
            format!("ya-sb-router {YA_VERSION}"),
            self.nats.as_deref().map_or("no nats-server".to_owned(), first_line),
            first_line(Path::new("rustc")),
        ];
        versions.retain(|version| !version.is_empty());
        versions
    }
}

/// Built each time, since figures of a program that is older than its source mislead.
fn build(target: &Path, what: &[&str]) -> io::Result<()> {
    let mut cargo = cargo("build");
    cargo.args(["--quiet", "--release"]).args(what).arg("--target-dir").arg(target);
    // Of the whole workspace: the router is not of this package.
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    succeed(&mut cargo, "what is measured cannot be built")
}

fn install_ya(root: &Path) -> io::Result<PathBuf> {
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

/// What `cargo run` says about this program would make build scripts run again.
fn cargo(what: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let inherited = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in inherited
        .filter(|name| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_"))
    {
        cargo.env_remove(name);
    }
    cargo.arg(what);
    cargo
}

fn succeed(command: &mut Command, otherwise: &str) -> io::Result<()> {
    match command.status()?.success() {
        true => Ok(()),
        false => Err(io::Error::other(otherwise)),
    }
}

/// Debian puts servers where the path of a user who is not root does not lead.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// Its version, or nothing.
fn first_line(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or_default().replace(": v", " ")
}
