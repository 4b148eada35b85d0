//! A peer program in its own process.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::within;
use crate::witness::took_part;

/// A running peer program. It reads commands and prints lines. Dropping this kills it.
#[derive(Debug)]
pub struct Peer {
    /// The name of the library it is built on, as the program prints it.
    pub name: String,
    /// The version of that library, as the program prints it.
    pub version: String,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Peer {
    /// Starts `program` and waits until it is ready. `url` becomes its `GSB_URL`.
    pub async fn start(program: &str, arguments: &[&str], url: &str) -> Peer {
        let mut child = Command::new(program)
            .args(arguments)
            .env("GSB_URL", url)
            .env_remove("GSB_PING_TIMEOUT")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        let input = child.stdin.take().expect("standard input was asked for");
        let output = child.stdout.take().expect("standard output was asked for");
        let mut peer = Peer {
            name: program.to_owned(),
            version: String::new(),
            child,
            input,
            output: BufReader::new(output).lines(),
            seen: Vec::new(),
        };
        let line = peer.line().await;
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["ready", name, version] => {
                peer.name = name.to_owned();
                peer.version = version.to_owned();
            }
            _ => panic!("{program} begins with {line:?}"),
        }
        peer
    }

    /// Sends a command, and does not wait for its result.
    pub async fn tell(&mut self, command: &str) {
        let line = format!("{command}\n");
        let written = within("room for a command", self.input.write_all(line.as_bytes())).await;
        written.unwrap_or_else(|error| panic!("{} takes no command: {error}", self.name));
    }

    /// The next line.
    pub async fn line(&mut self) -> String {
        let awaited = format!("a line of {} after {:?}", self.name, self.seen);
        match within(&awaited, self.output.next_line()).await {
            Ok(Some(line)) => {
                self.seen.push(line.clone());
                line
            }
            other => panic!("instead of {awaited} came {other:?}"),
        }
    }

    /// Sends a command and returns the next line.
    pub async fn ask(&mut self, command: &str) -> String {
        self.tell(command).await;
        self.line().await
    }

    /// Waits for exactly these lines, in this order.
    pub async fn expect(&mut self, lines: &[&str]) {
        for expected in lines {
            assert_eq!(self.line().await, *expected, "{}: {:?}", self.name, self.seen);
        }
    }

    /// Waits for exactly these lines, in any order: the answers to commands and other events are not ordered.
    pub async fn expect_in_any_order(&mut self, lines: &[&str]) {
        let mut expected = lines.to_vec();
        let mut received = Vec::new();
        for _ in lines {
            received.push(self.line().await);
        }
        expected.sort_unstable();
        received.sort_unstable();
        assert_eq!(received, expected, "{}", self.name);
    }

    /// Sends a command and waits for exactly these lines.
    pub async fn run(&mut self, command: &str, lines: &[&str]) {
        self.tell(command).await;
        self.expect(lines).await;
    }

    /// Kills the process (SIGKILL), and waits for its end.
    pub async fn kill(mut self) {
        let killed = within("the end of a killed process", self.child.kill()).await;
        killed.unwrap_or_else(|error| panic!("{} cannot be killed: {error}", self.name));
    }

    /// Prints that this peer took part in a test.
    pub fn took_part(&self, roles: &str, with: &str) {
        took_part(&self.name, &self.version, roles, with);
    }
}
