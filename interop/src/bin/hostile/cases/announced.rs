//! Many connections announce large messages, and send one byte of each.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

use super::common::connect_many;
use crate::figures::{Figures, Value};
use crate::server::Target;

const CONNECTIONS: u64 = 1_000;
const TIME: Duration = Duration::from_secs(1);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    // The longest length that a GSB frame can announce is 4 GiB less one byte.
    for (name, length) in [("16 MiB each", 16 << 20), ("4 GiB each", u32::MAX)] {
        let server = target.start()?;
        let free = server.descriptors()?;
        let mut connections = connect_many(&server, CONNECTIONS).await?;
        let before = server.memory()?;
        for peer in &mut connections {
            // The server may have closed the connection.
            let _ = peer.writer.announce(length).await;
        }
        sleep(TIME).await;
        let closed = (free + CONNECTIONS).saturating_sub(server.descriptors()?);
        figures.add(&format!("{name}: memory before"), Value::Bytes(before));
        figures.add(&format!("{name}: peak memory"), Value::Bytes(server.peak_memory()?));
        figures.add(&format!("{name}: closed"), Value::OutOf(closed, CONNECTIONS));
    }
    Ok(())
}
