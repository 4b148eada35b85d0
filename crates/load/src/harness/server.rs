//! A server in its own process.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use gsb_proto::Address;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::program::remove_server_variables;

/// How long a server may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server is given to notice the end of the connection that found it ready.
const SETTLE_TIME: Duration = Duration::from_millis(50);

/// The kind of socket that a server listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// A Unix socket in the server's own directory.
    Unix,
    /// A free TCP port of 127.0.0.1.
    Tcp,
}

/// A running server. Dropping this kills the process and waits for its end.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    child: Child,
    /// Its working directory.
    _directory: TempDir,
}

impl Server {
    /// Starts a program without the environment variables that set its options, and waits until it accepts connections.
    /// `configure` adds what makes it listen at an address.
    ///
    /// # Errors
    /// It cannot be started, ends at once, or accepts no connection within 10 seconds.
    pub fn start(
        program: &Path,
        socket: Socket,
        configure: impl FnOnce(&mut Command, &Address),
    ) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let address = match socket {
            Socket::Tcp => {
                Address::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port: free_port()? }
            }
            Socket::Unix => Address::Unix(directory.path().join("bus.sock")),
        };
        let mut command = Command::new(program);
        remove_server_variables(&mut command);
        configure(&mut command, &address);
        let child = command
            .current_dir(directory.path())
            // Stays open: a server may end with its standard input.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut server = Server { address, child, _directory: directory };
        server.wait_until_ready()?;
        thread::sleep(SETTLE_TIME);
        Ok(server)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes a connection and closes it.
    ///
    /// # Errors
    /// The server does not accept it.
    pub fn connect(&self) -> io::Result<()> {
        match &self.address {
            Address::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).map(drop),
            Address::Unix(path) => UnixStream::connect(path).map(drop),
        }
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        while let Err(error) = self.connect() {
            if let Some(status) = self.child.try_wait()? {
                let problem = format!("the server ended at once, with {status}");
                return Err(io::Error::other(problem));
            }
            if begin.elapsed() > START_TIMEOUT {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `work`, which waits for the process `pid`, and kills that process after `limit`: then its connections end, and
/// `work` with them. Returns `None` in that case.
pub fn within<R>(pid: u32, limit: Duration, work: impl FnOnce() -> R) -> Option<R> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let is_late = is_done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if is_late && let Some(pid) = pid {
                // Fails if it has already ended.
                let _ = kill_process(pid, Signal::KILL);
            }
            is_late
        });
        let result = work();
        drop(done);
        watch.join().is_ok_and(|is_late| !is_late).then_some(result)
    })
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_at_once_is_an_error() {
        let error = Server::start(Path::new("false"), Socket::Unix, |_, _| {}).expect_err("ended");
        assert!(error.to_string().starts_with("the server ended at once"), "{error}");
    }

    #[test]
    fn a_process_that_hangs_is_killed() {
        let mut hanging = Command::new("sleep").arg("60").spawn().expect("sleep");
        let pid = hanging.id();
        let ended = within(pid, Duration::from_millis(1), || hanging.wait());
        assert!(ended.is_none());
        let mut ending = Command::new("true").spawn().expect("true");
        let pid = ending.id();
        assert!(within(pid, Duration::from_secs(60), || ending.wait()).is_some());
    }
}
