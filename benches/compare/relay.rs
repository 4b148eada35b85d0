//! A relay that forwards bytes and reads none of them: as fast as a router could be that has nothing to do. It
//! connects each two connections that follow each other: `relay unix:/path`, or `tcp://host:port`.

use std::error::Error;

use gsb_proto::Address;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;

/// How many bytes are read and written at once. A Unix socket of Linux holds less by default, and so does what the
/// router reads at once: a smaller buffer would slow the relay down and flatter the router.
const BUFFER: usize = 256 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("say where to listen")?;
    let address: Address = address.parse()?;
    Builder::new_current_thread().enable_all().build()?.block_on(relay(&address))
}

async fn relay(address: &Address) -> Result<(), Box<dyn Error>> {
    match address {
        Address::Unix(path) => {
            let listener = UnixListener::bind(path)?;
            loop {
                let (first, _) = listener.accept().await?;
                let (second, _) = listener.accept().await?;
                connect(first.into_split(), second.into_split());
            }
        }
        Address::Tcp { host, port } => {
            let listener = TcpListener::bind((host.as_str(), *port)).await?;
            loop {
                let (first, _) = listener.accept().await?;
                let (second, _) = listener.accept().await?;
                first.set_nodelay(true)?;
                second.set_nodelay(true)?;
                connect(first.into_split(), second.into_split());
            }
        }
    }
}

/// Forwards between two connections, each a half to read from and a half to write to.
fn connect<R, W>(first: (R, W), second: (R, W))
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(forward(first.0, second.1));
    tokio::spawn(forward(second.0, first.1));
}

/// Reads, then writes, until one of both ends or fails. What is dropped then ends that direction for the other peer.
async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = from.read(&mut buffer).await
        && to.write_all(&buffer[..count]).await.is_ok()
    {}
}
