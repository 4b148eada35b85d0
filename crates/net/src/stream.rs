//! A socket of either kind.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{IpAddr, Shutdown};
use std::ops::Deref as _;

use bytes::{BufMut as _, BytesMut};
use gsb_proto::Address;
use socket2::SockRef;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

use crate::connect;
use crate::descriptors::FilteredSocket;
#[cfg(feature = "memory")]
use crate::memory::MemoryStream;

/// A connected TCP or Unix socket. All its operations take `&self`, from any thread.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, with small segments sent at once.
    Tcp(TcpStream),
    /// On this host.
    Unix(UnixStream),
    /// On this host, on a kernel that cannot refuse file descriptors.
    FilteredUnix(FilteredSocket<UnixStream>),
    /// Inside this process, without a socket.
    #[cfg(feature = "memory")]
    Memory(MemoryStream),
}

/// A [`Stream`] between two runtimes: not registered with any.
#[derive(Debug)]
pub enum StdStream {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// On this host.
    Unix(std::os::unix::net::UnixStream),
    /// On this host, on a kernel that cannot refuse file descriptors.
    FilteredUnix(FilteredSocket<std::os::unix::net::UnixStream>),
    /// Inside this process; belongs to no runtime anyway.
    #[cfg(feature = "memory")]
    Memory(MemoryStream),
}

impl StdStream {
    /// Connects to a bus like [`Stream::connect`], and blocks meanwhile.
    ///
    /// # Errors
    /// As those of [`Stream::connect`].
    pub fn connect(address: &Address) -> io::Result<StdStream> {
        match address {
            Address::Tcp { host, port } => {
                StdStream::tcp(std::net::TcpStream::connect((host.as_str(), *port))?)
            }
            Address::Unix(path) => connect::unix_blocking(address, path),
        }
    }

    /// Takes over a connected TCP socket.
    ///
    /// # Errors
    /// The socket is not connected any more.
    pub fn tcp(stream: std::net::TcpStream) -> io::Result<StdStream> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(StdStream::Tcp(stream))
    }

    /// Takes over a connected Unix socket; `refuses_descriptors` is what
    /// [`refuse_descriptors`](crate::refuse_descriptors) has returned for it, or for the socket that accepted it.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub fn unix(
        stream: std::os::unix::net::UnixStream,
        refuses_descriptors: bool,
    ) -> io::Result<StdStream> {
        stream.set_nonblocking(true)?;
        Ok(match refuses_descriptors {
            true => StdStream::Unix(stream),
            false => StdStream::FilteredUnix(FilteredSocket::new(stream)),
        })
    }
}

impl Stream {
    /// Connects to a bus. Waits while the queue of a Unix socket is full, and refuses a default socket that
    /// another user serves.
    ///
    /// # Errors
    /// Those of the socket, of name resolution for a host that is not an IP address. `PermissionDenied` says
    /// whose the socket is.
    pub async fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Stream::from_std(connect::unix(address, path).await?),
        }
    }

    /// Joins the current runtime.
    ///
    /// # Errors
    /// The runtime's event queue takes no more sockets.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn from_std(stream: StdStream) -> io::Result<Stream> {
        match stream {
            StdStream::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            StdStream::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
            StdStream::FilteredUnix(filtered) => {
                let stream = UnixStream::from_std(filtered.socket().try_clone()?)?;
                Ok(Stream::FilteredUnix(FilteredSocket::new(stream)))
            }
            #[cfg(feature = "memory")]
            StdStream::Memory(stream) => Ok(Stream::Memory(stream)),
        }
    }

    /// Whether others than this process may read it.
    pub(crate) fn is_socket(&self) -> bool {
        #[cfg(feature = "memory")]
        if let Stream::Memory(_) = self {
            return false;
        }
        true
    }

    /// Ends both directions at once, whoever else still holds the stream.
    pub(crate) fn shut_down(&self) {
        // Fails only where the peer has ended it before.
        let _ = match self {
            Stream::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
            Stream::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
            Stream::FilteredUnix(filtered) => {
                SockRef::from(filtered.socket()).shutdown(Shutdown::Both)
            }
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => {
                stream.shut_down();
                Ok(())
            }
        };
    }

    /// Ends the direction to the peer, behind what was written.
    pub(crate) fn shut_down_writing(&self) {
        // Fails only where the peer has ended it before.
        let _ = match self {
            Stream::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Stream::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Stream::FilteredUnix(filtered) => {
                SockRef::from(filtered.socket()).shutdown(Shutdown::Write)
            }
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => {
                stream.shut_down_writing();
                Ok(())
            }
        };
    }

    /// The peer's IP address, on TCP.
    pub fn peer_ip(&self) -> Option<IpAddr> {
        match self {
            Stream::Tcp(stream) => stream.peer_addr().ok().map(|peer| peer.ip().to_canonical()),
            Stream::Unix(_) | Stream::FilteredUnix(_) => None,
            #[cfg(feature = "memory")]
            Stream::Memory(_) => None,
        }
    }

    /// The peer's user id, on Unix sockets and inside the process.
    pub fn peer_uid(&self) -> Option<u32> {
        let credentials = match self {
            Stream::Tcp(_) => return None,
            Stream::Unix(stream) => stream.peer_cred(),
            Stream::FilteredUnix(filtered) => filtered.socket().peer_cred(),
            #[cfg(feature = "memory")]
            Stream::Memory(_) => return Some(MemoryStream::UID),
        };
        credentials.ok().map(|credentials| credentials.uid())
    }

    /// Waits until the socket is ready for some of `interest`. May be dropped at any time.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Stream::Tcp(stream) => stream.ready(interest).await,
            Stream::Unix(stream) => stream.ready(interest).await,
            Stream::FilteredUnix(filtered) => filtered.socket().ready(interest).await,
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => stream.ready(interest).await,
        }
    }

    /// Reads what is there into the spare room of `buffer`, up to `most` bytes: how many came, 0 at the end of
    /// the stream.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there; those of the socket.
    pub fn try_read(&self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        let room = most.min(buffer.capacity() - buffer.len());
        match self {
            Stream::Tcp(stream) => all_there_is(
                room,
                |read| stream.try_io(Interest::READABLE, read),
                || stream.try_read_buf(&mut buffer.limit(most)),
            ),
            Stream::Unix(stream) => all_there_is(
                room,
                |read| stream.try_io(Interest::READABLE, read),
                || stream.try_read_buf(&mut buffer.limit(most)),
            ),
            Stream::FilteredUnix(filtered) => all_there_is(
                room,
                |read| filtered.socket().try_io(Interest::READABLE, read),
                || filtered.read(buffer, room),
            ),
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => stream.try_read(buffer, most),
        }
    }

    /// [`try_read`](Stream::try_read) that asks the socket itself, and not what the runtime has last heard
    /// of it.
    pub(crate) fn read_now(&self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        let socket = match self {
            Stream::Tcp(stream) => SockRef::from(stream),
            Stream::Unix(stream) => SockRef::from(stream),
            Stream::FilteredUnix(filtered) => return filtered.read(buffer, most),
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => return stream.try_read(buffer, most),
        };
        let held = buffer.len();
        buffer.resize(held + most, 0);
        let read = socket.deref().read(&mut buffer[held..]);
        buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        read
    }

    /// [`try_write`](Stream::try_write) that asks the socket itself, and not what the runtime has last heard of
    /// it.
    pub(crate) fn write_now(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => SockRef::from(stream).deref().write_vectored(pieces),
            Stream::Unix(stream) => SockRef::from(stream).deref().write_vectored(pieces),
            Stream::FilteredUnix(filtered) => {
                SockRef::from(filtered.socket()).deref().write_vectored(pieces)
            }
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => stream.try_write_vectored(pieces),
        }
    }

    /// Writes as much as the socket takes at once: how many bytes.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing now; those of the socket.
    pub fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write_vectored(pieces),
            Stream::Unix(stream) => stream.try_write_vectored(pieces),
            Stream::FilteredUnix(filtered) => filtered.socket().try_write_vectored(pieces),
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => stream.try_write_vectored(pieces),
        }
    }
}

/// Reads, and lets the runtime know if that was all there is: a read that was offered more room than it needed
/// has emptied the socket. Otherwise the next read would have to find that out, by a system call.
///
/// Urgent data ends a read early. The bus sends none; a peer that does is read on when more comes.
fn all_there_is(
    room: usize,
    watch: impl FnOnce(&mut dyn FnMut() -> io::Result<()>) -> io::Result<()>,
    read: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let (mut read, mut result) = (Some(read), Ok(0));
    let watched = watch(&mut || {
        if let Some(read) = read.take() {
            result = read();
        }
        match result {
            Ok(length) if 0 < length && length < room => Err(io::ErrorKind::WouldBlock.into()),
            // A read past the runtime, as of a filtered socket, has not told it.
            Err(ref error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            _ => Ok(()),
        }
    });
    // Not called if the socket is not known to have anything.
    if read.is_some() { watched.map(|()| 0) } else { result }
}
