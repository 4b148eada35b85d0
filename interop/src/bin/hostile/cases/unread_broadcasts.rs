//! 1 GiB is broadcast to two subscribers, of which one never reads.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::fate_of_connection;
use crate::peer::{Heard, Peer, Reader, Say};
use crate::process::Target;
use crate::table::{Figures, Value};

const TOPIC: &str = "/news";
const MESSAGES: u64 = 16_384;
const LENGTH: usize = 64 << 10;
/// Broadcasts that are not acknowledged yet, as a sender with some regard has them.
const WINDOW: u64 = 16;
const TIME: Duration = Duration::from_secs(20);
/// What does not come for so long after the last broadcast does not come any more.
const SILENCE: Duration = Duration::from_secs(2);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start().await?;
    let mut deaf = Peer::connect(&server).await?;
    deaf.ask(Say::Subscribe { topic: TOPIC }).await?;
    let mut healthy = Peer::connect(&server).await?;
    healthy.ask(Say::Subscribe { topic: TOPIC }).await?;
    let sender = Peer::connect(&server).await?;

    let Peer { reader, writer: _healthy } = healthy;
    let receiving = AbortOnDropHandle::new(tokio::spawn(receive(reader)));
    let start = Instant::now();
    let sent = timeout(TIME, broadcast(sender)).await;
    let sent_for = start.elapsed();
    let received = receiving.await?;

    figures.add("healthy subscriber got", Value::OutOf(received.count, MESSAGES));
    figures.say("in order", if received.is_in_order { "yes" } else { "no" });
    if received.is_closed {
        figures.say("healthy subscriber", "closed");
    }
    figures.add(
        "sender took",
        match sent {
            Ok(Ok(())) => Value::Time(sent_for),
            Ok(Err(error)) => Value::Text(error.to_string()),
            Err(_) => Value::MoreThan(sent_for),
        },
    );
    figures.add("peak memory", Value::Bytes(server.peak()?));
    figures.say("who does not read", fate_of_connection(&mut deaf, start).await);
    server.stop().await
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
        sender.writer.say(Say::Broadcast { topic: TOPIC, data: Bytes::from(data) }).await?;
        open += 1;
        while open >= WINDOW {
            match sender.reader.hear().await? {
                Heard::Done => open -= 1,
                Heard::Refused(why) => return Err(io::Error::other(why)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Until everything is there, or nothing comes any more.
async fn receive(mut reader: Reader) -> Received {
    let mut received = Received { count: 0, is_in_order: true, is_closed: false };
    let mut next = 0;
    while received.count < MESSAGES {
        match timeout(SILENCE, reader.hear()).await {
            Ok(Ok(Heard::Broadcast { data })) => {
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
