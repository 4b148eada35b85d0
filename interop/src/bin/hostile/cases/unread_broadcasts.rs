//! 1 GiB is broadcast to two subscribers, one of which never reads.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::common::fate_of_connection;
use crate::figures::{Figures, Value};
use crate::message::{Incoming, Outgoing};
use crate::peer::{Peer, Reader};
use crate::server::Target;

const TOPIC: &str = "/news";
const MESSAGES: u64 = 16_384;
const LENGTH: usize = 64 << 10;
/// The most broadcasts of the sender that are not acknowledged yet.
const WINDOW: u64 = 16;
const TIME: Duration = Duration::from_secs(20);
/// How long the healthy subscriber waits for the next broadcast.
const SILENCE: Duration = Duration::from_secs(2);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start()?;
    let mut stalled = Peer::connect(&server).await?;
    stalled.request(Outgoing::Subscribe { topic: TOPIC }).await?;
    let mut healthy = Peer::connect(&server).await?;
    healthy.request(Outgoing::Subscribe { topic: TOPIC }).await?;
    let sender = Peer::connect(&server).await?;

    let Peer { reader, writer: _healthy } = healthy;
    let receiving = AbortOnDropHandle::new(tokio::spawn(receive(reader)));
    let start = Instant::now();
    let sent = timeout(TIME, broadcast(sender)).await;
    let sent_for = start.elapsed();
    let received = receiving.await?;

    figures.add("healthy subscriber got", Value::OutOf(received.count, MESSAGES));
    figures.add_text("in order", if received.is_in_order { "yes" } else { "no" });
    if received.is_closed {
        figures.add_text("healthy subscriber", "closed");
    }
    figures.add(
        "sender took",
        match sent {
            Ok(Ok(())) => Value::Time(sent_for),
            Ok(Err(error)) => Value::Text(error.to_string()),
            Err(_) => Value::MoreThan(sent_for),
        },
    );
    figures.add("peak memory", Value::Bytes(server.peak_memory()?));
    figures.add_text(
        "the subscriber that does not read",
        fate_of_connection(&mut stalled, start).await,
    );
    Ok(())
}

#[derive(Debug)]
struct Received {
    count: u64,
    is_in_order: bool,
    is_closed: bool,
}

async fn broadcast(mut sender: Peer) -> io::Result<()> {
    let mut open = 0;
    for number in 0..MESSAGES {
        let mut data = vec![1; LENGTH];
        data[..8].copy_from_slice(&number.to_be_bytes());
        sender.writer.send(Outgoing::Broadcast { topic: TOPIC, data: &data }).await?;
        open += 1;
        while open >= WINDOW {
            match sender.reader.receive().await? {
                Incoming::Done => open -= 1,
                Incoming::Refused(text) => return Err(io::Error::other(text)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Receives until all broadcasts have come, or none comes any more.
async fn receive(mut reader: Reader) -> Received {
    let mut received = Received { count: 0, is_in_order: true, is_closed: false };
    let mut next = 0;
    while received.count < MESSAGES {
        match timeout(SILENCE, reader.receive()).await {
            Ok(Ok(Incoming::Broadcast { data })) => {
                let number = data.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                received.is_in_order &= number >= next;
                next = number + 1;
                received.count += 1;
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) => {
                received.is_closed = true;
                break;
            }
            Err(_) => break,
        }
    }
    received
}
