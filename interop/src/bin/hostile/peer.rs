//! A peer of any of the servers, which does only what it is told: it reads when it is told to read, and
//! says what it is told to say, whatever the server thinks of that.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gsb_proto::Address;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use crate::process::Server;
use crate::{gsb, nats};

/// How long a peer that behaves waits for an answer that is not what a case is about.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much is read at once: at first little, since a crowd reads little, and more where much comes.
const CHUNKS: std::ops::RangeInclusive<usize> = 4 << 10..=256 << 10;

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// The packet framing of GSB.
    Gsb,
    /// The text protocol of NATS.
    Nats,
}

/// What a peer can say.
#[derive(Debug, Clone)]
pub enum Say<'a> {
    /// Introduces the peer.
    Hello,
    /// Asks for a sign of life.
    Ping,
    /// Registers a service; in NATS, where names have no owners, subscribes to its name.
    Serve { name: &'a str },
    /// Asks for the broadcasts to a topic.
    Subscribe { topic: &'a str },
    /// Calls a service.
    Call { to: &'a str, id: &'a str, data: Bytes },
    /// Answers the call that was heard with this id.
    Reply { to: &'a str, last: bool, data: Bytes },
    /// Sends to all who have subscribed.
    Broadcast { topic: &'a str, data: Bytes },
}

/// What a peer can hear.
#[derive(Debug, Clone)]
pub enum Heard {
    /// The server introduces itself.
    Welcome,
    /// What was asked is done; the server is alive.
    Done,
    /// What was asked is not done.
    Refused(String),
    /// A call; its reply goes to this id.
    Call { id: String, data: Bytes },
    /// A reply to the call with this id. The code is 0 if the service answers.
    Reply { id: String, code: i32, data: Bytes },
    /// A broadcast.
    Broadcast { data: Bytes },
    /// What no case is interested in.
    Nothing,
}

/// A connection, in its two directions.
#[derive(Debug)]
pub struct Peer {
    pub reader: Reader,
    pub writer: Writer,
}

/// Both directions of a socket of either kind.
pub struct Socket {
    read: Box<dyn AsyncRead + Send + Sync + Unpin>,
    write: Box<dyn AsyncWrite + Send + Sync + Unpin>,
}

/// What comes from the server.
pub struct Reader {
    socket: Box<dyn AsyncRead + Send + Sync + Unpin>,
    buffer: BytesMut,
    chunk: usize,
    decoder: Decoder,
}

/// What goes to the server.
pub struct Writer {
    socket: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    buffer: BytesMut,
    dialect: Dialect,
    inbox: String,
}

#[derive(Debug)]
enum Decoder {
    Gsb(gsb::Decoder),
    Nats,
}

impl Peer {
    /// Connects, introduces itself, and waits until the server has taken note.
    pub async fn connect(server: &Server) -> io::Result<Peer> {
        Peer::connect_to(&server.address, server.dialect).await
    }

    /// [`Peer::connect`] where the server is known by its address only.
    pub async fn connect_to(address: &Address, dialect: Dialect) -> io::Result<Peer> {
        let mut peer = Peer::silent(address, dialect).await?;
        peer.writer.say(Say::Hello).await?;
        peer.ask(Say::Ping).await?;
        Ok(peer)
    }

    /// Connects and says nothing.
    pub async fn silent(address: &Address, dialect: Dialect) -> io::Result<Peer> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let connected = within("a connection", PATIENCE, Socket::connect(address)).await?;
        let Socket { read, write } = connected?;
        let decoder = match dialect {
            Dialect::Gsb => Decoder::Gsb(gsb::Decoder::new()),
            Dialect::Nats => Decoder::Nats,
        };
        let inbox = format!("inbox.{}.{count}", std::process::id());
        Ok(Peer {
            reader: Reader {
                socket: read,
                buffer: BytesMut::new(),
                chunk: *CHUNKS.start(),
                decoder,
            },
            writer: Writer { socket: write, buffer: BytesMut::new(), dialect, inbox },
        })
    }

    /// Says what the server answers with yes or no. For a connection on which nothing else is awaited.
    pub async fn ask(&mut self, say: Say<'_>) -> io::Result<()> {
        let answer = async {
            self.writer.say(say).await?;
            loop {
                match self.reader.hear().await? {
                    Heard::Done => return Ok(()),
                    Heard::Refused(why) => return Err(io::Error::other(why)),
                    _ => {}
                }
            }
        };
        within("an answer", PATIENCE, answer).await?
    }
}

impl Reader {
    /// The next that comes. Nothing is lost if this is dropped.
    pub async fn hear(&mut self) -> io::Result<Heard> {
        loop {
            let heard = match &mut self.decoder {
                Decoder::Gsb(decoder) => decoder.decode(&mut self.buffer)?,
                Decoder::Nats => nats::decode(&mut self.buffer)?,
            };
            if let Some(heard) = heard {
                return Ok(heard);
            }
            self.buffer.reserve(self.chunk);
            match self.socket.read_buf(&mut self.buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count if count >= self.chunk => self.chunk = (2 * count).min(*CHUNKS.end()),
                _ => {}
            }
        }
    }
}

impl Reader {
    /// Reads what has come, and forgets it; how many bytes, 0 at the end.
    pub async fn discard(&mut self) -> io::Result<usize> {
        self.buffer.clear();
        self.buffer.reserve(*CHUNKS.end());
        self.socket.read_buf(&mut self.buffer).await
    }
}

impl Writer {
    /// Writes these bytes again and again, until the server takes no more.
    pub async fn repeat(&mut self, bytes: &[u8]) -> io::Result<()> {
        loop {
            self.socket.write_all(bytes).await?;
        }
    }

    /// Says it, waiting for room in the socket. What is dropped meanwhile may have been said in part.
    pub async fn say(&mut self, say: Say<'_>) -> io::Result<()> {
        self.buffer.clear();
        match self.dialect {
            Dialect::Gsb => gsb::encode(say, &mut self.buffer),
            Dialect::Nats => nats::encode(say, &self.inbox, &mut self.buffer),
        }
        self.socket.write_all(&self.buffer).await
    }

    /// The bytes of something to be said.
    pub fn bytes_of(&self, say: Say<'_>) -> Bytes {
        let mut bytes = BytesMut::new();
        match self.dialect {
            Dialect::Gsb => gsb::encode(say, &mut bytes),
            Dialect::Nats => nats::encode(say, &self.inbox, &mut bytes),
        }
        bytes.freeze()
    }

    /// The head of something of `length` bytes, and one byte of it.
    pub async fn announce(&mut self, length: u32) -> io::Result<()> {
        let bytes = match self.dialect {
            Dialect::Gsb => gsb::announce(length),
            Dialect::Nats => nats::announce(length),
        };
        self.socket.write_all(&bytes).await
    }

    /// Writes what the socket takes of these bytes; how many it took.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes).await
    }
}

impl Socket {
    /// Connects. Where a Unix socket's queue is full, the system says so at once instead of waiting.
    pub async fn connect(address: &Address) -> io::Result<Socket> {
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
        f.debug_struct("Writer").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

/// What `future` gives, or an error that says what did not come in time.
pub async fn within<F: Future>(awaited: &str, limit: Duration, future: F) -> io::Result<F::Output> {
    timeout(limit, future).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("{awaited} did not come within {limit:?}"))
    })
}
