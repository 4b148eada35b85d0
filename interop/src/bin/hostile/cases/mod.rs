//! The cases: each starts a server of its own, so that its memory is the case's alone.

mod announced;
mod churn;
mod dead_names;
mod floods;
mod idle;
mod killed_service;
mod ping_flood;
mod same_ids;
mod slow_service;
mod unread_broadcasts;
mod unread_calls;
mod unread_stream;

use std::io;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep_until, timeout};

use crate::peer::Peer;
use crate::process::{Server, Target};
use crate::table::Figures;

pub use floods::Flood;

/// What no case takes that is played once, if the server does anything at all.
const LIMIT: Duration = Duration::from_secs(40);

/// How many connections are made at the same time, where many are made.
const AT_ONCE: usize = 50;

/// By then a server that gives up a connection which takes nothing has done so: the usual limit is 10 s.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(12);

/// One way to be hostile, or unlucky.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// One connection sends Pings and never reads
    PingFlood,
    /// A service pauses before it reads 60 calls of 1 MiB
    SlowService,
    /// A caller never reads the stream that it has asked for
    UnreadStream,
    /// A service never reads its calls
    UnreadCalls,
    /// A subscriber never reads what is broadcast to it
    UnreadBroadcasts,
    /// Two callers use the same request id at the same service
    SameIds,
    /// The owner of a name is killed
    DeadNames,
    /// 10,000 connections do nothing
    Idle,
    /// 2,000 connections announce large messages that do not come
    Announced,
    /// A service with 1,000 open calls is killed
    KilledService,
    /// 20,000 connections come and go
    Churn,
    /// 100 connections send without a pause
    Floods,
}

/// What is to be known beside the case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The kinds of flood to play.
    pub floods: Vec<Flood>,
    /// How often each kind of flood is played.
    pub runs: u32,
}

impl Case {
    /// Its place in the table.
    pub fn number(self) -> usize {
        self as usize + 1
    }

    /// What happens, in a few words.
    pub fn title(self) -> &'static str {
        match self {
            Case::PingFlood => "ping flood, answers unread",
            Case::SlowService => "60 MiB of calls, service pauses 2 s",
            Case::UnreadStream => "1 GiB stream, caller never reads",
            Case::UnreadCalls => "4 MiB of calls, service never reads",
            Case::UnreadBroadcasts => "1 GiB broadcast, subscriber never reads",
            Case::SameIds => "two callers with the same request id",
            Case::DeadNames => "names of killed processes",
            Case::Idle => "10,000 idle connections",
            Case::Announced => "1,000 messages announced, one byte sent of each",
            Case::KilledService => "service with 1,000 open calls killed",
            Case::Churn => "20,000 connections come and go",
            Case::Floods => "100 connections that send without a pause",
        }
    }

    /// Plays it, and adds what was measured as far as it came.
    pub async fn run(
        self,
        target: &Target,
        settings: &Settings,
        figures: &mut Figures,
    ) -> io::Result<()> {
        match self {
            Case::PingFlood => ping_flood::run(target, figures).await,
            Case::SlowService => slow_service::run(target, figures).await,
            Case::UnreadStream => unread_stream::run(target, figures).await,
            Case::UnreadCalls => unread_calls::run(target, figures).await,
            Case::UnreadBroadcasts => unread_broadcasts::run(target, figures).await,
            Case::SameIds => same_ids::run(target, figures).await,
            Case::DeadNames => dead_names::run(target, figures).await,
            Case::Idle => idle::run(target, figures).await,
            Case::Announced => announced::run(target, figures).await,
            Case::KilledService => killed_service::run(target, figures).await,
            Case::Churn => churn::run(target, figures).await,
            Case::Floods => floods::run(target, settings, figures).await,
        }
    }

    /// What it does not take, if the server does anything at all.
    pub fn limit(self, settings: &Settings) -> Duration {
        match self {
            Case::Floods => floods::LIMIT * settings.runs,
            _ => LIMIT,
        }
    }
}

/// So many connections, each introduced.
async fn crowd(server: &Server, count: u64) -> io::Result<Vec<Peer>> {
    let connections = stream::iter(0..count).map(|_| Peer::connect(server));
    connections.buffer_unordered(AT_ONCE).try_collect().await
}

/// Reads at last, for a short time, on a connection that has not read since `start`: whether the server has
/// kept it, and how much it had kept for it.
async fn fate_of_connection(peer: &mut Peer, start: Instant) -> String {
    sleep_until(start + GIVEN_UP_AFTER).await;
    const SILENCE: Duration = Duration::from_millis(500);
    const TIME: Duration = Duration::from_secs(3);
    let reading = Instant::now();
    let mut count = 0_u64;
    loop {
        match timeout(SILENCE, peer.reader.hear()).await {
            Ok(Ok(_)) if reading.elapsed() > TIME => {
                return format!("kept, {count} messages and more");
            }
            Ok(Ok(_)) => count += 1,
            Ok(Err(_)) => return format!("closed, {count} messages left"),
            Err(_) => return format!("kept, {count} messages"),
        }
    }
}
