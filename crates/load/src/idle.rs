//! A load of idle connections, with or without registered names.

use std::time::{Duration, Instant};

use gsb_proto::MAX_NAME;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::failure::Failure;
use crate::peer::Connection;
use crate::preflight::allow_connections;
use crate::protocol::Protocol;
use crate::resources::ResourceUse;
use crate::target::Target;
use crate::threads::Threads;

/// How many names a connection asks for before it waits for the answers.
const NAMES_AHEAD: u32 = 1000;

/// A load of idle connections.
#[derive(Debug, Clone)]
pub struct Load {
    /// The number of connections.
    pub connections: u32,
    /// The number of names that all of them register together.
    pub names: u32,
    /// The length of each name in bytes: at least 40, and at most [`MAX_NAME`].
    pub name_length: usize,
}

/// Connections that do nothing but answer Pings. Dropping this closes them.
#[derive(Debug)]
pub struct IdleConnections {
    /// How long it took to connect and to register all names.
    pub elapsed: Duration,
    /// The growth of the memory of the bus in bytes; `None` if its process is not known.
    pub memory: Option<u64>,
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Failure>>,
    threads: Threads,
}

/// Makes idle connections. `progress` is called with the number of names so far, or of connections if there are no
/// names. `pid` is the process of the bus.
///
/// # Errors
/// A connection could not be made, or a name could not be registered.
pub fn connect<P: Protocol>(
    load: &Load,
    target: &Target<P>,
    pid: Option<u32>,
    progress: &dyn Fn(u64),
) -> Result<IdleConnections, Failure> {
    allow_connections(load.connections.into())?;
    let before = pid.map(ResourceUse::of).transpose()?;
    let begin = Instant::now();
    let (report, mut reports) = mpsc::channel(16);
    let (end, is_over) = oneshot::channel();
    let threads = Threads::start(1)?;
    let task = threads.spawn(0, stay_connected(load.clone(), target.clone(), report, is_over));
    let mut is_complete = false;
    while let Some(report) = reports.blocking_recv() {
        match report {
            Report::Count(count) => progress(count),
            Report::Complete => is_complete = true,
        }
    }
    let elapsed = begin.elapsed();
    if !is_complete {
        // The task has ended, and its result says why.
        return Err(threads.wait(task).err().unwrap_or(Failure::Closed));
    }
    let after = pid.map(ResourceUse::of).transpose()?;
    let growth =
        |(before, after): (ResourceUse, ResourceUse)| after.memory.saturating_sub(before.memory);
    let memory = before.zip(after).map(growth);
    Ok(IdleConnections { elapsed, memory, end, task, threads })
}

impl IdleConnections {
    /// Whether a connection has failed.
    pub fn has_failed(&self) -> bool {
        self.task.is_finished()
    }

    /// Closes the connections.
    ///
    /// # Errors
    /// A connection failed before.
    pub fn close(self) -> Result<(), Failure> {
        // Fails if the task has already ended.
        let _ = self.end.send(());
        self.threads.wait(self.task)
    }
}

/// The progress of connecting.
enum Report {
    /// The number of names or connections so far.
    Count(u64),
    /// All connections are made and all names are registered.
    Complete,
}

/// Makes the connections, then keeps them until `end` fires.
async fn stay_connected<P: Protocol>(
    load: Load,
    target: Target<P>,
    reports: mpsc::Sender<Report>,
    end: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    // Reports are for display only, so a failure to send one does not matter.
    let mut peers = JoinSet::new();
    let mut number = 0;
    for connection in 0..load.connections {
        let mut peer = Connection::connect(&target)?.start()?;
        let last = u64::from(load.names) * u64::from(connection + 1) / u64::from(load.connections);
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        while number < last {
            let first = number;
            let until = last.min(number.saturating_add(NAMES_AHEAD));
            let length = load.name_length.min(MAX_NAME);
            peer.send(|protocol, out| {
                for number in first..until {
                    let name = target.name("idle", number);
                    // The fill is not a digit, so that all names stay different.
                    protocol.register(&format!("{name:x<length$}"), false, out);
                }
            });
            peer.await_done(until - first).await?;
            number = until;
            let _ = reports.send(Report::Count(number.into())).await;
        }
        peer.flush()?;
        peers.spawn(async move {
            loop {
                peer.receive(|_, _, _| Ok(())).await?;
            }
        });
        if load.names == 0 {
            let _ = reports.send(Report::Count((connection + 1).into())).await;
        }
    }
    let _ = reports.send(Report::Complete).await;
    drop(reports);
    tokio::select! {
        Some(ended) = peers.join_next() => ended.unwrap_or(Err(Failure::Panicked)),
        _ = end => Ok(()),
    }
}
