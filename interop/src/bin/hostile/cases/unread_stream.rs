//! A caller asks for a stream of 1 GiB and never reads it, while another one calls the same service.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::fate_of_connection;
use crate::calls::Caller;
use crate::peer::{Heard, Peer, Say, Writer};
use crate::process::Target;
use crate::table::{Figures, Value};

const NAME: &str = "/streams";
const PARTS: u64 = 16_384;
const PART: usize = 64 << 10;
const TIME: Duration = Duration::from_secs(15);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start().await?;
    let mut service = Peer::connect(&server).await?;
    service.ask(Say::Serve { name: NAME }).await?;
    let sent = Arc::new(AtomicU64::new(0));
    let _serving = serve(service, Arc::clone(&sent));

    let mut deaf = Peer::connect(&server).await?;
    let data = Bytes::from_static(b"stream");
    deaf.writer.say(Say::Call { to: NAME, id: "stream", data }).await?;
    let start = Instant::now();
    let others = Caller::of(&server, NAME).await?;
    while start.elapsed() < TIME && sent.load(Ordering::Relaxed) < PARTS {
        sleep(Duration::from_millis(50)).await;
    }
    let took = start.elapsed();
    // What stands still goes on for the whole time; what is through needs a moment to be felt.
    sleep(Duration::from_secs(1)).await;

    others.stop().await.figures("the other caller", figures);
    figures.add("peak memory", Value::Bytes(server.peak()?));
    let parts = sent.load(Ordering::Relaxed);
    let bytes = u64::try_from(PART).map_err(io::Error::other)? * parts;
    figures.add("taken from the service", Value::Bytes(bytes));
    figures.add("in", Value::Time(took));
    figures.say("who does not read", fate_of_connection(&mut deaf, start).await);
    server.stop().await
}

/// One connection, as most services have: its replies go out one after the other.
fn serve(service: Peer, sent: Arc<AtomicU64>) -> [AbortOnDropHandle<io::Result<()>>; 2] {
    let Peer { mut reader, writer } = service;
    let (calls, to_answer) = mpsc::unbounded_channel();
    let reading = tokio::spawn(async move {
        loop {
            if let Heard::Call { id, data } = reader.hear().await?
                && calls.send((id, data)).is_err()
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
    mut calls: mpsc::UnboundedReceiver<(String, Bytes)>,
    sent: Arc<AtomicU64>,
) -> io::Result<()> {
    let part = Bytes::from(vec![1; PART]);
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
            (Some((id, data)), _) if data == "stream" => stream = Some(id),
            (Some((id, data)), _) => writer.say(Say::Reply { to: &id, last: true, data }).await?,
            (None, Some(id)) => {
                writer.say(Say::Reply { to: id, last: false, data: part.clone() }).await?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            (None, None) => {}
        }
    }
}
