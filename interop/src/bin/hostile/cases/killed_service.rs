//! A service is killed while many callers wait for its replies.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::crowd;
use crate::peer::{Heard, Peer, Say};
use crate::process::Target;
use crate::table::{Figures, Value};
use crate::victim::VictimProcess;

const NAME: &str = "/doomed";
const CALLERS: u64 = 100;
const CALLS_OF_EACH: u64 = 10;
const CALLS: u64 = CALLERS * CALLS_OF_EACH;
const TIME: Duration = Duration::from_secs(8);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start().await?;
    let mut service = VictimProcess::start(&server, NAME, true).await?;
    let mut callers = crowd(&server, CALLERS).await?;
    for (number, caller) in callers.iter_mut().enumerate() {
        for call in 0..CALLS_OF_EACH {
            // Unlike in the case of the same ids, nobody is to be confused.
            let id = format!("n{number}-{call}");
            let data = Bytes::from_static(b"call");
            caller.writer.say(Say::Call { to: NAME, id: &id, data }).await?;
        }
    }
    let heard = service.hears(CALLS).await?;

    let start = Instant::now();
    service.kill().await?;
    let mut waiting = JoinSet::new();
    for caller in callers {
        waiting.spawn(ends(caller, start + TIME));
    }
    let (mut ended, mut last) = (0, start);
    while let Some(ends) = waiting.join_next().await {
        let ends = ends?;
        ended += ends.0;
        last = last.max(ends.1.unwrap_or(start));
    }
    figures.add("calls that reached it", Value::OutOf(heard, CALLS));
    figures.add("calls that end", Value::OutOf(ended, CALLS));
    figures.add("the last after", if ended > 0 { Value::Time(last - start) } else { Value::None });
    server.stop().await
}

/// How many of a caller's calls end, and when the last of them.
async fn ends(mut caller: Peer, end: Instant) -> (u64, Option<Instant>) {
    let (mut count, mut last) = (0, None);
    while count < CALLS_OF_EACH {
        match timeout_at(end, caller.reader.hear()).await {
            Ok(Ok(Heard::Reply { .. })) => {
                count += 1;
                last = Some(Instant::now());
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    (count, last)
}
