//! Child processes, and the program `router` as one.

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use gsb_proto::Address;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::router::RouterPlace;
use crate::timeout::{TIMEOUT, within};
use crate::usage::{Usage, mebibytes};

/// A child process whose output is read line by line. Dropping this kills it.
#[derive(Debug)]
pub struct Spawned {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Spawned {
    /// Starts a program.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("its output");
        Spawned { child, lines: BufReader::new(stdout).lines() }
    }

    /// Waits for a line that contains `text`, and returns the line.
    pub async fn line_with(&mut self, text: &str) -> String {
        let search = async {
            while let Some(line) = self.lines.next_line().await.expect("its output") {
                if line.contains(text) {
                    return line;
                }
            }
            panic!("the program ended before it printed a line with {text:?}");
        };
        within("a line of output", search).await
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it is running")
    }

    /// Kills it with SIGKILL.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Sends it a signal, named as for `kill -s`.
    pub async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().await;
        assert!(status.expect("kill runs").success());
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> ExitStatus {
        within("the end of the program", self.child.wait()).await.expect("its status")
    }
}

/// The program `router` as a child process.
#[derive(Debug)]
pub struct RouterProcess {
    /// The process.
    pub process: Spawned,
    /// The addresses that it listens on, as printed.
    pub addresses: Vec<Address>,
    /// The directory of its socket, if the router is isolated.
    _place: Option<RouterPlace>,
}

impl RouterProcess {
    /// Starts the program with these arguments on its own Unix socket and on a free TCP port, in this order, and waits
    /// until it listens. It logs errors only.
    pub async fn isolated<S: AsRef<OsStr>>(
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let place = RouterPlace::empty();
        let mut command = Command::new(program);
        command.args(["-l", &place.unix.to_string(), "-l", "127.0.0.1:0", "--log-level", "error"]);
        command.args(arguments);
        let router = Self::start_command(&mut command, &[]).await;
        RouterProcess { _place: Some(place), ..router }
    }

    /// Its Unix socket, if it is [isolated](RouterProcess::isolated).
    pub fn unix(&self) -> &Address {
        &self.addresses[0]
    }

    /// Its TCP port, if it is [isolated](RouterProcess::isolated).
    pub fn tcp(&self) -> &Address {
        &self.addresses[1]
    }

    /// What it uses now.
    pub fn usage(&self) -> Usage {
        Usage::of(self.process.id())
    }

    /// Checks that its memory never exceeded the [limit](Usage::peak_limit) for a router that started with `start` and
    /// whose limits allow it to hold `bytes` more.
    #[track_caller]
    pub fn assert_memory_within(&self, start: Usage, bytes: u64) {
        let (usage, most) = (self.usage(), start.peak_limit(bytes));
        println!("{usage}; the limit is {} for {}", mebibytes(most), mebibytes(bytes));
        assert!(usage.peak <= most, "{usage}; the limit is {}", mebibytes(most));
    }

    /// Waits until its descriptors are as few as in `start`, and its memory is at most `bytes` more: nothing is left of
    /// the connections since then.
    pub async fn wait_for_usage(&self, start: Usage, bytes: u64) {
        let returned = async {
            loop {
                let usage = self.usage();
                if usage.descriptors <= start.descriptors
                    && usage.resident <= start.resident + bytes
                {
                    return usage;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let Ok(usage) = tokio::time::timeout(TIMEOUT, returned).await else {
            let usage = self.usage();
            panic!("started with {start}; after all connections ended: {usage}");
        };
        println!("started with {start}; after all connections ended: {usage}");
    }

    /// Sends SIGTERM, and waits for its end. With a `--drain-timeout` longer than [`TIMEOUT`] this checks that no call
    /// is open.
    pub async fn stop(mut self) {
        self.process.signal("TERM").await;
        assert_eq!(self.process.wait().await.code(), Some(0));
    }

    /// Starts the program with these arguments and environment variables, and waits until it listens. Variables of this
    /// process that begin with `GSB_` are not passed on.
    pub async fn start<S: AsRef<OsStr>>(
        program: &str,
        arguments: impl IntoIterator<Item = S>,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start_command(&mut command, variables).await
    }

    /// [`RouterProcess::start`] with a command that runs the program in the end.
    pub async fn start_command(command: &mut Command, variables: &[(&str, &str)]) -> Self {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GSB_")) {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        let mut process = Spawned::start(command);
        let line = process.line_with("listening on").await;
        let (_, addresses) = line.split_once("listening on ").expect("addresses");
        let addresses =
            addresses.split(", ").map(|address| address.parse().expect("an address")).collect();
        RouterProcess { process, addresses, _place: None }
    }
}
