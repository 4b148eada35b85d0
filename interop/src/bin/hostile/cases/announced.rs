//! A crowd of connections announces large messages and sends one byte of each.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

use super::crowd;
use crate::process::Target;
use crate::table::{Figures, Value};

const CONNECTIONS: u64 = 1_000;
const TIME: Duration = Duration::from_secs(1);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    // A GSB head counts to 4 GiB less one byte.
    for (name, length) in [("16 MiB each", 16 << 20), ("4 GiB each", u32::MAX)] {
        let server = target.start().await?;
        let free = server.descriptors()?;
        let mut connections = crowd(&server, CONNECTIONS).await?;
        let before = server.resident()?;
        for peer in &mut connections {
            // Who is closed for it has been answered.
            let _ = peer.writer.announce(length).await;
        }
        sleep(TIME).await;
        let closed = (free + CONNECTIONS).saturating_sub(server.descriptors()?);
        figures.add(&format!("{name}: memory before"), Value::Bytes(before));
        figures.add(&format!("{name}: peak memory"), Value::Bytes(server.peak()?));
        figures.add(&format!("{name}: closed"), Value::OutOf(closed, CONNECTIONS));
        server.stop().await?;
    }
    Ok(())
}
