//! A connected socket of any transport.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{IpAddr, Shutdown};
use std::ops::Deref as _;

use bytes::{BufMut as _, BytesMut};
use socket2::SockRef;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

use crate::descriptors::FilteredSocket;
#[cfg(feature = "memory")]
use crate::memory::MemoryStream;

/// A connected socket, registered with a runtime. Any thread may use it: all operations take `&self`.
#[derive(Debug)]
pub enum Stream {
    /// A TCP socket with TCP_NODELAY.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// A Unix socket on a kernel that cannot refuse file descriptors.
    FilteredUnix(FilteredSocket<UnixStream>),
    /// A simulated connection inside this process.
    #[cfg(feature = "memory")]
    Memory(MemoryStream),
}

/// A connected socket that is not registered with a runtime. [`Stream::from_std`] registers it.
#[derive(Debug)]
pub enum StdStream {
    /// A TCP socket with TCP_NODELAY.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
    /// A Unix socket on a kernel that cannot refuse file descriptors.
    FilteredUnix(FilteredSocket<std::os::unix::net::UnixStream>),
    /// A simulated connection inside this process.
    #[cfg(feature = "memory")]
    Memory(MemoryStream),
}

impl StdStream {
    /// Wraps a connected TCP socket; sets TCP_NODELAY and makes it non-blocking.
    ///
    /// # Errors
    /// The socket is no longer connected.
    pub fn tcp(stream: std::net::TcpStream) -> io::Result<StdStream> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(StdStream::Tcp(stream))
    }

    /// Wraps a connected Unix socket and makes it non-blocking. `refuses_descriptors` is the result of
    /// [`refuse_descriptors`](crate::refuse_descriptors) for the socket, or for the one that accepted it.
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
    /// Registers a socket with the current runtime.
    ///
    /// # Errors
    /// The system does not let the runtime watch another socket.
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

    /// Whether this is a socket and not a simulated connection.
    pub(crate) fn is_socket(&self) -> bool {
        #[cfg(feature = "memory")]
        if let Stream::Memory(_) = self {
            return false;
        }
        true
    }

    /// Shuts down both directions, also for other owners of the stream.
    pub(crate) fn shut_down(&self) {
        // Fails only if the peer closed the connection before.
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

    /// Shuts down the direction to the peer, after the written bytes.
    pub(crate) fn shut_down_writing(&self) {
        // Fails only if the peer closed the connection before.
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

    /// The peer's IP address; `None` if the stream is not TCP.
    pub fn peer_ip(&self) -> Option<IpAddr> {
        match self {
            Stream::Tcp(stream) => stream.peer_addr().ok().map(|peer| peer.ip().to_canonical()),
            Stream::Unix(_) | Stream::FilteredUnix(_) => None,
            #[cfg(feature = "memory")]
            Stream::Memory(_) => None,
        }
    }

    /// The user id of the peer's process; `None` for TCP.
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

    /// Waits until the socket is ready for some of `interest`. Cancel-safe.
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

    /// Reads up to `most` bytes into the spare capacity of `buffer`. Returns the number of bytes, 0 at the end of the
    /// stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing to read; those of the socket.
    pub fn try_read(&self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        let room = most.min(buffer.capacity() - buffer.len());
        match self {
            Stream::Tcp(stream) => read_and_note_drained(
                room,
                |read| stream.try_io(Interest::READABLE, read),
                || stream.try_read_buf(&mut buffer.limit(most)),
            ),
            Stream::Unix(stream) => read_and_note_drained(
                room,
                |read| stream.try_io(Interest::READABLE, read),
                || stream.try_read_buf(&mut buffer.limit(most)),
            ),
            Stream::FilteredUnix(filtered) => read_and_note_drained(
                room,
                |read| filtered.socket().try_io(Interest::READABLE, read),
                || filtered.read(buffer, room),
            ),
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => stream.try_read(buffer, most),
        }
    }

    /// As [`try_read`](Stream::try_read), but always asks the socket instead of relying on the runtime's readiness.
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

    /// As [`try_write`](Stream::try_write), but always asks the socket instead of relying on the runtime's readiness.
    pub(crate) fn write_now(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => SockRef::from(stream).deref().write_vectored(slices),
            Stream::Unix(stream) => SockRef::from(stream).deref().write_vectored(slices),
            Stream::FilteredUnix(filtered) => {
                SockRef::from(filtered.socket()).deref().write_vectored(slices)
            }
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => stream.try_write_vectored(slices),
        }
    }

    /// Writes as many bytes as the socket accepts without blocking. Returns their number.
    ///
    /// # Errors
    /// `WouldBlock` if the socket accepts none; those of the socket.
    pub fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write_vectored(slices),
            Stream::Unix(stream) => stream.try_write_vectored(slices),
            Stream::FilteredUnix(filtered) => filtered.socket().try_write_vectored(slices),
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => stream.try_write_vectored(slices),
        }
    }
}

/// Reads, and clears the runtime's readiness if the read drained the socket, which is the case if it returned fewer bytes
/// than `room`. Without this the next read would need a system call to find out.
///
/// Urgent data ends a read early. The bus sends none. After urgent data of a peer, reading goes on when more data arrives.
fn read_and_note_drained(
    room: usize,
    try_io: impl FnOnce(&mut dyn FnMut() -> io::Result<()>) -> io::Result<()>,
    read: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let (mut read, mut result) = (Some(read), Ok(0));
    let outcome = try_io(&mut || {
        if let Some(read) = read.take() {
            result = read();
        }
        match result {
            Ok(length) if 0 < length && length < room => Err(io::ErrorKind::WouldBlock.into()),
            // The read of a filtered socket bypasses the runtime.
            Err(ref error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            _ => Ok(()),
        }
    });
    // `try_io` does not call the closure if the runtime does not consider the socket readable.
    if read.is_some() { outcome.map(|()| 0) } else { result }
}
