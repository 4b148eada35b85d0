//! A service registers and never reads. A caller who has sent it calls goes on calling another service.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::fate_of_connection;
use crate::calls::{Calls, echo};
use crate::peer::{Heard, Peer, Say};
use crate::process::Target;
use crate::table::{Figures, Value, duration};

const CALLS: u64 = 64;
const LENGTH: usize = 64 << 10;
const TIME: Duration = Duration::from_secs(14);
const PAUSE: Duration = Duration::from_millis(5);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start().await?;
    let mut deaf = Peer::connect(&server).await?;
    deaf.ask(Say::Serve { name: "/deaf" }).await?;
    let _echo = echo(Peer::connect(&server).await?, "/other").await?;
    let mut caller = Caller { peer: Peer::connect(&server).await?, ends: BTreeMap::new() };

    let start = Instant::now();
    let end = start + TIME;
    let data = Bytes::from(vec![1; LENGTH]);
    let mut calls = Calls::default();
    let all_said = async {
        for number in 0..CALLS {
            let id = format!("deaf{number}");
            caller.peer.writer.say(Say::Call { to: "/deaf", id: &id, data: data.clone() }).await?;
        }
        Ok::<_, io::Error>(())
    };
    match timeout_at(end, all_said).await {
        Ok(said) => {
            said?;
            caller.call_until(end, &mut calls).await?;
        }
        // The server does not read any more from this caller, whose next call waits for that.
        Err(_) => calls.open = Some(start.elapsed()),
    }
    calls.figures("calls to another service", figures);
    figures.say("calls to who does not read", caller.ends(start));
    figures.add("peak memory", Value::Bytes(server.peak()?));
    figures.say("who does not read", fate_of_connection(&mut deaf, start).await);
    server.stop().await
}

/// What has become of the calls to who does not read: per code, how many, and when the last of them.
struct Caller {
    peer: Peer,
    ends: BTreeMap<i32, (u64, Instant)>,
}

impl Caller {
    /// Calls the other service, one call after the other.
    async fn call_until(&mut self, end: Instant, calls: &mut Calls) -> io::Result<()> {
        for number in 0_u64.. {
            let asked = Instant::now();
            if asked >= end {
                break;
            }
            match timeout_at(end, self.call("/other", &format!("n{number}"))).await {
                Ok(code) => calls.add(code? == 0, asked.elapsed()),
                Err(_) => calls.open = Some(asked.elapsed()),
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Calls somebody else; the reply's code. What comes for the other calls is noted.
    async fn call(&mut self, to: &str, id: &str) -> io::Result<i32> {
        let data = Bytes::from_static(b"call");
        self.peer.writer.say(Say::Call { to, id, data }).await?;
        loop {
            let Heard::Reply { id: of, code, .. } = self.peer.reader.hear().await? else {
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
