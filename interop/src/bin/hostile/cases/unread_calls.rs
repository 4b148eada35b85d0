//! A service never reads its calls. A caller that has called it goes on calling another service.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::common::fate_of_connection;
use crate::calls::{Calls, echo};
use crate::figures::{Figures, Value, duration};
use crate::message::{Incoming, Outgoing};
use crate::peer::Peer;
use crate::server::Target;

const CALLS: u64 = 64;
const LENGTH: usize = 64 << 10;
const TIME: Duration = Duration::from_secs(14);
const PAUSE: Duration = Duration::from_millis(5);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start()?;
    let mut stalled = Peer::connect(&server).await?;
    stalled.request(Outgoing::Register { name: "/stalled" }).await?;
    let _echo = echo(Peer::connect(&server).await?, "/other").await?;
    let mut caller = Caller { peer: Peer::connect(&server).await?, ends: BTreeMap::new() };

    let start = Instant::now();
    let end = start + TIME;
    let data = vec![1; LENGTH];
    let mut calls = Calls::default();
    let send_all = async {
        for id in 0..CALLS {
            let call = Outgoing::Call { service: "/stalled", id, data: &data };
            caller.peer.writer.send(call).await?;
        }
        Ok::<_, io::Error>(())
    };
    match timeout_at(end, send_all).await {
        Ok(sent) => {
            sent?;
            caller.call_until(end, &mut calls).await?;
        }
        // The server has stopped reading from this caller.
        Err(_) => calls.open = Some(start.elapsed()),
    }
    calls.figures("calls to another service", figures);
    figures.add_text("calls to the stalled service", caller.ends(start));
    figures.add("peak memory", Value::Bytes(server.peak_memory()?));
    figures
        .add_text("the service that does not read", fate_of_connection(&mut stalled, start).await);
    Ok(())
}

/// A caller of both services.
struct Caller {
    peer: Peer,
    /// The ends of the calls to the stalled service: for each code, how many, and the time of the last one.
    ends: BTreeMap<i32, (u64, Instant)>,
}

impl Caller {
    /// Calls the other service, one call after the other.
    async fn call_until(&mut self, end: Instant, calls: &mut Calls) -> io::Result<()> {
        for id in CALLS.. {
            let asked = Instant::now();
            if asked >= end {
                break;
            }
            match timeout_at(end, self.call("/other", id)).await {
                Ok(code) => calls.add(code? == 0, asked.elapsed()),
                Err(_) => calls.open = Some(asked.elapsed()),
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Makes a call, and returns the code of its reply. Records the replies to other calls.
    async fn call(&mut self, service: &str, id: u64) -> io::Result<i32> {
        self.peer.writer.send(Outgoing::Call { service, id, data: b"call" }).await?;
        loop {
            let Incoming::Reply { id: of, code, .. } = self.peer.reader.receive().await? else {
                continue;
            };
            if of == id {
                return Ok(code);
            }
            let now = Instant::now();
            let (count, last) = self.ends.entry(code).or_insert((0, now));
            *count += 1;
            *last = now;
        }
    }

    fn ends(&self, start: Instant) -> String {
        let open = CALLS - self.ends.values().map(|(count, _)| count).sum::<u64>();
        let mut parts: Vec<String> = self
            .ends
            .iter()
            .map(|(code, (count, last))| {
                format!("{count} end with {code} within {}", duration(*last - start))
            })
            .collect();
        if open > 0 {
            parts.push(format!("{open} open after {}", duration(start.elapsed())));
        }
        parts.join(", ")
    }
}
