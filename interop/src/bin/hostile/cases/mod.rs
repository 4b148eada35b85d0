//! The cases. Each starts its own server, so that the memory of the server shows the cost of that case.

mod announced;
mod churn;
mod common;
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

use crate::figures::Figures;
use crate::flood::Flood;
use crate::server::Target;

/// The time limit of a case with a server that makes progress.
const LIMIT: Duration = Duration::from_secs(40);

/// A way to be hostile or unlucky.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// One connection sends Pings and never reads
    PingFlood,
    /// A service pauses before it reads 60 calls of 1 MiB
    SlowService,
    /// A caller never reads the stream that it asked for
    UnreadStream,
    /// A service never reads its calls
    UnreadCalls,
    /// A subscriber never reads its broadcasts
    UnreadBroadcasts,
    /// Two callers use the same request id at the same service
    SameIds,
    /// The owner of a name is killed
    DeadNames,
    /// 10,000 connections are idle
    Idle,
    /// 2,000 connections announce large messages and do not send them
    Announced,
    /// A service with 1,000 open calls is killed
    KilledService,
    /// 20,000 connections are made and closed
    Churn,
    /// 100 connections flood the server
    Floods,
}

/// Options of the cases.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The kinds of flood.
    pub floods: Vec<Flood>,
    /// How often each kind of flood runs.
    pub runs: u32,
}

impl Case {
    /// Its number in the table.
    pub fn number(self) -> usize {
        self as usize + 1
    }

    /// Its title in the table.
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
            Case::Floods => "100 flooding connections",
        }
    }

    /// Runs the case, and adds its figures. If it fails, the figures so far are kept.
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
            Case::Floods => floods::run(target, &settings.floods, settings.runs, figures).await,
        }
    }

    /// Its time limit, which a server that makes progress does not reach.
    pub fn limit(self, settings: &Settings) -> Duration {
        match self {
            Case::Floods => floods::LIMIT * settings.runs,
            _ => LIMIT,
        }
    }
}
