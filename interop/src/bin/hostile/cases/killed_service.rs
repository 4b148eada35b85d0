//! A service is killed while many callers wait for its replies.

use std::io;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::common::connect_many;
use crate::figures::{Figures, Value};
use crate::message::{Incoming, Outgoing};
use crate::peer::Peer;
use crate::server::Target;
use crate::victim::VictimProcess;

const NAME: &str = "/doomed";
const CALLERS: u64 = 100;
const CALLS_OF_EACH: u64 = 10;
const CALLS: u64 = CALLERS * CALLS_OF_EACH;
const TIME: Duration = Duration::from_secs(8);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start()?;
    let mut service = VictimProcess::start(&server, NAME, true).await?;
    let mut callers = connect_many(&server, CALLERS).await?;
    for (number, caller) in callers.iter_mut().enumerate() {
        for call in 0..CALLS_OF_EACH {
            // Different from the ids of all other callers, unlike in the case `same_ids`.
            let id = number as u64 * CALLS_OF_EACH + call;
            caller.writer.send(Outgoing::Call { service: NAME, id, data: b"call" }).await?;
        }
    }
    let received = service.receives(CALLS).await?;

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
    figures.add("calls that reached it", Value::OutOf(received, CALLS));
    figures.add("calls that end", Value::OutOf(ended, CALLS));
    figures.add("the last after", if ended > 0 { Value::Time(last - start) } else { Value::None });
    Ok(())
}

/// How many calls of a caller end, and when the last of them does.
async fn ends(mut caller: Peer, end: Instant) -> (u64, Option<Instant>) {
    let (mut count, mut last) = (0, None);
    while count < CALLS_OF_EACH {
        match timeout_at(end, caller.reader.receive()).await {
            Ok(Ok(Incoming::Reply { .. })) => {
                count += 1;
                last = Some(Instant::now());
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    (count, last)
}
