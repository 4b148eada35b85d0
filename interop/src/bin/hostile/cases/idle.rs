//! Many connections send a Hello and are idle then.

use std::io;
use std::time::Duration;

use gsb_load::raise_descriptor_limit;
use tokio::time::sleep;

use super::common::connect_many;
use crate::calls::Caller;
use crate::figures::{Figures, Value};
use crate::server::Target;

const CONNECTIONS: u64 = 10_000;
/// Descriptors that are kept for other purposes.
const RESERVE: u64 = 200;
const TIME: Duration = Duration::from_secs(2);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start()?;
    let live = Caller::beside(&server).await?;
    sleep(TIME).await;
    let alone = live.stop().await;
    let before = server.memory()?;

    let count = raise_descriptor_limit().saturating_sub(RESERVE).clamp(1, CONNECTIONS);
    let connections = connect_many(&server, count).await?;
    let after = server.memory()?;
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
    Ok(())
}
