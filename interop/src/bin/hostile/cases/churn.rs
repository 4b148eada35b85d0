//! Connections are made, send a Hello, and are closed.

use std::io;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::common::CONNECTING;
use crate::figures::{Figures, Value};
use crate::peer::Peer;
use crate::server::{Server, Target};

const HALF: u64 = 10_000;
/// How long the server may take to close connections that its peers have closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start()?;
    // By then the server has finished its start.
    sleep(Duration::from_millis(200)).await;
    let descriptors = server.descriptors()?;
    figures.add("memory before", Value::Bytes(server.memory()?));
    let start = Instant::now();
    connect_and_close(&server).await?;
    server.wait_for_descriptors(descriptors, CLOSE_TIMEOUT).await?;
    figures.add("memory after 10,000", Value::Bytes(server.memory()?));
    connect_and_close(&server).await?;
    let took = start.elapsed();
    let left = server.wait_for_descriptors(descriptors, CLOSE_TIMEOUT).await?;
    figures.add("memory after 20,000", Value::Bytes(server.memory()?));
    figures.add("descriptors before", Value::Count(descriptors));
    figures.add("descriptors after", Value::Count(left));
    figures.add("took", Value::Time(took));
    Ok(())
}

async fn connect_and_close(server: &Server) -> io::Result<()> {
    stream::iter(0..HALF)
        .map(|_| Peer::connect(server))
        .buffer_unordered(CONNECTING)
        .try_for_each(|peer| {
            drop(peer);
            std::future::ready(Ok(()))
        })
        .await
}
