//! A raw peer of a server: it reads and writes only when a case asks for it, and may break the protocol.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use gsb_proto::Address;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

use crate::dialect::{Codec, Dialect, announcement};
use crate::message::{Incoming, Outgoing};
use crate::server::Server;
use crate::timeout::within;

/// How long a peer waits for a connection or an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The size of a read in bytes. It is small at first, since many peers receive little, and grows with what arrives.
const READ_SIZE: std::ops::RangeInclusive<usize> = 4 << 10..=256 << 10;

/// A connection, as its two directions.
#[derive(Debug)]
pub struct Peer {
    pub reader: Reader,
    pub writer: Writer,
}

/// A Unix or TCP socket.
struct Socket {
    read: Box<dyn AsyncRead + Send + Sync + Unpin>,
    write: Box<dyn AsyncWrite + Send + Sync + Unpin>,
}

/// The direction from the server.
pub struct Reader {
    socket: Box<dyn AsyncRead + Send + Sync + Unpin>,
    buffer: BytesMut,
    read_size: usize,
    codec: Codec,
}

/// The direction to the server.
pub struct Writer {
    socket: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    buffer: Vec<u8>,
    codec: Codec,
}

impl Peer {
    /// Connects, sends a Hello, and waits until the server has handled it.
    pub async fn connect(server: &Server) -> io::Result<Peer> {
        Peer::connect_to(server.address(), server.dialect).await
    }

    /// [`Peer::connect`] with the address and dialect of a server.
    pub async fn connect_to(address: &Address, dialect: Dialect) -> io::Result<Peer> {
        let mut peer = Peer::silent(address, dialect).await?;
        peer.writer.send(Outgoing::Hello).await?;
        peer.request(Outgoing::Ping).await?;
        Ok(peer)
    }

    /// Connects, and sends nothing.
    pub async fn silent(address: &Address, dialect: Dialect) -> io::Result<Peer> {
        let connected = within("a connection", ANSWER_TIMEOUT, Socket::connect(address)).await?;
        let Socket { read, write } = connected?;
        let codec = Codec::new(dialect);
        Ok(Peer {
            reader: Reader {
                socket: read,
                buffer: BytesMut::new(),
                read_size: *READ_SIZE.start(),
                codec: codec.clone(),
            },
            writer: Writer { socket: write, buffer: Vec::new(), codec },
        })
    }

    /// Sends a request, and waits until it is done. Other messages that arrive meanwhile are lost.
    ///
    /// # Errors
    /// The request was refused, or the connection failed.
    pub async fn request(&mut self, request: Outgoing<'_>) -> io::Result<()> {
        let answer = async {
            self.writer.send(request).await?;
            loop {
                match self.reader.receive().await? {
                    Incoming::Done => return Ok(()),
                    Incoming::Refused(text) => return Err(io::Error::other(text)),
                    _ => {}
                }
            }
        };
        within("an answer", ANSWER_TIMEOUT, answer).await?
    }
}

impl Reader {
    /// Waits for the next message. Dropping the future loses nothing.
    pub async fn receive(&mut self) -> io::Result<Incoming> {
        loop {
            if let Some(message) = self.codec.decode(&mut self.buffer)? {
                return Ok(message);
            }
            self.buffer.reserve(self.read_size);
            match self.socket.read_buf(&mut self.buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count if count >= self.read_size => {
                    self.read_size = (2 * count).min(*READ_SIZE.end());
                }
                _ => {}
            }
        }
    }

    /// Reads and drops bytes; returns how many, or 0 at the end of the connection.
    pub async fn discard(&mut self) -> io::Result<usize> {
        self.buffer.clear();
        self.buffer.reserve(*READ_SIZE.end());
        self.socket.read_buf(&mut self.buffer).await
    }
}

impl Writer {
    /// Writes these bytes repeatedly, until the connection fails.
    pub async fn repeat(&mut self, bytes: &[u8]) -> io::Result<()> {
        loop {
            self.socket.write_all(bytes).await?;
        }
    }

    /// Sends a message, and waits until the socket has taken it. If the future is dropped, a part of the message may
    /// have been sent.
    pub async fn send(&mut self, message: Outgoing<'_>) -> io::Result<()> {
        self.buffer.clear();
        self.codec.encode(message, &mut self.buffer);
        self.socket.write_all(&self.buffer).await
    }

    /// The bytes of a message.
    pub fn bytes_of(&mut self, message: Outgoing<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.codec.encode(message, &mut bytes);
        bytes
    }

    /// Sends the head of a message of `length` bytes, and one byte of the message.
    pub async fn announce(&mut self, length: u32) -> io::Result<()> {
        self.socket.write_all(&announcement(self.codec.dialect(), length)).await
    }

    /// Writes as many of these bytes as the socket takes; returns how many.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes).await
    }
}

impl Socket {
    /// Connects. If the backlog of a Unix socket is full, it tries again.
    async fn connect(address: &Address) -> io::Result<Socket> {
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let (read, write) = stream.into_split();
                Ok(Socket { read: Box::new(read), write: Box::new(write) })
            }
            Address::Unix(path) => loop {
                match UnixStream::connect(path).await {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        sleep(Duration::from_millis(1)).await;
                    }
                    stream => {
                        let (read, write) = stream?.into_split();
                        return Ok(Socket { read: Box::new(read), write: Box::new(write) });
                    }
                }
            },
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("codec", &self.codec).finish_non_exhaustive()
    }
}
