//! Listening sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gsb_net::StdStream;
#[cfg(feature = "memory")]
use gsb_net::memory::MemoryListener;
use gsb_proto::Address;
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, lookup_host};

use crate::error::BindError;
use crate::unix_listener::{BACKLOG, SocketListener, is_same_path};

/// A listening socket of any kind.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(Box<SocketListener>),
    #[cfg(feature = "memory")]
    Memory(MemoryListener),
}

impl Listener {
    /// Listens on `address`; `unix_mode` are the permissions of a Unix socket's file.
    pub(crate) async fn bind(address: &Address, unix_mode: u32) -> Result<Listener, BindError> {
        match address {
            Address::Tcp { host, port } => {
                bind_tcp(host, *port).await.map(Listener::Tcp).map_err(|error| match error.kind() {
                    io::ErrorKind::AddrInUse => BindError::InUse(address.clone()),
                    _ => BindError::Io { address: address.clone(), error },
                })
            }
            Address::Unix(path) => SocketListener::bind(address, path, unix_mode)
                .map(|listener| Listener::Unix(Box::new(listener))),
        }
    }

    /// The address of the socket, with the port that the system chose for port 0.
    pub(crate) fn local_address(&self) -> io::Result<Address> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let local = listener.local_addr()?;
                Address::Tcp { host: local.ip().to_string(), port: local.port() }
            }
            Listener::Unix(listener) => Address::Unix(listener.path().to_owned()),
            #[cfg(feature = "memory")]
            Listener::Memory(_) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        })
    }

    /// Stops listening, and removes the file of a Unix socket.
    pub(crate) fn close(self) {
        if let Listener::Unix(listener) = self {
            listener.close();
        }
    }

    /// Whether no other listener can listen at `address` because of this one. The address may be spelled differently.
    pub(crate) async fn conflicts_with(&self, address: &Address) -> bool {
        match (self, address) {
            (Listener::Tcp(listener), Address::Tcp { host, port }) => {
                let (Ok(local), Ok(mut addresses)) =
                    (listener.local_addr(), lookup_host((host.as_str(), *port)).await)
                else {
                    return false;
                };
                let overlap =
                    |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
                addresses
                    .any(|other| other.port() == local.port() && overlap(other.ip(), local.ip()))
            }
            (Listener::Unix(listener), Address::Unix(path)) => is_same_path(listener.path(), path),
            _ => false,
        }
    }

    /// Whether the socket has a file, which other programs may remove.
    pub(crate) fn has_file(&self) -> bool {
        matches!(self, Listener::Unix(_))
    }

    /// Waits for the next connection. Cancel safe.
    pub(crate) async fn accept(&self) -> io::Result<StdStream> {
        match self {
            Listener::Tcp(listener) => StdStream::tcp(listener.accept().await?.0.into_std()?),
            Listener::Unix(listener) => listener.accept().await,
            #[cfg(feature = "memory")]
            Listener::Memory(listener) => Ok(StdStream::Memory(listener.accept().await)),
        }
    }

    /// The next connection if one is waiting; otherwise `WouldBlock`.
    pub(crate) fn accept_now(&self) -> io::Result<StdStream> {
        match self {
            Listener::Tcp(listener) => {
                StdStream::tcp(accept_with(listener, SocketFlags::CLOEXEC)?.into())
            }
            Listener::Unix(listener) => listener.accept_now(),
            #[cfg(feature = "memory")]
            Listener::Memory(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Listens on the first address of `host` that the system accepts. `[::]` is for IPv6 and IPv4, or for IPv4 alone
/// where the system has no IPv6.
async fn bind_tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut result =
        Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address"));
    for address in lookup_host((host, port)).await? {
        result = match listen_tcp(address) {
            Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_no_ipv6(&error) => {
                listen_tcp((Ipv4Addr::UNSPECIFIED, port).into())
            }
            result => result,
        };
        if result.is_ok() {
            break;
        }
    }
    TcpListener::from_std(result?)
}

fn listen_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Overrides `net.ipv6.bindv6only`.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether the error means that the system has no IPv6, or has it disabled.
fn is_no_ipv6(error: &io::Error) -> bool {
    let no_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(no_family)
}
