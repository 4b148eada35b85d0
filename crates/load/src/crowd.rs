//! Connections that do nothing, with names or without.

use std::time::{Duration, Instant};

use gsb_proto::MAX_NAME;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::limits::allow_connections;
use crate::peer::Connected;
use crate::process::Process;
use crate::threads::Threads;
use crate::{Failure, Protocol, Target};

/// How many names each connection asks for before it waits for answers.
const AHEAD: u32 = 1000;

/// What a crowd consists of.
#[derive(Debug, Clone)]
pub struct Load {
    /// How many connections.
    pub connections: u32,
    /// How many names they have in all.
    pub names: u32,
    /// How long each name is, in bytes; 40 at least, [`MAX_NAME`] at most.
    pub name_length: usize,
}

/// Connections that do nothing but answer Pings, until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    /// How long it took to connect and to register.
    pub elapsed: Duration,
    /// By how many bytes the memory of the process of the bus has grown.
    pub memory: Option<u64>,
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Failure>>,
    threads: Threads,
}

/// Makes a crowd. `progress` is told how many connections and names there are.
///
/// # Errors
/// It could not be made.
pub fn gather<P: Protocol>(
    load: &Load,
    target: &Target<P>,
    pid: Option<u32>,
    progress: &dyn Fn(u64),
) -> Result<Crowd, Failure> {
    allow_connections(load.connections.into())?;
    let before = pid.map(Process::memory_of).transpose()?;
    let begin = Instant::now();
    let (note, mut notes) = mpsc::channel(16);
    let (end, is_over) = oneshot::channel();
    let threads = Threads::start(1)?;
    let task = threads.spawn(0, stay(load.clone(), target.clone(), note, is_over));
    let mut are_there = false;
    while let Some(note) = notes.blocking_recv() {
        match note {
            Note::SoMany(count) => progress(count),
            Note::AllThere => are_there = true,
        }
    }
    let elapsed = begin.elapsed();
    if !are_there {
        // It has ended, and says why.
        return Err(threads.wait(task).err().unwrap_or(Failure::Closed));
    }
    let after = pid.map(Process::memory_of).transpose()?;
    let memory = before.zip(after).map(|(before, after)| after.saturating_sub(before));
    Ok(Crowd { elapsed, memory, end, task, threads })
}

impl Crowd {
    /// Whether it has ended by itself: a connection has failed.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Lets it go.
    ///
    /// # Errors
    /// Not all connections were there until now.
    pub fn disperse(self) -> Result<(), Failure> {
        // Unless it has ended before.
        let _ = self.end.send(());
        self.threads.wait(self.task)
    }
}

/// How far a crowd is.
enum Note {
    /// There are so many connections or names.
    SoMany(u64),
    /// All are there.
    AllThere,
}

/// Notes how far it is until all are there, then stays until it is told to end.
async fn stay<P: Protocol>(
    load: Load,
    target: Target<P>,
    note: mpsc::Sender<Note>,
    end: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let mut crowd = JoinSet::new();
    let mut number = 0;
    for connection in 0..load.connections {
        let mut peer = Connected::connect(&target)?.join()?;
        let last = u64::from(load.names) * u64::from(connection + 1) / u64::from(load.connections);
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        while number < last {
            let first = number;
            let until = last.min(number.saturating_add(AHEAD));
            let length = load.name_length.min(MAX_NAME);
            peer.say(|protocol, out| {
                for number in first..until {
                    let name = target.name("crowd", number);
                    // No digit, so that no two become the same.
                    protocol.serve(&format!("{name:x<length$}"), out);
                }
            });
            peer.await_done(until - first).await?;
            number = until;
            // Nobody has to know.
            let _ = note.send(Note::SoMany(number.into())).await;
        }
        peer.flush()?;
        crowd.spawn(async move {
            loop {
                peer.receive(|_, _, _| Ok(())).await?;
            }
        });
        if load.names == 0 {
            let _ = note.send(Note::SoMany((connection + 1).into())).await;
        }
    }
    let _ = note.send(Note::AllThere).await;
    drop(note);
    tokio::select! {
        Some(ended) = crowd.join_next() => ended.unwrap_or(Err(Failure::Panicked)),
        _ = end => Ok(()),
    }
}
