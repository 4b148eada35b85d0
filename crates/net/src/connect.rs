//! Connecting to a Unix socket: with patience where many do so, and only to a router that may be trusted.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use gsb_proto::Address;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::process::getuid;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::descriptors::refuse_descriptors;
use crate::private_directory::{self, Untrusted};
use crate::stream::StdStream;

/// Time between attempts to connect to a socket whose queue is full.
const RETRY_TIME: Duration = Duration::from_millis(10);

/// Connects, and tries again for as long as the queue of the socket is full. A TCP socket would wait by itself.
pub(crate) async fn unix(address: &Address, path: &Path) -> io::Result<StdStream> {
    loop {
        match attempt(address, path, true) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(RETRY_TIME).await;
            }
            result => return result,
        }
    }
}

/// Connects, and blocks while the queue of the socket is full.
pub(crate) fn unix_blocking(address: &Address, path: &Path) -> io::Result<StdStream> {
    attempt(address, path, false)
}

fn attempt(address: &Address, path: &Path, is_nonblocking: bool) -> io::Result<StdStream> {
    let is_default = address.is_user_default();
    if is_default {
        private_directory::check(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(is_nonblocking)?;
    // Before it is connected, so that nothing arrives earlier.
    let refuses_descriptors = refuse_descriptors(&socket);
    socket.connect(&SockAddr::unix(path)?)?;
    if is_default {
        check_peer(&socket)?;
    }
    StdStream::unix(UnixStream::from(socket), refuses_descriptors)
}

/// The default socket is served by this user or by root. Any other user could have made it to read the calls of
/// this user's programs.
fn check_peer(socket: &Socket) -> io::Result<()> {
    let peer = user_at_the_other_end(socket)?;
    let user = getuid().as_raw();
    if peer == user || peer == 0 {
        return Ok(());
    }
    Err(Untrusted::error(format!(
        "user id {peer} serves it, not this user (id {user}) or root; to use a router of another user, set \
         GSB_URL to its address"
    )))
}

/// The user id of the process that listens at the other end.
///
/// rustix fails where that process is in another PID namespace, such as that of the host of a container: its process
/// id is 0 then.
fn user_at_the_other_end(socket: &Socket) -> io::Result<u32> {
    Ok(getsockopt(socket, PeerCredentials)?.uid())
}
