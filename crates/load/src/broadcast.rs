//! A load of broadcasts: one publisher and its subscribers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::measurement::{Measured, Measurement, Outcome, Phase};
use crate::peer::{Connection, Peer};
use crate::preflight::{allow_connections, check_backlog};
use crate::protocol::{Incoming, Protocol};
use crate::target::Target;
use crate::threads::Threads;

/// A broadcast that does not arrive within this time is lost.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// Bytes of the sequence number, with which each payload begins.
const NUMBER: usize = size_of::<u64>();

/// A load of broadcasts.
#[derive(Debug, Clone)]
pub struct Load {
    /// Connections of subscribers.
    pub subscribers: u32,
    /// How many broadcasts the publisher may be ahead of the slowest subscriber.
    pub ahead: u64,
    /// Payload of each broadcast in bytes; at least 8.
    pub payload: usize,
}

/// The progress of the subscribers.
#[derive(Debug)]
struct Progress {
    /// The number of the last broadcast that each received.
    arrived: Vec<AtomicU64>,
    /// Notified when one of them receives a broadcast.
    changed: Notify,
    /// Deliveries during the measurement, and broadcasts that were lost then.
    delivered: AtomicU64,
    missed: AtomicU64,
}

/// Loads a bus with broadcasts. The outcome counts deliveries, and lost ones as errors.
///
/// # Errors
/// The load could not be made.
pub fn run<P: Protocol>(
    load: &Load,
    target: &Target<P>,
    measurement: &Measurement<'_>,
) -> Result<Outcome, Failure> {
    let subscribers = u64::from(load.subscribers);
    check_backlog(load.ahead.saturating_add(subscribers), load.payload.max(NUMBER))?;
    allow_connections(subscribers + 1)?;
    let connect = |_| Connection::connect(target);
    let publisher = connect(0)?;
    let subscribers = (0..load.subscribers).map(connect).collect::<Result<Vec<_>, _>>()?;
    let progress = Arc::new(Progress {
        arrived: subscribers.iter().map(|_| AtomicU64::new(0)).collect(),
        changed: Notify::new(),
        delivered: AtomicU64::new(0),
        missed: AtomicU64::new(0),
    });
    let phase = Phase::new();
    // One thread: the subscribers do nearly all of the work, and the publisher waits for them.
    let threads = Threads::start(1)?;
    let task = threads.spawn(0, {
        let (load, topic) = (load.clone(), target.name("topic", 0));
        let (phase, progress) = (phase.clone(), progress.clone());
        async move {
            let mut tasks = JoinSet::new();
            for (number, subscriber) in subscribers.into_iter().enumerate() {
                let mut peer = subscriber.start()?;
                peer.request(|protocol, out| protocol.subscribe(&topic, out)).await?;
                tasks.spawn(listen(peer, number, progress.clone(), phase.clone()));
            }
            let publisher = publisher.start()?;
            tokio::select! {
                ended = publish(publisher, &topic, &load, &progress, &phase) => ended,
                Some(ended) = tasks.join_next() => ended.unwrap_or(Err(Failure::Panicked)),
            }
        }
    });
    let Measured { elapsed, resources } = measurement.run(&phase, || task.is_finished())?;
    threads.wait(task)?;
    Ok(Outcome {
        elapsed,
        count: progress.delivered.load(Ordering::Relaxed),
        latencies: Histogram::new(3)?,
        errors: progress.missed.load(Ordering::Relaxed),
        example: None,
        resources,
    })
}

async fn publish<P: Protocol>(
    mut peer: Peer<P>,
    topic: &str,
    load: &Load,
    progress: &Progress,
    phase: &Phase,
) -> Result<(), Failure> {
    let mut payload = vec![b'x'; load.payload.max(NUMBER)];
    let mut sent = 0_u64;
    // Broadcasts up to this number are not waited for any more.
    let mut given_up = 0;
    while !phase.is_over() {
        let slowest = progress.arrived.iter().map(|it| it.load(Ordering::Relaxed)).min();
        let slowest = slowest.unwrap_or(sent).max(given_up);
        while sent < slowest + load.ahead {
            sent += 1;
            payload[..NUMBER].copy_from_slice(&sent.to_be_bytes());
            peer.send(|protocol, out| protocol.broadcast(topic, &payload, out));
        }
        peer.flush()?;
        tokio::select! {
            received = peer.receive(|_, _, _| Ok(())) => received?,
            () = progress.changed.notified() => {}
            () = tokio::time::sleep(LOST_AFTER) => given_up = sent,
        }
    }
    Ok(())
}

async fn listen<P: Protocol>(
    mut peer: Peer<P>,
    number: usize,
    progress: Arc<Progress>,
    phase: Phase,
) -> Result<(), Failure> {
    let mut last = 0_u64;
    loop {
        let (mut count, mut missed) = (0, 0);
        peer.receive(|_, incoming, _| {
            if let Incoming::Broadcast { payload } = incoming {
                let now = payload.first_chunk().map_or(0, |now| u64::from_be_bytes(*now));
                missed += now.saturating_sub(last + 1);
                count += 1;
                last = now;
            }
            Ok(())
        })
        .await?;
        progress.arrived[number].store(last, Ordering::Relaxed);
        progress.changed.notify_one();
        if phase.is_measured() {
            progress.delivered.fetch_add(count, Ordering::Relaxed);
            progress.missed.fetch_add(missed, Ordering::Relaxed);
        }
    }
}
