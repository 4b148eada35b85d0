//! An upload: the caller sends a file in blocks as the service reads them, however large the file is.
//! `upload service` serves `/files`, and `upload FILE` sends a file to it.

use std::env::args;

use futures::{TryStreamExt as _, stream};
use gsb_client::{Bus, Bytes, Call, Failure, RequestStream};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

/// The size of a block, in bytes.
const BLOCK: usize = 64 << 10;

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    match args().nth(1).as_deref() {
        Some("service") => serve(bus).await,
        Some(path) => send(&bus, path).await,
        None => Err("usage: upload service | upload FILE".into()),
    }
}

async fn serve(bus: Bus) -> Result<(), Error> {
    let _files = bus.register_upload("/files", store).await?;
    println!("serving /files");
    Ok(bus.closed().await?)
}

/// A service that stores the file would write each block here. The caller waits meanwhile.
async fn store(call: Call, mut blocks: RequestStream) -> Result<String, Failure> {
    let name = std::str::from_utf8(&call.data)?.to_owned();
    let mut length = 0;
    while let Some(block) = blocks.try_next().await? {
        length += block.len();
    }
    println!("got {name}");
    Ok(format!("{name}: {length} bytes"))
}

async fn send(bus: &Bus, path: &str) -> Result<(), Error> {
    let file = File::open(path).await?;
    // A body cannot fail. A file that cannot be read further ends it early, which a real program would report.
    let blocks = stream::unfold(file, |mut file| async move {
        let mut block = Vec::with_capacity(BLOCK);
        let read = (&mut file).take(BLOCK as u64).read_to_end(&mut block).await.ok()?;
        (read > 0).then_some((Bytes::from(block), file))
    });
    let reply = bus.endpoint("/files").timeout(None).upload(path.to_owned(), blocks).await?;
    println!("{}", String::from_utf8_lossy(&reply));
    Ok(())
}
