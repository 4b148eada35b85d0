//! 100 connections send without a pause what is costly to handle, and a caller and its service use the same
//! server.

use std::io;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use gsb_proto::Address;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use crate::calls::{Caller, Calls};
use crate::gsb;
use crate::peer::{Dialect, Peer, Reader, Say};
use crate::process::{Server, Target};
use crate::table::{Figures, Value};

const CONNECTIONS: u64 = 100;

/// What all floods together do not take that are played once.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long the connections flood the server.
const TIME: Duration = Duration::from_secs(3);

/// What each connection writes again and again has at least so many bytes.
const CHUNK: usize = 256 << 10;

/// What the connections of a flood send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Flood {
    /// Calls without a reply to a service that reads them
    Pushes,
    /// Registrations of names that are not valid, 1 KiB of characters that have to be escaped
    RefusedNames,
    /// Calls to addresses without a service, 1 KiB of characters that have to be escaped
    CallsToNobody,
    /// Registrations of a name that another connection holds, 1 KiB of characters that have to be escaped
    TakenNames,
    /// Subscriptions, their ends, and broadcasts, with topics of 60 segments
    DeepTopics,
    /// Messages of 65,000 fields, by connections that come again where the server closes them
    ManyFields,
    /// Messages of 4,000 fields
    SomeFields,
}

impl Flood {
    fn title(self) -> &'static str {
        match self {
            Flood::Pushes => "pushes",
            Flood::RefusedNames => "refused names",
            Flood::CallsToNobody => "calls to nobody",
            Flood::TakenNames => "taken names",
            Flood::DeepTopics => "deep topics",
            Flood::ManyFields => "65,000 fields",
            Flood::SomeFields => "4,000 fields",
        }
    }
}

/// Plays each flood as often as is set; the times are medians of the runs.
pub async fn run(target: &Target, settings: &Settings, figures: &mut Figures) -> io::Result<()> {
    for &flood in &settings.floods {
        let (mut worst, mut median) = (Vec::new(), Vec::new());
        let (mut answered, mut calls) = (0, 0);
        for _ in 0..settings.runs {
            let server = target.start().await?;
            if server.dialect != Dialect::Gsb {
                figures.say("all", "not applicable");
                return server.stop().await;
            }
            let beside = calls_beside(&server, flood).await?;
            worst.extend(beside.worst_wait());
            median.extend(beside.median_wait());
            answered += beside.answered;
            calls += beside.made();
            server.stop().await?;
        }
        let title = flood.title();
        figures.add(&format!("{title}: calls answered"), Value::OutOf(answered, calls));
        figures.add(&format!("{title}: median wait"), middle(median));
        figures.add(&format!("{title}: worst wait"), middle(worst));
    }
    Ok(())
}

fn middle(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(Value::None, |&time| Value::Time(time))
}

/// What becomes of calls while a flood lasts.
async fn calls_beside(server: &Server, flood: Flood) -> io::Result<Calls> {
    let (stop, stopped) = oneshot::channel();
    let (begin, begun) = oneshot::channel();
    let address = server.address.clone();
    // The service of the calls that are measured has the runtime of this program for itself.
    let flooding = thread::Builder::new().spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut target = Peer::connect_to(&address, Dialect::Gsb).await?;
            target.ask(Say::Serve { name: &gsb::FLOODED }).await?;
            tokio::spawn(discard(target.reader));
            let bytes = gsb::flood(flood, CHUNK);
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

/// Sends these bytes again and again, by one connection after the other where the server closes them.
async fn send(mut peer: Peer, bytes: Bytes, address: Address) -> io::Result<()> {
    loop {
        let Peer { reader, mut writer } = peer;
        let reading = AbortOnDropHandle::new(tokio::spawn(discard(reader)));
        // Ends with an error, when the server takes no more.
        let _ = writer.repeat(&bytes).await;
        drop(reading);
        peer = Peer::connect_to(&address, Dialect::Gsb).await?;
    }
}

async fn discard(mut reader: Reader) -> io::Result<()> {
    while reader.discard().await? > 0 {}
    Ok(())
}
