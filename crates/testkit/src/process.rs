//! Programs in processes of their own.

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use gsb_proto::Address;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::{RouterPlace, TIMEOUT, Usage, mebibytes, within};

/// A child process, killed when dropped, whose output is read line by line.
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

    /// Waits for a line that contains `text`.
    pub async fn line_with(&mut self, text: &str) -> String {
        let search = async {
            while let Some(line) = self.lines.next_line().await.expect("its output") {
                if line.contains(text) {
                    return line;
                }
            }
            panic!("the program ended without a line with {text:?}");
        };
        within("a line of output", search).await
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it is running")
    }

    /// Ends it with SIGKILL.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Sends it a signal by the name that `kill` knows.
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

/// The program `router` in a process of its own.
#[derive(Debug)]
pub struct RouterProcess {
    /// The process.
    pub process: Spawned,
    /// Where it says that it listens.
    pub addresses: Vec<Address>,
    /// Kept as long as the process, if it is this router's own.
    _place: Option<RouterPlace>,
}

impl RouterProcess {
    /// Starts the program with these arguments on a Unix socket of its own and on a free TCP port, in this
    /// order, and waits until it listens. It logs errors only.
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

    /// Its Unix socket, for one [isolated](RouterProcess::isolated).
    pub fn unix(&self) -> &Address {
        &self.addresses[0]
    }

    /// Its TCP port, for one [isolated](RouterProcess::isolated).
    pub fn tcp(&self) -> &Address {
        &self.addresses[1]
    }

    /// What it uses now.
    pub fn usage(&self) -> Usage {
        Usage::of(self.process.id())
    }

    /// It never had more memory than one that started like this may have with so many bytes allowed: see
    /// [`Usage::peak_limit`].
    #[track_caller]
    pub fn assert_memory_within(&self, start: Usage, bytes: u64) {
        let (usage, most) = (self.usage(), start.peak_limit(bytes));
        println!("{usage}; allowed were {} for {}", mebibytes(most), mebibytes(bytes));
        assert!(usage.peak <= most, "{usage}, and not more than {} were allowed", mebibytes(most));
    }

    /// Waits until it has no more descriptors than at the start, and so much more memory at most: whoever was
    /// connected is gone, and with him what was kept for him.
    pub async fn wait_for_usage(&self, start: Usage, bytes: u64) {
        let is_back = async {
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
        let Ok(usage) = tokio::time::timeout(TIMEOUT, is_back).await else {
            let usage = self.usage();
            panic!("started with {start}; when all are gone: {usage}");
        };
        println!("started with {start}; when all are gone: {usage}");
    }

    /// Tells it to stop, and waits for its end. With a `--drain-timeout` longer than [`TIMEOUT`] this shows
    /// that no call is open any more.
    pub async fn stop(mut self) {
        self.process.signal("TERM").await;
        assert_eq!(self.process.wait().await.code(), Some(0));
    }

    /// Starts the program with these arguments and waits until it listens. Variables of this process
    /// that begin with `GSB_` are not passed on; `variables` are.
    pub async fn start<S: AsRef<OsStr>>(
        program: &str,
        arguments: impl IntoIterator<Item = S>,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start_command(&mut command, variables).await
    }

    /// [`RouterProcess::start`] with a command that ends up running the program.
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
