//! 100 connections flood the server with messages that are costly to handle, beside a caller and its service.

use std::io;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use gsb_proto::Address;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::calls::{Caller, Calls};
use crate::dialect::Dialect;
use crate::figures::{Figures, Value, median};
use crate::flood::{FLOODED, Flood, flood as frames_of};
use crate::message::Outgoing;
use crate::peer::{Peer, Reader};
use crate::server::{Server, Target};

const CONNECTIONS: u64 = 100;

/// The time limit of all floods, run once.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long the connections flood the server.
const TIME: Duration = Duration::from_secs(3);

/// The least bytes that each connection writes at once.
const CHUNK: usize = 256 << 10;

/// Runs each kind of flood `runs` times. The times are medians of the runs.
pub async fn run(
    target: &Target,
    floods: &[Flood],
    runs: u32,
    figures: &mut Figures,
) -> io::Result<()> {
    for &flood in floods {
        let (mut worst, mut medians) = (Vec::new(), Vec::new());
        let (mut answered, mut calls) = (0, 0);
        for _ in 0..runs {
            let server = target.start()?;
            if server.dialect != Dialect::Gsb {
                figures.add_text("all", "not applicable");
                return Ok(());
            }
            let beside = calls_beside(&server, flood).await?;
            worst.extend(beside.worst_wait());
            if let Value::Time(time) = beside.median() {
                medians.push(time);
            }
            answered += beside.answered;
            calls += beside.made();
        }
        let title = flood.title();
        figures.add(&format!("{title}: calls answered"), Value::OutOf(answered, calls));
        figures.add(&format!("{title}: median wait"), median(medians));
        figures.add(&format!("{title}: worst wait"), median(worst));
    }
    Ok(())
}

/// The outcome of calls during a flood.
async fn calls_beside(server: &Server, flood: Flood) -> io::Result<Calls> {
    let (stop, stopped) = oneshot::channel();
    let (begin, begun) = oneshot::channel();
    let address = server.address().clone();
    // The flood has its own thread, so that it does not delay the service of the calls.
    let flooding = thread::Builder::new().spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut target = Peer::connect_to(&address, Dialect::Gsb).await?;
            target.request(Outgoing::Register { name: &FLOODED }).await?;
            tokio::spawn(discard(target.reader));
            let bytes = frames_of(flood, CHUNK);
            for _ in 0..CONNECTIONS {
                let peer = Peer::connect_to(&address, Dialect::Gsb).await?;
                tokio::spawn(send(peer, bytes.clone(), address.clone()));
            }
            let _ = begin.send(());
            let _ = stopped.await;
            io::Result::Ok(())
        })
    })?;
    let caller = Caller::beside(server).await?;
    if timeout(TIME, begun).await.is_ok() {
        sleep(TIME).await;
    }
    let calls = caller.stop().await;
    let _ = stop.send(());
    match tokio::task::spawn_blocking(|| flooding.join()).await? {
        Ok(ended) => ended.map(|()| calls),
        Err(_) => Err(io::Error::other("the flood's thread has panicked")),
    }
}

/// Sends these bytes repeatedly. A connection that the server closes is made again.
async fn send(mut peer: Peer, bytes: Bytes, address: Address) -> io::Result<()> {
    loop {
        let Peer { reader, mut writer } = peer;
        let reading = AbortOnDropHandle::new(tokio::spawn(discard(reader)));
        // Ends when the server closes the connection.
        let _ = writer.repeat(&bytes).await;
        drop(reading);
        peer = Peer::connect_to(&address, Dialect::Gsb).await?;
    }
}

async fn discard(mut reader: Reader) -> io::Result<()> {
    while reader.discard().await? > 0 {}
    Ok(())
}
