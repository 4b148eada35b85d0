//! A service in its own process, which a case kills, so that the system closes the connection and not the program.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use gsb_interop::commands::commands;
use gsb_proto::Address;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::dialect::Dialect;
use crate::message::{Incoming, Outgoing};
use crate::peer::Peer;
use crate::server::Server;
use crate::timeout::within;

/// How long the registration may take.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a case waits for the next call before it stops counting.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The process: it registers a name, receives calls, and answers none.
#[derive(Debug, Args)]
pub struct Victim {
    #[arg(long)]
    dialect: Dialect,
    #[arg(long)]
    url: Address,
    #[arg(long)]
    name: String,
    #[arg(long)]
    hello: bool,
}

/// The handle of the process. Dropping this kills it.
#[derive(Debug)]
pub struct VictimProcess {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    /// Prints `registered`, and `called` for each call. Ends when its standard input ends, so that it never outlives
    /// the case.
    pub async fn run(self) -> io::Result<()> {
        let serve = async {
            let mut peer = match self.hello {
                true => Peer::connect_to(&self.url, self.dialect).await?,
                false => Peer::silent(&self.url, self.dialect).await?,
            };
            peer.request(Outgoing::Register { name: &self.name }).await?;
            println!("registered");
            loop {
                if let Incoming::Call { .. } = peer.reader.receive().await? {
                    println!("called");
                }
            }
        };
        let mut commands = commands();
        tokio::select! {
            ended = serve => ended,
            _ = commands.recv() => Ok(()),
        }
    }
}

impl VictimProcess {
    /// Starts the process, and waits until its name is registered. With `hello` it sends a Hello before.
    pub async fn start(server: &Server, name: &str, hello: bool) -> io::Result<VictimProcess> {
        let dialect = match server.dialect {
            Dialect::Gsb => "gsb",
            Dialect::Nats => "nats",
        };
        let mut child = Command::new(std::env::current_exe()?)
            .args(["victim", "--dialect", dialect, "--name", name])
            .args(["--url", &server.address().to_string()])
            .args(hello.then_some("--hello"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("it has no output"))?;
        let mut victim = VictimProcess { child, output: BufReader::new(output).lines() };
        match within("a registration", START_TIMEOUT, victim.output.next_line()).await?? {
            Some(line) if line == "registered" => Ok(victim),
            _ => Err(io::Error::other("the service cannot register")),
        }
    }

    /// Waits until it has received `calls` calls, or no more come; returns how many it has received.
    pub async fn receives(&mut self, calls: u64) -> io::Result<u64> {
        let mut received = 0;
        while received < calls {
            match timeout(CALL_TIMEOUT, self.output.next_line()).await {
                Ok(Ok(Some(_))) => received += 1,
                Ok(Ok(None)) => return Err(io::Error::other("the service has ended by itself")),
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        Ok(received)
    }

    /// Kills the process (SIGKILL), and waits for its end.
    pub async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }
}
