//! Connections come, introduce themselves and go without a word.

use std::io;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::AT_ONCE;
use crate::peer::Peer;
use crate::process::{Server, Target};
use crate::table::{Figures, Value};

const HALF: u64 = 10_000;
/// How long the server may take to close what its peers have closed.
const PATIENCE: Duration = Duration::from_secs(3);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start().await?;
    // What has to do with the start is over by then.
    sleep(Duration::from_millis(200)).await;
    let descriptors = server.descriptors()?;
    figures.add("memory before", Value::Bytes(server.resident()?));
    let start = Instant::now();
    come_and_go(&server).await?;
    server.descriptors_fall_to(descriptors, PATIENCE).await?;
    figures.add("memory after 10,000", Value::Bytes(server.resident()?));
    come_and_go(&server).await?;
    let took = start.elapsed();
    let left = server.descriptors_fall_to(descriptors, PATIENCE).await?;
    figures.add("memory after 20,000", Value::Bytes(server.resident()?));
    figures.add("descriptors before", Value::Count(descriptors));
    figures.add("descriptors after", Value::Count(left));
    figures.add("took", Value::Time(took));
    server.stop().await
}

async fn come_and_go(server: &Server) -> io::Result<()> {
    stream::iter(0..HALF)
        .map(|_| Peer::connect(server))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|peer| {
            drop(peer);
            std::future::ready(Ok(()))
        })
        .await
}
