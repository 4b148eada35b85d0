//! Connects to a router.
//!
//! Connecting to a Unix socket waits while the socket's queue is full, and refuses the default socket of a user if
//! another user serves it.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use gsb_proto::Address;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::process::getuid;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::TcpStream;

use crate::descriptors::refuse_descriptors;
use crate::private_directory::{self, Untrusted};
use crate::stream::{StdStream, Stream};

/// Time between attempts to connect to a Unix socket whose queue is full.
const RETRY_TIME: Duration = Duration::from_millis(10);

impl Stream {
    /// Connects to a router.
    ///
    /// # Errors
    /// Those of name resolution and of the socket. `PermissionDenied` if another user serves a default socket; the
    /// message says who.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Stream::from_std(connect_unix(address, path).await?),
        }
    }
}

impl StdStream {
    /// Connects to a router as [`Stream::connect`] does, but blocks the thread.
    ///
    /// # Errors
    /// As for [`Stream::connect`].
    pub fn connect(address: &Address) -> io::Result<StdStream> {
        match address {
            Address::Tcp { host, port } => {
                StdStream::tcp(std::net::TcpStream::connect((host.as_str(), *port))?)
            }
            Address::Unix(path) => try_connect_unix(address, path, false),
        }
    }
}

/// Connects, and tries again while the socket's queue is full. A TCP socket would wait by itself.
async fn connect_unix(address: &Address, path: &Path) -> io::Result<StdStream> {
    loop {
        match try_connect_unix(address, path, true) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(RETRY_TIME).await;
            }
            result => return result,
        }
    }
}

/// Connects. While the socket's queue is full, it blocks, or fails with `WouldBlock` if `is_nonblocking`.
fn try_connect_unix(address: &Address, path: &Path, is_nonblocking: bool) -> io::Result<StdStream> {
    let is_default = address.is_user_default();
    if is_default {
        private_directory::check(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(is_nonblocking)?;
    // Before the socket is connected, so that no descriptor arrives earlier.
    let refuses_descriptors = refuse_descriptors(&socket);
    socket.connect(&SockAddr::unix(path)?)?;
    if is_default {
        check_peer(&socket)?;
    }
    StdStream::unix(UnixStream::from(socket), refuses_descriptors)
}

/// Checks that this user or root serves the default socket. Another user may have created it to read the calls of this
/// user's programs.
fn check_peer(socket: &Socket) -> io::Result<()> {
    let peer = peer_uid(socket)?;
    let user = getuid().as_raw();
    if peer == user || peer == 0 {
        return Ok(());
    }
    Err(Untrusted::error(format!(
        "the socket is served by user id {peer}, not by this user (id {user}) or root; to use a router of another \
         user, set GSB_URL to its address"
    )))
}

/// The user id of the process that listens at the other end.
///
/// It does not use rustix, which fails if that process is in another PID namespace, such as on the host of a container:
/// its process id is 0 then.
fn peer_uid(socket: &Socket) -> io::Result<u32> {
    Ok(getsockopt(socket, PeerCredentials)?.uid())
}
