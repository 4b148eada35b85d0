//! Programs in processes of their own.

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};

use gsb_proto::Address;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::soon;

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
        soon("a line of output", search).await
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
        soon("the end of the program", self.child.wait()).await.expect("its status")
    }
}

/// The program `router` in a process of its own.
#[derive(Debug)]
pub struct RouterProcess {
    /// The process.
    pub process: Spawned,
    /// Where it says that it listens.
    pub addresses: Vec<Address>,
}

impl RouterProcess {
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
        RouterProcess { process, addresses }
    }
}
