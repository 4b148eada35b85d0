//! A socket of either kind.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{IpAddr, Shutdown};
use std::ops::Deref as _;

use bytes::{BufMut as _, BytesMut};
use gsb_proto::Address;
use socket2::SockRef;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

#[cfg(feature = "memory")]
use crate::memory::MemoryStream;

/// A connected TCP or Unix socket. All its operations take `&self`, from any thread.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, with small segments sent at once.
    Tcp(TcpStream),
    /// On this host.
    Unix(UnixStream),
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
    /// Inside this process; belongs to no runtime anyway.
    #[cfg(feature = "memory")]
    Memory(MemoryStream),
}

impl Stream {
    /// Connects to a bus.
    ///
    /// # Errors
    /// Those of the socket, of name resolution for a host that is not an IP address.
    pub async fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                Stream::tcp(stream)
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        }
    }

    /// Takes over a TCP socket.
    ///
    /// # Errors
    /// The socket is not connected any more.
    pub fn tcp(stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        Ok(Stream::Tcp(stream))
    }

    /// Leaves the runtime that the stream belongs to.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub fn into_std(self) -> io::Result<StdStream> {
        match self {
            Stream::Tcp(stream) => stream.into_std().map(StdStream::Tcp),
            Stream::Unix(stream) => stream.into_std().map(StdStream::Unix),
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => Ok(StdStream::Memory(stream)),
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
            #[cfg(feature = "memory")]
            StdStream::Memory(stream) => Ok(Stream::Memory(stream)),
        }
    }

    /// Ends both directions at once, whoever else still holds the stream.
    pub(crate) fn shut_down(&self) {
        // Fails only where the peer has ended it before.
        let _ = match self {
            Stream::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
            Stream::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
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
            Stream::Unix(_) => None,
            #[cfg(feature = "memory")]
            Stream::Memory(_) => None,
        }
    }

    /// The peer's user id, on Unix sockets and inside the process.
    pub fn peer_uid(&self) -> Option<u32> {
        match self {
            Stream::Tcp(_) => None,
            Stream::Unix(stream) => stream.peer_cred().ok().map(|credentials| credentials.uid()),
            #[cfg(feature = "memory")]
            Stream::Memory(_) => Some(MemoryStream::UID),
        }
    }

    /// Waits until the socket is ready for some of `interest`. May be dropped at any time.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Stream::Tcp(stream) => stream.ready(interest).await,
            Stream::Unix(stream) => stream.ready(interest).await,
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
            #[cfg(feature = "memory")]
            Stream::Memory(stream) => stream.try_write_vectored(pieces),
        }
    }
}

/// Reads, and lets the runtime know if that was all there is: a read that was offered more room than it needed
/// has emptied the socket. Otherwise the next read would have to find that out, by a system call.
///
/// What comes in a piece of its own, as file descriptors and urgent data do, ends a read early. Nobody sends such;
/// whoever does is read on when more comes.
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
            _ => Ok(()),
        }
    });
    // Not called if the socket is not known to have anything.
    if read.is_some() { watched.map(|()| 0) } else { result }
}
