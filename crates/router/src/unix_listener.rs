//! A listening Unix socket and its file.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use gsb_net::{StdStream, private_directory, refuse_descriptors};
use gsb_proto::Address;
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::UnixListener;

use crate::error::BindError;
use crate::lock_file::{LockFile, is_same};

/// The longest queue of connections that wait to be accepted. The kernel lowers it to what the system allows
/// (`net.core.somaxconn`).
pub(crate) const BACKLOG: i32 = i32::MAX;

/// A Unix socket that listens at a path, with its file and a lock file beside it.
///
/// [`close`](SocketListener::close) removes both files. Dropping it leaves them, as a killed router does; the next
/// router at this path replaces them.
#[derive(Debug)]
pub(crate) struct SocketListener {
    socket: ListeningSocket,
    file: SocketFile,
    address: Address,
    /// Permissions of the file.
    mode: u32,
    /// Held until the socket file is removed.
    lock: LockFile,
}

/// A listening socket without its file.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    listener: UnixListener,
    refuses_descriptors: bool,
}

/// The file of a Unix socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Tells this file from another one at the same path.
    created: Metadata,
}

/// The state of a socket file.
#[derive(Debug)]
pub(crate) enum FileState {
    /// The file is in its place.
    InPlace,
    /// The file was removed, and a new socket listens at the path. Connections may wait at the old socket, which
    /// accepts no more of them.
    Restored(ListeningSocket),
    /// The file was removed or replaced, and no new one can be created. The text says why.
    Lost(String),
}

impl ListeningSocket {
    /// Waits for the next connection. Cancel safe.
    async fn accept(&self) -> io::Result<StdStream> {
        StdStream::unix(self.listener.accept().await?.0.into_std()?, self.refuses_descriptors)
    }

    /// The next connection if one is waiting; otherwise `WouldBlock`.
    pub(crate) fn accept_now(&self) -> io::Result<StdStream> {
        let accepted = accept_with(&self.listener, SocketFlags::CLOEXEC)?;
        StdStream::unix(accepted.into(), self.refuses_descriptors)
    }
}

impl SocketListener {
    /// Listens at `path`. Replaces the files of a router that has exited. The lock keeps two routers that start at
    /// the same time from taking each other's socket for a stale one.
    pub(crate) fn bind(address: &Address, path: &Path, mode: u32) -> Result<Self, BindError> {
        let io_error = |error| BindError::Io { address: address.clone(), error };
        if address.is_user_default() {
            private_directory::create(path).map_err(io_error)?;
        }
        let lock_path = lock_path(path);
        let lock = LockFile::try_acquire(&lock_path)
            .map_err(|error| io_error(named("lock the file", &lock_path, &error)))?;
        let Some(lock) = lock else {
            return Err(BindError::Locked { address: address.clone(), lock: lock_path });
        };
        let listening =
            remove_stale_socket(address, path).and_then(|()| listen(path, mode).map_err(io_error));
        match listening {
            Ok((socket, file)) => {
                Ok(SocketListener { socket, file, address: address.clone(), mode, lock })
            }
            Err(error) => {
                lock.remove();
                Err(error)
            }
        }
    }

    /// Stops listening, and removes the socket file and then the lock file.
    pub(crate) fn close(self) {
        let SocketListener { socket, file, lock, .. } = self;
        drop(socket);
        file.remove();
        lock.remove();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    pub(crate) async fn accept(&self) -> io::Result<StdStream> {
        self.socket.accept().await
    }

    pub(crate) fn accept_now(&self) -> io::Result<StdStream> {
        self.socket.accept_now()
    }

    /// Looks whether the socket file is in its place, and creates a new one if it was removed. A file that another
    /// program has put there stays.
    pub(crate) fn restore_file(&mut self) -> FileState {
        match fs::symlink_metadata(self.path()) {
            Ok(there) if is_same(&there, &self.file.created) => FileState::InPlace,
            Ok(there) => FileState::Lost(format!(
                "another file is in its place, which belongs to user id {}; remove it",
                there.uid()
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.listen_again() {
                Ok(old) => FileState::Restored(old),
                Err(error) => {
                    FileState::Lost(format!("it was removed, and cannot be created again: {error}"))
                }
            },
            Err(error) => FileState::Lost(error.to_string()),
        }
    }

    /// Listens at the path with a new socket; returns the old one.
    fn listen_again(&mut self) -> io::Result<ListeningSocket> {
        let path = self.path().to_owned();
        if self.address.is_user_default() {
            private_directory::create(&path)?;
        }
        if !self.lock.is_in_place()? {
            let lock_path = lock_path(&path);
            self.lock = LockFile::try_acquire(&lock_path)?.ok_or_else(|| {
                io::Error::other(format!("another router holds the lock {}", lock_path.display()))
            })?;
        }
        let (socket, file) = listen(&path, self.mode)?;
        self.file = file;
        let old = std::mem::replace(&mut self.socket, socket);
        // Peers that have opened the removed file could go on connecting, and accepting from the old socket would not
        // end. Linux can refuse them; on other systems they are accepted.
        let _ = SockRef::from(&old.listener).shutdown(Shutdown::Read);
        Ok(old)
    }
}

/// Whether two paths name the same file, which need not exist.
pub(crate) fn is_same_path(a: &Path, b: &Path) -> bool {
    let resolved =
        |path: &Path| Some((fs::canonicalize(path.parent()?).ok()?, path.file_name()?.to_owned()));
    a == b || matches!((resolved(a), resolved(b)), (Some(a), Some(b)) if a == b)
}

fn lock_path(path: &Path) -> PathBuf {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    PathBuf::from(lock_path)
}

/// Removes the socket file of a router that has exited.
fn remove_stale_socket(address: &Address, path: &Path) -> Result<(), BindError> {
    let io_error = |error| BindError::Io { address: address.clone(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    let is_live =
        is_live(path).map_err(|error| io_error(named("connect to the socket", path, &error)))?;
    if is_live {
        return Err(BindError::InUse(address.clone()));
    }
    fs::remove_file(path).map_err(|error| io_error(named("remove the old socket", path, &error)))
}

/// Listens at a path without a file. Peers cannot connect before the file has its permissions: the kernel refuses
/// connections until `listen`.
fn listen(path: &Path, mode: u32) -> io::Result<(ListeningSocket, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let refuses_descriptors = refuse_descriptors(&socket);
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), created: fs::symlink_metadata(path)? };
    let listening = fs::set_permissions(path, Permissions::from_mode(mode))
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|()| socket.set_nonblocking(true))
        .and_then(|()| UnixListener::from_std(socket.into()));
    match listening {
        Ok(listener) => Ok((ListeningSocket { listener, refuses_descriptors }, file)),
        Err(error) => {
            file.remove();
            Err(error)
        }
    }
}

/// Adds to an error what failed, the path, and the owner of the file.
fn named(verb: &str, path: &Path, error: &io::Error) -> io::Error {
    let owner = match fs::symlink_metadata(path) {
        Ok(file) => format!(", which belongs to user id {}", file.uid()),
        Err(_) => String::new(),
    };
    io::Error::new(error.kind(), format!("cannot {verb} {}{owner}: {error}", path.display()))
}

/// Whether a program listens on a Unix socket. A full queue of connections is a sign of life, too.
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

impl SocketFile {
    /// Removes the file, unless it was removed or replaced.
    fn remove(&self) {
        let is_own = fs::symlink_metadata(&self.path).is_ok_and(|now| is_same(&now, &self.created));
        if is_own && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the socket file {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::os::unix::net::UnixStream;

    use rustix::fs::OFlags;

    use super::*;

    #[tokio::test]
    async fn a_socket_whose_file_was_removed_refuses_new_connections() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut listener =
            SocketListener::bind(&Address::Unix(path.clone()), &path, 0o600).unwrap();
        let flags = OFlags::PATH.bits().cast_signed();
        let file: File = File::options().read(true).custom_flags(flags).open(&path).unwrap();
        let by_file = format!("/proc/self/fd/{}", file.as_raw_fd());
        let _waiting = UnixStream::connect(&by_file).unwrap();
        fs::remove_file(&path).unwrap();
        let FileState::Restored(old) = listener.restore_file() else { panic!("not restored") };
        let late = UnixStream::connect(&by_file).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
        old.accept_now().unwrap();
        assert!(old.accept_now().is_err());
        UnixStream::connect(&path).unwrap();
        listener.accept_now().unwrap();
    }
}
