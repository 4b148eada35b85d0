//! A service does something else for two seconds while one caller sends it 60 large calls.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::peer::{Heard, Peer, Say};
use crate::process::Target;
use crate::table::{Figures, Value};

const CALLS: u64 = 60;
const LENGTH: usize = 1 << 20;
const PAUSE: Duration = Duration::from_secs(2);
const TIME: Duration = Duration::from_secs(20);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start().await?;
    let mut service = Peer::connect(&server).await?;
    service.ask(Say::Serve { name: "/slow" }).await?;
    let Peer { mut reader, mut writer } = Peer::connect(&server).await?;

    let start = Instant::now();
    let _calling = AbortOnDropHandle::new(tokio::spawn(async move {
        let data = Bytes::from(vec![1; LENGTH]);
        for number in 0..CALLS {
            let id = format!("n{number}");
            writer.say(Say::Call { to: "/slow", id: &id, data: data.clone() }).await?;
        }
        // Kept, so that the connection stays open in this direction.
        Ok::<_, io::Error>(writer)
    }));
    let _serving = AbortOnDropHandle::new(tokio::spawn(async move {
        sleep(PAUSE).await;
        loop {
            if let Heard::Call { id, .. } = service.reader.hear().await? {
                let data = Bytes::from_static(b"done");
                service.writer.say(Say::Reply { to: &id, last: true, data }).await?;
            }
        }
        #[allow(unreachable_code)]
        Ok::<_, io::Error>(())
    }));

    let (mut answered, mut failed) = (0, 0);
    let mut last = start;
    while answered + failed < CALLS {
        match timeout_at(start + TIME, reader.hear()).await {
            Ok(Ok(Heard::Reply { code, .. })) => {
                match code {
                    0 => answered += 1,
                    _ => failed += 1,
                }
                last = Instant::now();
            }
            Ok(Ok(_)) => {}
            // The connection has ended, or what is missing does not come.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    figures.add("calls answered", Value::OutOf(answered, CALLS));
    figures.add("calls that failed", Value::Count(failed));
    figures.add(
        "last reply after",
        if last > start { Value::Time(last - start) } else { Value::None },
    );
    figures.add("peak memory", Value::Bytes(server.peak()?));
    server.stop().await
}
