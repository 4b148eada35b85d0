//! A download: the service reads a file in blocks as its caller takes them, and is at most a window ahead.
//! `download service FILE` serves a file at `/file`, and `download caller` gets it.

use std::env::args;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{Bus, Bytes, Call, Failure};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

/// The size of a block, in bytes.
const BLOCK: usize = 64 << 10;

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    match (args().nth(1).as_deref(), args().nth(2)) {
        (Some("service"), Some(path)) => serve(bus, path).await,
        (Some("caller"), None) => get(&bus).await,
        _ => Err("usage: download service FILE | download caller".into()),
    }
}

async fn serve(bus: Bus, path: String) -> Result<(), Error> {
    let blocks = move |_: Call| {
        stream::once(File::open(path.clone())).map_err(Failure::from).map_ok(blocks).try_flatten()
    };
    let _file = bus.register_stream("/file", blocks).await?;
    println!("serving /file");
    Ok(bus.closed().await?)
}

/// The blocks of a file. Each is read when the service may send it.
fn blocks(file: File) -> impl futures::Stream<Item = Result<Bytes, Failure>> {
    stream::try_unfold(file, |mut file| async move {
        let mut block = Vec::with_capacity(BLOCK);
        let read = (&mut file).take(BLOCK as u64).read_to_end(&mut block).await?;
        Ok((read > 0).then_some((Bytes::from(block), file)))
    })
}

async fn get(bus: &Bus) -> Result<(), Error> {
    // The service is up to 8 MiB ahead of this reader.
    let mut blocks = bus.endpoint("/file").window(8 << 20).stream("").await?;
    let mut length = 0;
    while let Some(block) = blocks.next().await {
        length += block?.len();
        // A slow reader, such as a disk. The service waits for it, and other calls go on.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("got {length} bytes");
    Ok(())
}
