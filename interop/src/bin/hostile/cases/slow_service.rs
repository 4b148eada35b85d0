//! A service pauses for two seconds while a caller sends it 60 large calls.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::figures::{Figures, Value};
use crate::message::{Incoming, Outgoing};
use crate::peer::Peer;
use crate::server::Target;

const CALLS: u64 = 60;
const LENGTH: usize = 1 << 20;
const PAUSE: Duration = Duration::from_secs(2);
const TIME: Duration = Duration::from_secs(20);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start()?;
    let mut service = Peer::connect(&server).await?;
    service.request(Outgoing::Register { name: "/slow" }).await?;
    let Peer { mut reader, mut writer } = Peer::connect(&server).await?;

    let start = Instant::now();
    let _calling = AbortOnDropHandle::new(tokio::spawn(async move {
        let data = vec![1; LENGTH];
        for id in 0..CALLS {
            writer.send(Outgoing::Call { service: "/slow", id, data: &data }).await?;
        }
        // Returned, so that this direction of the connection stays open.
        Ok::<_, io::Error>(writer)
    }));
    let _serving = AbortOnDropHandle::new(tokio::spawn(async move {
        sleep(PAUSE).await;
        loop {
            if let Incoming::Call { reply_to, .. } = service.reader.receive().await? {
                let reply = Outgoing::Reply { to: &reply_to, is_last: true, data: b"done" };
                service.writer.send(reply).await?;
            }
        }
        #[allow(unreachable_code)]
        Ok::<_, io::Error>(())
    }));

    let (mut answered, mut failed) = (0, 0);
    let mut last = start;
    while answered + failed < CALLS {
        match timeout_at(start + TIME, reader.receive()).await {
            Ok(Ok(Incoming::Reply { code, .. })) => {
                match code {
                    0 => answered += 1,
                    _ => failed += 1,
                }
                last = Instant::now();
            }
            Ok(Ok(_)) => {}
            // The connection has ended, or the time is over.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    figures.add("calls answered", Value::OutOf(answered, CALLS));
    figures.add("calls that failed", Value::Count(failed));
    figures.add(
        "last reply after",
        if last > start { Value::Time(last - start) } else { Value::None },
    );
    figures.add("peak memory", Value::Bytes(server.peak_memory()?));
    Ok(())
}
