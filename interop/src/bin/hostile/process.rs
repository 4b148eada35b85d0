//! The servers: starting one in a process of its own, measuring it from outside, stopping it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use gsb_interop::witness::locked_version;
use gsb_proto::Address;
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::peer::{Dialect, Socket, within};

/// How long a server may take until it accepts its first connection.
const START: Duration = Duration::from_secs(10);

/// Which program plays the router.
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

/// A program that can be started, always with its default options.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which one it is.
    pub kind: Kind,
    /// Its name, its version and its kind of socket, for the table's head.
    pub title: String,
    program: PathBuf,
    tcp: bool,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// What its peers speak.
    pub dialect: Dialect,
    /// Where it listens.
    pub address: Address,
    child: Child,
    id: u32,
    _directory: TempDir,
}

impl Target {
    /// Finds the program, and builds it first if it is one of this repository. `tcp` puts GSB routers on
    /// TCP instead of their usual Unix socket.
    pub async fn find(kind: Kind, tcp: bool) -> io::Result<Target> {
        let interop = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (program, title) = match kind {
            Kind::Ours => {
                let root = interop.parent().unwrap_or(interop);
                let program = build(root, "router", &["--features", "bin"]).await?;
                let version = first_line(&program, "--version").await?;
                (program, format!("our {version}"))
            }
            Kind::Ya => {
                let program = build(interop, "ya-router", &[]).await?;
                (program, format!("ya-sb-router {}", locked_version("ya-sb-router", "0.")))
            }
            Kind::Nats => {
                let program = installed("nats-server").ok_or_else(|| {
                    io::Error::other("nats-server is not installed (Debian: nats-server)")
                })?;
                let version = first_line(&program, "--version").await?;
                (program, version.replace(": v", " "))
            }
        };
        let tcp = tcp || kind == Kind::Nats;
        let title = format!("{title}, {}", if tcp { "TCP" } else { "Unix" });
        Ok(Target { kind, title, program, tcp })
    }

    /// What its peers speak.
    fn dialect(&self) -> Dialect {
        match self.kind {
            Kind::Ours | Kind::Ya => Dialect::Gsb,
            Kind::Nats => Dialect::Nats,
        }
    }

    /// Starts it, and waits until it accepts connections.
    pub async fn start(&self) -> io::Result<Server> {
        let directory = tempfile::tempdir()?;
        let address = if self.tcp {
            Address::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port: free_port()? }
        } else {
            Address::Unix(directory.path().join("bus.sock"))
        };
        let mut command = Command::new(&self.program);
        let inherited = std::env::vars().map(|(name, _)| name);
        for name in inherited.filter(|name| name.starts_with("GSB_") || name == "RUST_LOG") {
            command.env_remove(name);
        }
        match (&address, self.kind) {
            (Address::Tcp { host, port }, Kind::Nats) => {
                command.args(["--addr", host, "--port", &port.to_string()]);
            }
            _ => {
                command.env("GSB_URL", address.to_string());
            }
        }
        let child = command
            .current_dir(directory.path())
            // The program of ya ends with its standard input.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().ok_or_else(|| io::Error::other("the server ended at once"))?;
        let server = Server { dialect: self.dialect(), address, child, id, _directory: directory };
        let accepts = async {
            while Socket::connect(&server.address).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        within("the server's first connection", START, accepts).await?;
        // By then it has noticed that this connection is gone.
        sleep(Duration::from_millis(50)).await;
        Ok(server)
    }
}

impl Server {
    /// The most memory it has had, in bytes.
    pub fn peak(&self) -> io::Result<u64> {
        self.status("VmHWM:")
    }

    /// The memory it has now, in bytes.
    pub fn resident(&self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> io::Result<u64> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.id))?;
        u64::try_from(entries.count()).map_err(io::Error::other)
    }

    /// Waits until it has at most `count` descriptors or `limit` is over; how many it has then.
    pub async fn descriptors_fall_to(&self, count: u64, limit: Duration) -> io::Result<u64> {
        let start = Instant::now();
        loop {
            let now = self.descriptors()?;
            if now <= count || start.elapsed() >= limit {
                return Ok(now);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills it and waits until it is gone.
    pub async fn stop(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    fn status(&self, field: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok());
        // What has ended has no memory.
        kibibytes
            .map(|count: u64| count << 10)
            .ok_or_else(|| io::Error::other("the server has ended by itself"))
    }
}

/// Raises the limit of open files as far as this process may; what it is then.
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    limit.unwrap_or(u64::MAX)
}

/// Built each time, since figures of a program that is older than its source mislead.
async fn build(workspace: &Path, name: &str, options: &[&str]) -> io::Result<PathBuf> {
    eprintln!("building {name}");
    let target = workspace.join("target");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What `cargo run` says about this program would make build scripts run again.
    let inherited = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in inherited
        .filter(|name| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_"))
    {
        cargo.env_remove(name);
    }
    let status = cargo
        .args(["build", "--quiet", "--release", "--bin", name])
        .args(options)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(workspace)
        .kill_on_drop(true)
        .status()
        .await?;
    if !status.success() {
        return Err(io::Error::other(format!("{name} cannot be built")));
    }
    Ok(target.join("release").join(name))
}

async fn first_line(program: &Path, option: &str) -> io::Result<String> {
    let output = Command::new(program).arg(option).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
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

fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(listener.local_addr()?.port())
}
