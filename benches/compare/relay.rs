//! A relay that reads nothing of what it passes on: as fast as a router could be that has nothing to do. It
//! connects each two connections that follow each other: `relay unix:/path`, or `tcp://host:port`.

use std::error::Error;

use gsb_proto::Address;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;

/// How many bytes are read and written at once.
const BUFFER: usize = 64 << 10;

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
                tokio::spawn(connect(first, second));
            }
        }
        Address::Tcp { host, port } => {
            let listener = TcpListener::bind((host.as_str(), *port)).await?;
            loop {
                let (first, _) = listener.accept().await?;
                let (second, _) = listener.accept().await?;
                first.set_nodelay(true)?;
                second.set_nodelay(true)?;
                tokio::spawn(connect(first, second));
            }
        }
    }
}

async fn connect(
    mut first: impl AsyncRead + AsyncWrite + Unpin,
    mut second: impl AsyncRead + AsyncWrite + Unpin,
) {
    // However that ends, it ends these two only.
    let _ = copy_bidirectional_with_sizes(&mut first, &mut second, BUFFER, BUFFER).await;
}
