//! The servers that are measured.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gsb_interop::witness::locked_version;
use gsb_load::harness::{self, Socket};
use gsb_load::{ResourceUse, descriptors};
use gsb_proto::Address;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::dialect::Dialect;

/// Which program is the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The program `router` of this project.
    Ours,
    /// `ya-sb-router`.
    Ya,
    /// `nats-server`.
    Nats,
}

/// A server that can be started, with its default options.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which program it is.
    pub kind: Kind,
    /// Its name, its version and its kind of socket, for the head of the table.
    pub title: String,
    program: PathBuf,
    socket: Socket,
}

/// A running server. Dropping this kills it.
#[derive(Debug)]
pub struct Server {
    /// Its protocol.
    pub dialect: Dialect,
    process: harness::Server,
}

impl Target {
    /// Finds the program, and builds it first if it belongs to this repository. GSB routers use a Unix socket, or TCP
    /// if `tcp` is set.
    ///
    /// # Errors
    /// The program cannot be built, or is not installed.
    pub fn find(kind: Kind, tcp: bool) -> io::Result<Target> {
        let interop = Path::new(env!("CARGO_MANIFEST_DIR"));
        let build = |workspace: &Path, name, options: &[&str]| {
            eprintln!("building {name}");
            harness::build(workspace, &workspace.join("target"), name, options)
        };
        let (program, name) = match kind {
            Kind::Ours => {
                let root = interop.parent().unwrap_or(interop);
                let program = build(root, "router", &["--features", "bin"])?;
                let name = format!("our {}", harness::version(&program));
                (program, name)
            }
            Kind::Ya => {
                let name = format!("ya-sb-router {}", locked_version("ya-sb-router", "0."));
                (build(interop, "ya-router", &[])?, name)
            }
            Kind::Nats => {
                let program = harness::find_installed("nats-server").ok_or_else(|| {
                    io::Error::other("nats-server is not installed (Debian: nats-server)")
                })?;
                let name = harness::version(&program);
                (program, name)
            }
        };
        let (socket, socket_name) =
            if tcp || kind == Kind::Nats { (Socket::Tcp, "TCP") } else { (Socket::Unix, "Unix") };
        Ok(Target { kind, title: format!("{name}, {socket_name}"), program, socket })
    }

    /// Starts it, and waits until it accepts connections. Blocks for some 100 ms.
    ///
    /// # Errors
    /// As [`harness::Server::start`].
    pub fn start(&self) -> io::Result<Server> {
        let dialect = match self.kind {
            Kind::Ours | Kind::Ya => Dialect::Gsb,
            Kind::Nats => Dialect::Nats,
        };
        let listen = |command: &mut std::process::Command, address: &Address| {
            if let (Kind::Nats, Address::Tcp { host, port }) = (self.kind, address) {
                command.args(["--addr", host, "--port", &port.to_string()]);
            } else {
                command.env("GSB_URL", address.to_string());
            }
        };
        Ok(Server { dialect, process: harness::Server::start(&self.program, self.socket, listen)? })
    }
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.process.address
    }

    /// The peak of its memory in bytes.
    pub fn peak_memory(&self) -> io::Result<u64> {
        Ok(self.resources()?.peak_memory)
    }

    /// Its memory now, in bytes.
    pub fn memory(&self) -> io::Result<u64> {
        Ok(self.resources()?.memory)
    }

    /// The number of its open descriptors.
    pub fn descriptors(&self) -> io::Result<u64> {
        descriptors(self.process.pid()).map_err(|_| has_ended())
    }

    /// Waits until it has at most `count` descriptors or `limit` is over; returns how many it has then.
    pub async fn wait_for_descriptors(&self, count: u64, limit: Duration) -> io::Result<u64> {
        let start = Instant::now();
        loop {
            let now = self.descriptors()?;
            if now <= count || start.elapsed() >= limit {
                return Ok(now);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn resources(&self) -> io::Result<ResourceUse> {
        ResourceUse::of(self.process.pid()).map_err(|_| has_ended())
    }
}

fn has_ended() -> io::Error {
    io::Error::other("the server has ended by itself")
}
