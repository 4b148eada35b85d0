//! What several cases need.

use std::io;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep_until, timeout};

use crate::peer::Peer;
use crate::server::Server;

/// How many connections are being made at the same time, where many are made.
pub const CONNECTING: usize = 50;

/// The time after which a server has closed a connection that takes nothing: the usual limit is 10 s.
const CLOSED_AFTER: Duration = Duration::from_secs(12);

/// Makes connections, each with a Hello.
pub async fn connect_many(server: &Server, count: u64) -> io::Result<Vec<Peer>> {
    let connections = stream::iter(0..count).map(|_| Peer::connect(server));
    connections.buffer_unordered(CONNECTING).try_collect().await
}

/// Reads for a short time from a connection that was not read since `start`: whether the server has closed it, and how
/// many messages the server has kept for it.
pub async fn fate_of_connection(peer: &mut Peer, start: Instant) -> String {
    sleep_until(start + CLOSED_AFTER).await;
    const SILENCE: Duration = Duration::from_millis(500);
    const TIME: Duration = Duration::from_secs(3);
    let reading = Instant::now();
    let mut count = 0_u64;
    loop {
        match timeout(SILENCE, peer.reader.receive()).await {
            Ok(Ok(_)) if reading.elapsed() > TIME => {
                return format!("kept, {count} messages and more");
            }
            Ok(Ok(_)) => count += 1,
            Ok(Err(_)) => return format!("closed, {count} messages left"),
            Err(_) => return format!("kept, {count} messages"),
        }
    }
}
