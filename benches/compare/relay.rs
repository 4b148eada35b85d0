//! A relay that copies bytes without parsing them, which is the lower bound for the cost of a router. It joins every
//! two consecutive connections: `relay unix:/path`, or `relay tcp://host:port`.

use std::error::Error;

use gsb_proto::Address;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;

/// The buffer in bytes. It is larger than the default buffer of a Unix socket and the reads of the router, because a
/// smaller one would slow the relay down and favour the router.
const BUFFER: usize = 256 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let address =
        std::env::args().nth(1).ok_or("usage: relay unix:/path, or relay tcp://host:port")?;
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

/// Joins two connections, each given as its read half and its write half.
fn connect<R, W>(first: (R, W), second: (R, W))
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(forward(first.0, second.1));
    tokio::spawn(forward(second.0, first.1));
}

/// Copies bytes until one of both ends or fails. Dropping the halves then ends this direction.
async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = from.read(&mut buffer).await
        && to.write_all(&buffer[..count]).await.is_ok()
    {}
}
