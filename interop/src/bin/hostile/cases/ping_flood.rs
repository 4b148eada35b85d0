//! One connection sends Pings as fast as it can, and never reads the answers.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::common::fate_of_connection;
use crate::calls::Caller;
use crate::figures::{Figures, Value, duration, size};
use crate::message::Outgoing;
use crate::peer::Peer;
use crate::server::Target;

const TIME: Duration = Duration::from_secs(8);
const BYTES: u64 = 256 << 20;
/// Pings that are written at once.
const BATCH: usize = 10_000;
/// How long a server that still reads takes at most to read more.
const STANDSTILL: Duration = Duration::from_secs(1);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start()?;
    let others = Caller::beside(&server).await?;
    let mut flood = Peer::connect(&server).await?;
    let pings = flood.writer.bytes_of(Outgoing::Ping).repeat(BATCH);

    let start = Instant::now();
    let mut sent = 0_usize;
    let mut last_taken = start;
    let end = loop {
        // The socket may have taken a part of a Ping.
        let rest = &pings[sent % pings.len()..];
        match timeout_at(start + TIME, flood.writer.write(rest)).await {
            Ok(Ok(count)) => sent += count,
            Ok(Err(_)) => break "closed",
            Err(_) if last_taken.elapsed() > STANDSTILL => break "not read any more",
            Err(_) => break "read to the end",
        }
        last_taken = Instant::now();
        if u64::try_from(sent).is_ok_and(|sent| sent >= BYTES) {
            break "read to the end";
        }
    };
    // The server is still answering.
    sleep(Duration::from_secs(1)).await;
    figures.add("peak memory", Value::Bytes(server.peak_memory()?));
    let sent = size(u64::try_from(sent).map_err(io::Error::other)?);
    let time = duration(last_taken - start);
    figures.add_text("the flood", format!("{end} after {sent}, {time}"));
    others.stop().await.figures("others' calls", figures);
    figures.add_text("the peer that does not read", fate_of_connection(&mut flood, start).await);
    Ok(())
}
