//! Sockets that listen.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gsb_net::Stream;
#[cfg(feature = "memory")]
use gsb_net::memory::MemoryListener;
use gsb_proto::Address;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::error::BindError;
use crate::lock_file::{LockFile, is_same};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A listening socket of either kind.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, Box<SocketFile>),
    #[cfg(feature = "memory")]
    Memory(MemoryListener),
}

/// The file of a Unix socket. Removed when dropped, if it is still the one that was made.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    made: Metadata,
    /// Kept until the socket's file is gone.
    _lock: LockFile,
}

impl Listener {
    /// Listens on `address`; `unix_mode` are the permissions of a Unix socket's file.
    pub(crate) async fn bind(address: &Address, unix_mode: u32) -> Result<Listener, BindError> {
        match address {
            Address::Tcp { host, port } => TcpListener::bind((host.as_str(), *port))
                .await
                .map(Listener::Tcp)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::AddrInUse => BindError::InUse(address.clone()),
                    _ => io_error(address, error),
                }),
            Address::Unix(path) => bind_unix(address, path, unix_mode),
        }
    }

    /// Where the socket listens in fact: with the port that was chosen for port 0.
    pub(crate) fn local_address(&self) -> io::Result<Address> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let local = listener.local_addr()?;
                Address::Tcp { host: local.ip().to_string(), port: local.port() }
            }
            Listener::Unix(_, file) => Address::Unix(file.path.clone()),
            #[cfg(feature = "memory")]
            Listener::Memory(_) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        })
    }

    /// Waits for the next connection.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => Stream::tcp(listener.accept().await?.0),
            Listener::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
            #[cfg(feature = "memory")]
            Listener::Memory(listener) => Ok(Stream::Memory(listener.accept().await)),
        }
    }
}

fn io_error(address: &Address, error: io::Error) -> BindError {
    BindError::Io { address: address.clone(), error }
}

/// Nobody can connect before the file has its permissions: until `listen`, connecting is refused. The
/// lock keeps two routers that start at the same time from taking each other's socket for a stale one.
fn bind_unix(address: &Address, path: &Path, mode: u32) -> Result<Listener, BindError> {
    let io_error = |error| io_error(address, error);
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let Some(lock) = LockFile::try_acquire(&lock_path).map_err(io_error)? else {
        return Err(BindError::Locked { address: address.clone(), lock: lock_path });
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) if is_live(path).map_err(io_error)? => {
            return Err(BindError::InUse(address.clone()));
        }
        Ok(_) => fs::remove_file(path).map_err(io_error)?,
    }
    let listen = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file =
            SocketFile { path: path.to_owned(), made: fs::symlink_metadata(path)?, _lock: lock };
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Listener::Unix(listener, Box::new(file)))
    };
    listen().map_err(io_error)
}

/// Whether somebody listens on a Unix socket. One with a full queue is alive too.
fn is_live(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Ok(true),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
            _ => Err(error),
        },
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|now| is_same(&now, &self.made));
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}
