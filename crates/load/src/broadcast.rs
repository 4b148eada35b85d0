//! One that broadcasts, and those who have subscribed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::limits::{allow_connections, check_backlog};
use crate::measure::{Measured, Stage};
use crate::peer::Connected;
use crate::threads::Threads;
use crate::{Failure, Heard, Measure, Outcome, Peer, Protocol, Target};

/// Longer than any broadcast is under way that arrives.
const LOST: Duration = Duration::from_millis(200);

/// The number of the broadcast, at the front of its payload.
const NUMBER: usize = size_of::<u64>();

/// A load of broadcasts.
#[derive(Debug, Clone)]
pub struct Load {
    /// Connections that have subscribed.
    pub subscribers: u32,
    /// How many broadcasts are sent before the slowest subscriber has the first of them.
    pub ahead: u64,
    /// Bytes that each carries, 8 at least.
    pub payload: usize,
}

/// How far the subscribers are.
#[derive(Debug)]
struct Progress {
    /// The number of the last broadcast that came, for each.
    arrived: Vec<AtomicU64>,
    /// Another has come.
    changed: Notify,
    /// How many came while it was measured, and how many never did.
    delivered: AtomicU64,
    missed: AtomicU64,
}

/// Loads a bus with broadcasts. An outcome counts deliveries, and as errors those that did not happen.
///
/// # Errors
/// The load could not be made.
pub fn run<P: Protocol>(
    load: &Load,
    target: &Target<P>,
    measure: &Measure<'_>,
) -> Result<Outcome, Failure> {
    let subscribers = u64::from(load.subscribers);
    check_backlog(load.ahead.saturating_add(subscribers), load.payload.max(NUMBER))?;
    allow_connections(subscribers + 1)?;
    let connect = |_| Connected::connect(target);
    let publisher = connect(0)?;
    let subscribers = (0..load.subscribers).map(connect).collect::<Result<Vec<_>, _>>()?;
    let progress = Arc::new(Progress {
        arrived: subscribers.iter().map(|_| AtomicU64::new(0)).collect(),
        changed: Notify::new(),
        delivered: AtomicU64::new(0),
        missed: AtomicU64::new(0),
    });
    let stage = Stage::new();
    // All in one thread: the subscribers do nearly all there is to do, and the publisher waits for them.
    let threads = Threads::start(1)?;
    let task = threads.spawn(0, {
        let (load, topic) = (load.clone(), target.name("topic", 0));
        let (stage, progress) = (stage.clone(), progress.clone());
        async move {
            let mut tasks = JoinSet::new();
            for (number, subscriber) in subscribers.into_iter().enumerate() {
                let mut peer = subscriber.join()?;
                peer.ask(|protocol, out| protocol.subscribe(&topic, out)).await?;
                tasks.spawn(listen(peer, number, progress.clone(), stage.clone()));
            }
            let publisher = publisher.join()?;
            tokio::select! {
                ended = publish(publisher, &topic, &load, &progress, &stage) => ended,
                Some(ended) = tasks.join_next() => ended.unwrap_or(Err(Failure::Panicked)),
            }
        }
    });
    let Measured { elapsed, need } = measure.run(&stage, || task.is_finished())?;
    threads.wait(task)?;
    Ok(Outcome {
        elapsed,
        count: progress.delivered.load(Ordering::Relaxed),
        times: Histogram::new(3)?,
        errors: progress.missed.load(Ordering::Relaxed),
        example: None,
        need,
    })
}

async fn publish<P: Protocol>(
    mut peer: Peer<P>,
    topic: &str,
    load: &Load,
    progress: &Progress,
    stage: &Stage,
) -> Result<(), Failure> {
    let mut payload = vec![b'x'; load.payload.max(NUMBER)];
    let mut sent = 0_u64;
    // Those before were lost on their way to somebody.
    let mut given_up = 0;
    while !stage.is_over() {
        let slowest = progress.arrived.iter().map(|it| it.load(Ordering::Relaxed)).min();
        let slowest = slowest.unwrap_or(sent).max(given_up);
        while sent < slowest + load.ahead {
            sent += 1;
            payload[..NUMBER].copy_from_slice(&sent.to_be_bytes());
            peer.say(|protocol, out| protocol.broadcast(topic, &payload, out));
        }
        peer.flush()?;
        tokio::select! {
            received = peer.receive(|_, _, _| Ok(())) => received?,
            () = progress.changed.notified() => {}
            () = tokio::time::sleep(LOST) => given_up = sent,
        }
    }
    Ok(())
}

async fn listen<P: Protocol>(
    mut peer: Peer<P>,
    number: usize,
    progress: Arc<Progress>,
    stage: Stage,
) -> Result<(), Failure> {
    let mut last = 0_u64;
    loop {
        let (mut count, mut missed) = (0, 0);
        peer.receive(|_, heard, _| {
            if let Heard::Broadcast { payload } = heard {
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
        if stage.is_measured() {
            progress.delivered.fetch_add(count, Ordering::Relaxed);
            progress.missed.fetch_add(missed, Ordering::Relaxed);
        }
    }
}
