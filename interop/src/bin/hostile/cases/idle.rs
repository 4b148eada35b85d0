//! A crowd of connections that introduce themselves and then do nothing.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

use super::crowd;
use crate::calls::Caller;
use crate::process::{Target, raise_descriptor_limit};
use crate::table::{Figures, Value};

const CONNECTIONS: u64 = 10_000;
/// Descriptors that are needed for other things.
const RESERVE: u64 = 200;
const TIME: Duration = Duration::from_secs(2);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start().await?;
    let live = Caller::beside(&server).await?;
    sleep(TIME).await;
    let alone = live.stop().await;
    let before = server.resident()?;

    let count = raise_descriptor_limit().saturating_sub(RESERVE).clamp(1, CONNECTIONS);
    let connections = crowd(&server, count).await?;
    let after = server.resident()?;
    let live = Caller::beside(&server).await?;
    sleep(TIME).await;
    let beside = live.stop().await;
    drop(connections);

    figures.add("connections", Value::Count(count));
    figures.add("memory of each", Value::Bytes(after.saturating_sub(before) / count));
    figures.add("a live call before: median wait", alone.median());
    figures.add("a live call beside them: median wait", beside.median());
    figures.add("a live call before: worst wait", alone.worst());
    figures.add("a live call beside them: worst wait", beside.worst());
    server.stop().await
}
