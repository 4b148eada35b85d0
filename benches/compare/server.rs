//! A server in a process of its own.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use gsb_proto::Address;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::contender::{Contender, Socket};
use crate::programs::Programs;

/// How long it may take until it accepts its first connection.
const START: Duration = Duration::from_secs(10);

/// A running server. Killed, and waited for, when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: Address,
    child: Child,
    /// Where it runs.
    _directory: TempDir,
}

impl Server {
    /// Starts one, and waits until it accepts connections.
    pub(crate) fn start(
        programs: &Programs,
        contender: Contender,
        socket: Socket,
    ) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let address = if contender.is_nats() || socket == Socket::Tcp {
            Address::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port: free_port()? }
        } else {
            Address::Unix(directory.path().join("bus.sock"))
        };
        let child = programs
            .start(contender, &address)?
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut server = Server { address, child, _directory: directory };
        server.wait_until_it_accepts()?;
        if contender == Contender::Relay {
            // It connects each two, and the first of the load is to be the first of two.
            server.connect()?;
        }
        // By then it has noticed that these connections are gone.
        thread::sleep(Duration::from_millis(50));
        Ok(server)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Does something with it that would wait for ever if it lost something: it is killed when that takes longer
    /// than `limit`, which everybody notices who waits for it. `None` if that happened.
    pub(crate) fn within<R>(&self, limit: Duration, work: impl FnOnce() -> R) -> Option<R> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let (done, is_done) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let is_late = is_done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
                if is_late && let Some(pid) = pid {
                    // It may have ended by itself.
                    let _ = kill_process(pid, Signal::KILL);
                }
                is_late
            });
            let result = work();
            drop(done);
            watch.join().is_ok_and(|is_late| !is_late).then_some(result)
        })
    }

    fn wait_until_it_accepts(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        while let Err(error) = self.connect() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it has ended at once, with {status}")));
            }
            if begin.elapsed() > START {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<()> {
        match &self.address {
            Address::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).map(drop),
            Address::Unix(path) => UnixStream::connect(path).map(drop),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
