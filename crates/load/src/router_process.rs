//! Finds the process that listens at an address.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use gsb_proto::Address;
use procfs::net::TcpState;
use procfs::process::FDTarget;

use crate::failure::Failure;
use crate::resources::ResourceUse;
use crate::threads::runtime;

/// The id of the process that listens at an address. `None` if the system does not reveal it: the process runs on
/// another host, in another process namespace, or, on TCP, as another user.
///
/// Makes one connection to the address.
///
/// # Errors
/// [`Failure::Connect`] if that connection cannot be made.
pub fn router_process(address: &Address) -> Result<Option<u32>, Failure> {
    let failed = |error| Failure::connect(address, error);
    let pid = match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).map_err(failed)?;
            listener_of_unix(stream)
        }
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).map_err(failed)?;
            listener_of_tcp(&stream)
        }
    };
    // A process that cannot be inspected cannot be measured.
    Ok(pid.filter(|pid| ResourceUse::of(*pid).is_ok()))
}

/// The process that called listen(2), from the credentials of the peer (unix(7), SO_PEERCRED).
fn listener_of_unix(stream: UnixStream) -> Option<u32> {
    stream.set_nonblocking(true).ok()?;
    let runtime = runtime().ok()?;
    let _entered = runtime.enter();
    let credentials = tokio::net::UnixStream::from_std(stream).ok()?.peer_cred().ok()?;
    // 0 means a process of another namespace.
    credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0)
}

/// The process on this host that listens at the peer address of the stream.
fn listener_of_tcp(stream: &TcpStream) -> Option<u32> {
    let (peer, own) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    let is_on_this_host = peer.ip().to_canonical().is_loopback() || peer.ip() == own.ip();
    if !is_on_this_host {
        return None;
    }
    let sockets = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
    let inodes: Vec<u64> = sockets
        .filter(|socket| listens_at(peer, socket.local_address, &socket.state))
        .map(|socket| socket.inode)
        .collect();
    let mut owners = procfs::process::all_processes().ok()?.flatten().filter(|process| {
        // Only root may inspect the processes of other users.
        let descriptors = process.fd().into_iter().flatten().flatten();
        descriptors.into_iter().any(|descriptor| match descriptor.target {
            FDTarget::Socket(inode) => inodes.contains(&inode),
            _ => false,
        })
    });
    let owner = owners.next()?;
    // Several processes that share the port share its connections, too.
    owners.next().is_none().then(|| u32::try_from(owner.pid).ok())?
}

/// Whether a socket listens at `peer`, on that address or on all addresses.
fn listens_at(peer: SocketAddr, socket: SocketAddr, state: &TcpState) -> bool {
    let ip = socket.ip().to_canonical();
    let is_there = ip.is_unspecified() || ip == peer.ip().to_canonical();
    *state == TcpState::Listen && socket.port() == peer.port() && is_there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_at_the_address_match() {
        let at = |address: &str| address.parse::<SocketAddr>().expect("a socket address");
        let peer = at("127.0.0.1:7464");
        for socket in ["127.0.0.1:7464", "0.0.0.0:7464", "[::]:7464", "[::ffff:127.0.0.1]:7464"] {
            assert!(listens_at(peer, at(socket), &TcpState::Listen), "{socket}");
        }
        for socket in ["127.0.0.1:7465", "127.0.0.2:7464", "[::1]:7464"] {
            assert!(!listens_at(peer, at(socket), &TcpState::Listen), "{socket}");
        }
        // Accepted connections have the same local port.
        assert!(!listens_at(peer, peer, &TcpState::Established));
    }
}
