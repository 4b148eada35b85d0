//! The programs that are measured: where they are, and how they are started.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use gsb_proto::Address;

use crate::contender::{Contender, OURS, YA_VERSION};
use crate::install;

/// Where the programs are. A contender whose program is missing is not measured.
#[derive(Debug)]
pub(crate) struct Programs(BTreeMap<Contender, PathBuf>);

impl Programs {
    /// Our router and all that it is compared with. Builds ours, and installs what is missing of others where that can
    /// be done; a `nats-server` may be missing.
    pub(crate) fn of_all() -> io::Result<Self> {
        let target = target_directory()?;
        let router = build_router(&target)?;
        install::build(&target, &["--package", "gsb-benches", "--bin", "relay"])?;
        let mut programs: BTreeMap<_, _> = OURS.map(|ours| (ours, router.clone())).into();
        programs.insert(Contender::Relay, target.join("release/relay"));
        let peers = target.join("peers");
        programs.insert(Contender::Ya, install::ya(&peers)?);
        match install::on_this_host("nats-server") {
            Some(nats) => {
                programs.insert(Contender::InstalledNats, nats);
            }
            None => eprintln!(
                "{} is not installed and is left out (Debian: nats-server)",
                Contender::InstalledNats
            ),
        }
        match install::nats(&peers) {
            Ok(nats) => {
                programs.insert(Contender::PinnedNats, nats);
            }
            Err(error) => eprintln!("{} is left out: {error}", Contender::PinnedNats),
        }
        Ok(Programs(programs))
    }

    /// Our router, which is built, and another build of it.
    pub(crate) fn of_builds(baseline: &Path) -> io::Result<Self> {
        // Servers start in a directory of their own.
        let baseline = std::path::absolute(baseline)?;
        if !baseline.is_file() {
            let problem = format!(
                "there is no program {}; --baseline takes the path of a router that was built before",
                baseline.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, problem));
        }
        if first_line(&baseline).is_empty() {
            let problem =
                format!("`{} --version` prints nothing; is it a router?", baseline.display());
            return Err(io::Error::other(problem));
        }
        let router = build_router(&target_directory()?)?;
        Ok(Programs([(Contender::Ours(1), router), (Contender::Baseline, baseline)].into()))
    }

    /// Whether there is such a program.
    pub(crate) fn has(&self, contender: Contender) -> bool {
        self.0.contains_key(&contender)
    }

    /// Where a program is, if there is one.
    pub(crate) fn path(&self, contender: Contender) -> Option<&Path> {
        self.0.get(&contender).map(PathBuf::as_path)
    }

    /// What starts it at an address, with its default options but for the number of workers.
    pub(crate) fn start(&self, contender: Contender, address: &Address) -> io::Result<Command> {
        let program =
            self.path(contender).ok_or_else(|| io::Error::other("there is no such program"))?;
        let mut command = Command::new(program);
        let listen = address.to_string();
        match contender {
            Contender::Ours(workers) => {
                command.args(["--listen", &listen, "--workers", &workers.to_string()]);
            }
            Contender::Baseline => {
                command.args(["--listen", &listen, "--workers", "1"]);
            }
            Contender::Ya => {
                command.args(["-l", &listen]);
            }
            Contender::InstalledNats | Contender::PinnedNats => {
                let Address::Tcp { host, port } = address else {
                    return Err(io::Error::other("nats-server listens on TCP only"));
                };
                command.args(["--addr", host, "--port", &port.to_string()]);
            }
            Contender::Relay => {
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

    /// The version that a program prints; empty if the program is missing or prints nothing.
    pub(crate) fn version(&self, contender: Contender) -> String {
        match contender {
            // It has no option for that.
            Contender::Ya => format!("ya-sb-router {YA_VERSION}"),
            // Neither has this.
            Contender::Relay => String::new(),
            contender => self.path(contender).map(first_line).unwrap_or_default(),
        }
    }

    /// The versions of all programs, and that of the compiler.
    pub(crate) fn versions(&self) -> Vec<String> {
        let mut versions: Vec<String> =
            self.0.keys().map(|contender| self.version(*contender)).collect();
        versions.push(first_line(Path::new("rustc")));
        versions.retain(|version| !version.is_empty());
        // Our router stands there once for each number of workers.
        versions.dedup();
        versions
    }
}

/// The commit that our router is built of, and whether its source was changed since.
pub(crate) fn revision() -> String {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"]);
    let output = git.output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|| "an unknown commit".to_owned())
}

fn build_router(target: &Path) -> io::Result<PathBuf> {
    install::build(target, &["--bin", "router", "--features", "bin"])?;
    Ok(target.join("release/router"))
}

/// Where this program was built.
fn target_directory() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).map(Path::to_owned);
    target.ok_or_else(|| io::Error::other("this program lies in no directory"))
}

/// The first line that a program prints about its version, or nothing.
fn first_line(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or_default().replace(": v", " ")
}
