//! A service in a process of its own, which a case kills: what a server does then is seen only where the
//! system, and not the program, closes the connection.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use gsb_interop::commands::commands;
use gsb_proto::Address;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::peer::{Dialect, Heard, Peer, Say, within};
use crate::process::Server;

/// How long it may take to register.
const START: Duration = Duration::from_secs(15);

/// When no call has come for so long, the rest does not come.
const SILENCE: Duration = Duration::from_secs(2);

/// What the process does: it registers a name, hears calls, and answers none.
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

/// The process as the case sees it. Killed when dropped.
#[derive(Debug)]
pub struct VictimProcess {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    /// Says `registered`, and then `heard` for each call. Ends with its standard input, so
    /// that it does not outlive the case in any event.
    pub async fn run(self) -> io::Result<()> {
        let serve = async {
            let mut peer = match self.hello {
                true => Peer::connect_to(&self.url, self.dialect).await?,
                false => Peer::silent(&self.url, self.dialect).await?,
            };
            peer.ask(Say::Serve { name: &self.name }).await?;
            println!("registered");
            loop {
                if let Heard::Call { .. } = peer.reader.hear().await? {
                    println!("heard");
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
    /// Starts it, and waits until it is registered. Without `hello` it does not introduce itself.
    pub async fn start(server: &Server, name: &str, hello: bool) -> io::Result<VictimProcess> {
        let dialect = match server.dialect {
            Dialect::Gsb => "gsb",
            Dialect::Nats => "nats",
        };
        let mut child = Command::new(std::env::current_exe()?)
            .args(["victim", "--dialect", dialect, "--name", name])
            .args(["--url", &server.address.to_string()])
            .args(hello.then_some("--hello"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("it has no output"))?;
        let mut victim = VictimProcess { child, output: BufReader::new(output).lines() };
        match within("a registration", START, victim.output.next_line()).await?? {
            Some(line) if line == "registered" => Ok(victim),
            _ => Err(io::Error::other("the service cannot register")),
        }
    }

    /// Waits until it has heard so many calls, or no more come; how many it has heard.
    pub async fn hears(&mut self, calls: u64) -> io::Result<u64> {
        let mut heard = 0;
        while heard < calls {
            match timeout(SILENCE, self.output.next_line()).await {
                Ok(Ok(Some(_))) => heard += 1,
                Ok(Ok(None)) => return Err(io::Error::other("the service has ended by itself")),
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        Ok(heard)
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }
}
