//! A caller asks for a stream of 1 GiB and never reads it, while another caller uses the same service.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::common::fate_of_connection;
use crate::calls::Caller;
use crate::figures::{Figures, Value};
use crate::message::{Incoming, Outgoing};
use crate::peer::{Peer, Writer};
use crate::server::Target;

const NAME: &str = "/streams";
const PARTS: u64 = 16_384;
const PART: usize = 64 << 10;
const TIME: Duration = Duration::from_secs(15);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start()?;
    let mut service = Peer::connect(&server).await?;
    service.request(Outgoing::Register { name: NAME }).await?;
    let sent = Arc::new(AtomicU64::new(0));
    let _serving = serve(service, Arc::clone(&sent));

    let mut stalled = Peer::connect(&server).await?;
    stalled.writer.send(Outgoing::Call { service: NAME, id: 0, data: b"stream" }).await?;
    let start = Instant::now();
    let others = Caller::of(&server, NAME).await?;
    while start.elapsed() < TIME && sent.load(Ordering::Relaxed) < PARTS {
        sleep(Duration::from_millis(50)).await;
    }
    let took = start.elapsed();
    // The effect of the last part on the other caller shows a moment later.
    sleep(Duration::from_secs(1)).await;

    others.stop().await.figures("the other caller", figures);
    figures.add("peak memory", Value::Bytes(server.peak_memory()?));
    let parts = sent.load(Ordering::Relaxed);
    let bytes = u64::try_from(PART).map_err(io::Error::other)? * parts;
    figures.add("taken from the service", Value::Bytes(bytes));
    figures.add("in", Value::Time(took));
    figures
        .add_text("the caller that does not read", fate_of_connection(&mut stalled, start).await);
    Ok(())
}

/// A service with one connection, which sends its replies one after the other.
fn serve(service: Peer, sent: Arc<AtomicU64>) -> [AbortOnDropHandle<io::Result<()>>; 2] {
    let Peer { mut reader, writer } = service;
    let (calls, to_answer) = mpsc::unbounded_channel();
    let reading = tokio::spawn(async move {
        loop {
            if let Incoming::Call { reply_to, data } = reader.receive().await?
                && calls.send((reply_to, data)).is_err()
            {
                return Ok(());
            }
        }
    });
    [reading, tokio::spawn(answer(writer, to_answer, sent))].map(AbortOnDropHandle::new)
}

/// Answers small calls between the parts of the stream.
async fn answer(
    mut writer: Writer,
    mut calls: mpsc::UnboundedReceiver<(Bytes, Bytes)>,
    sent: Arc<AtomicU64>,
) -> io::Result<()> {
    let part = vec![1; PART];
    let mut stream = None;
    loop {
        let is_streaming = stream.is_some() && sent.load(Ordering::Relaxed) < PARTS;
        let call = match calls.try_recv() {
            Ok(call) => Some(call),
            Err(_) if is_streaming => None,
            Err(_) => match calls.recv().await {
                Some(call) => Some(call),
                None => return Ok(()),
            },
        };
        match (call, &stream) {
            (Some((reply_to, data)), _) if data == "stream" => stream = Some(reply_to),
            (Some((reply_to, data)), _) => {
                writer.send(Outgoing::Reply { to: &reply_to, is_last: true, data: &data }).await?;
            }
            (None, Some(reply_to)) => {
                writer.send(Outgoing::Reply { to: reply_to, is_last: false, data: &part }).await?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            (None, None) => {}
        }
    }
}
