//! A stream that is dropped: `log_tail service` serves the lines of a log at `/log`, without an end, and `log_tail reader`
//! reads three of them. Then the stream of the handler is dropped, too.

use std::env::args;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use gsb_client::{Bus, Call, Failure};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    match args().nth(1).as_deref() {
        Some("service") => serve(bus).await,
        Some("reader") => read(&bus).await,
        _ => Err("usage: log_tail service | log_tail reader".into()),
    }
}

async fn serve(bus: Bus) -> Result<(), Error> {
    let _log = bus.register_stream("/log", tail).await?;
    println!("serving /log");
    Ok(bus.closed().await?)
}

/// What one reader holds at the service. It is dropped with the stream.
struct Reader(String);

impl Drop for Reader {
    fn drop(&mut self) {
        println!("{} reads no more", self.0);
    }
}

fn tail(call: Call) -> impl Stream<Item = Result<String, Failure>> {
    let reader = Reader(call.caller.clone());
    stream::iter(1..).then(move |line| {
        let text = format!("line {line} for {}", reader.0);
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(text)
        }
    })
}

async fn read(bus: &Bus) -> Result<(), Error> {
    let lines = bus.endpoint("/log").caller("reader").stream("").await?;
    let mut lines = lines.take(3);
    while let Some(line) = lines.next().await {
        println!("{}", String::from_utf8_lossy(&line?));
    }
    // The end of the scope drops the stream, and the service is told.
    Ok(())
}
