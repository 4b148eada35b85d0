//! A load of calls and their replies.

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::measurement::{Measured, Measurement, Outcome, Phase};
use crate::peer::{Connection, Peer};
use crate::preflight::{allow_connections, check_backlog};
use crate::protocol::{Incoming, Protocol};
use crate::target::Target;
use crate::threads::Threads;

/// A load of calls: each caller keeps `depth` calls open, and makes the next call when one ends.
#[derive(Debug, Clone)]
pub struct Load {
    /// Connections of callers.
    pub callers: u32,
    /// Connections of services.
    pub services: u32,
    /// Open calls of each caller.
    pub depth: u32,
    /// Payload of each call in bytes.
    pub payload: usize,
    /// How the services answer.
    pub answer: Answer,
    /// Threads of the load: 1, which leaves the most processor time to the bus, or 2, one for callers and one for
    /// services.
    pub threads: u32,
    /// Nothing is registered, and each caller has its own service, which connects just before it: for a relay that
    /// joins every two consecutive connections.
    pub is_paired: bool,
    /// How the calls are distributed over the services.
    pub distribution: Distribution,
    /// After how many milliseconds the bus ends a call; 0 is never.
    pub timeout_ms: u32,
}

impl Load {
    /// Whether all services have the same name.
    fn is_shared(&self) -> bool {
        self.distribution == Distribution::ByBus
    }

    /// Checks that this process may make the load.
    fn check(&self) -> Result<(), Failure> {
        let Load { callers, services, depth, payload, answer, .. } = *self;
        let open = u64::from(callers) * u64::from(depth);
        check_backlog(open, payload)?;
        if let Answer::Stream { chunks, payload } = answer {
            check_backlog(open.saturating_mul(chunks.into()), payload)?;
        }
        // Each service may hold one call that is not complete yet.
        check_backlog(services.into(), payload)?;
        allow_connections(u64::from(callers) + u64::from(services))
    }
}

/// How often a caller that receives nothing checks whether the measurement is over.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A call that is open for longer than this at the end counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// How calls are distributed over services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Each caller calls one service.
    PerCaller,
    /// Each caller calls all services.
    PerCall,
    /// All services share one name, and the bus distributes the calls.
    ByBus,
}

/// How a service answers a call.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// One reply with the payload of the call.
    Echo,
    /// A stream of replies.
    Stream {
        /// The number of replies.
        chunks: u32,
        /// The payload of each reply in bytes.
        payload: usize,
    },
}

/// The highest latency that is recorded, in nanoseconds: one hour. A longer one counts as this.
const HIGHEST_LATENCY: u64 = 3_600_000_000_000;

/// The results of all callers. They share one histogram: a histogram for each would take much memory, and the time to
/// touch it.
#[derive(Debug)]
struct Tally {
    /// Latencies in nanoseconds.
    latencies: Histogram<u64>,
    /// Calls that ended during the measurement, including those that began before.
    count: u64,
    errors: u64,
    example: Option<String>,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        // Three significant digits, and a fixed size: growing would delay open calls.
        let latencies = Histogram::new_with_bounds(1, HIGHEST_LATENCY, 3)?;
        Ok(Tally { latencies, count: 0, errors: 0, example: None })
    }
}

/// Loads a bus with calls. Calls that fail are counted in [`Outcome::errors`].
///
/// # Errors
/// The load could not be made.
pub fn run<P: Protocol>(
    load: &Load,
    target: &Target<P>,
    measurement: &Measurement<'_>,
) -> Result<Outcome, Failure> {
    load.check()?;
    let phase = Phase::new();
    let connect = || Connection::connect(target);
    let name = |number| target.name("service", if load.is_shared() { 0 } else { number });
    let names: Vec<String> = (0..load.services).map(name).collect();
    let (mut services, mut callers) = (Vec::new(), Vec::new());
    if load.is_paired {
        for _ in 0..load.callers {
            services.push(connect()?);
            callers.push(connect()?);
        }
    } else {
        services = (0..load.services).map(|_| connect()).collect::<Result<_, _>>()?;
        callers = (0..load.callers).map(|_| connect()).collect::<Result<_, _>>()?;
    }

    let threads = Threads::start(load.threads)?;
    let (ready, is_ready) = mpsc::channel();
    let (end, is_over) = oneshot::channel();
    let served = (!load.is_paired).then(|| names.clone());
    let services =
        threads.spawn(0, serve(services, served, load.clone(), phase.clone(), ready, is_over));
    if is_ready.recv().is_err() {
        // The services have ended, and their result says why.
        return Err(threads.wait(services).err().unwrap_or(Failure::Panicked));
    }
    let callers = threads.spawn(1, call(load.clone(), callers, names, phase.clone()));
    let measured = measurement.run(&phase, || callers.is_finished() || services.is_finished());
    let tally = threads.wait(callers);
    // Fails if the services have already ended.
    let _ = end.send(());
    threads.wait(services)?;
    let Measured { elapsed, resources } = measured?;
    let Tally { latencies, count, errors, example } = tally?;
    Ok(Outcome { elapsed, count, latencies, errors, example, resources })
}

/// Serves on all connections until `end` fires. `ready` is notified when all names are registered.
async fn serve<P: Protocol>(
    connections: Vec<Connection<P>>,
    names: Option<Vec<String>>,
    load: Load,
    phase: Phase,
    ready: mpsc::Sender<()>,
    end: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let mut services = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        let mut peer = connection.start()?;
        let is_shared = load.is_shared();
        if let Some(names) = &names {
            peer.request(|protocol, out| protocol.register(&names[number], is_shared, out)).await?;
        }
        services.spawn(async move { answer_all(&mut peer, load.answer).await });
    }
    // Fails if the load is over.
    let _ = ready.send(());
    tokio::select! {
        Some(ended) = services.join_next() => {
            let ended = ended.unwrap_or(Err(Failure::Panicked));
            // A relay closes the connection of a service when its caller ends.
            if phase.is_over() { Ok(()) } else { ended }
        }
        _ = end => Ok(()),
    }
}

async fn answer_all<P: Protocol>(peer: &mut Peer<P>, answer: Answer) -> Result<(), Failure> {
    let chunk = match answer {
        Answer::Echo => Vec::new(),
        Answer::Stream { payload, .. } => vec![b'x'; payload],
    };
    loop {
        peer.receive(|protocol, incoming, out| {
            if let Incoming::Call { reply_to, payload } = incoming {
                match answer {
                    Answer::Echo => protocol.reply(reply_to, payload, true, out),
                    Answer::Stream { chunks, .. } => {
                        for number in 1..=chunks {
                            protocol.reply(reply_to, &chunk, number == chunks, out);
                        }
                    }
                }
            }
            Ok(())
        })
        .await?;
    }
}

/// Calls on all connections until the measurement is over.
async fn call<P: Protocol>(
    load: Load,
    connections: Vec<Connection<P>>,
    names: Vec<String>,
    phase: Phase,
) -> Result<Tally, Failure> {
    let mut callers = JoinSet::new();
    let tally = Arc::new(Mutex::new(Tally::new()?));
    let mut first_id = 0;
    for (number, connection) in connections.into_iter().enumerate() {
        let peer = connection.start()?;
        let mut names = names.clone();
        names.rotate_left(number % load.services as usize);
        if load.distribution != Distribution::PerCall {
            names.truncate(1);
        }
        callers.spawn(call_on(peer, names, first_id, load.clone(), phase.clone(), tally.clone()));
        first_id += u64::from(load.depth);
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap_or(Err(Failure::Panicked))?;
    }
    // All callers have ended, and dropped theirs.
    Arc::into_inner(tally).map(Mutex::into_inner).ok_or(Failure::Panicked)
}

/// A call that is made again each time that it ends.
struct OpenCall {
    bytes: Vec<u8>,
    begin: Instant,
    /// Whether the measurement had begun when it was made.
    is_measured: bool,
}

/// Calls on one connection. Its ids begin at `first_id`, and no other caller uses them, since not every bus separates
/// the ids of different callers.
async fn call_on<P: Protocol>(
    mut peer: Peer<P>,
    names: Vec<String>,
    first_id: u64,
    load: Load,
    phase: Phase,
    tally: Arc<Mutex<Tally>>,
) -> Result<(), Failure> {
    let payload = vec![b'x'; load.payload];
    let mut calls: Vec<OpenCall> = Vec::new();
    for (number, name) in (0..load.depth).zip(names.iter().cycle()) {
        let mut bytes = Vec::new();
        peer.send(|protocol, out| {
            let id = first_id + u64::from(number);
            protocol.call(name, id, &payload, load.timeout_ms, &mut bytes);
            out.extend_from_slice(&bytes);
        });
        calls.push(OpenCall { bytes, begin: Instant::now(), is_measured: false });
    }
    // The latencies of one read, which are recorded together.
    let mut latencies = Vec::new();
    let mut poll = pin!(tokio::time::sleep(POLL_INTERVAL));
    peer.flush()?;
    while !phase.is_over() {
        let is_measured = phase.is_measured();
        // The clock is read once for all replies of one read.
        let mut arrived: Option<Instant> = None;
        let mut count = 0;
        let received = peer.receive(|_, incoming, out| {
            let Incoming::Reply { id, code, payload, is_last } = incoming else {
                return Ok(());
            };
            let index = id.checked_sub(first_id).and_then(|index| usize::try_from(index).ok());
            let call = index.and_then(|index| calls.get_mut(index));
            let call = call.ok_or(Failure::ForeignReply(id))?;
            if !is_last {
                return Ok(());
            }
            let now = *arrived.get_or_insert_with(Instant::now);
            if code != 0 {
                if is_measured {
                    let mut tally = tally.lock();
                    tally.errors += 1;
                    let text = || String::from_utf8_lossy(payload).into_owned();
                    tally.example.get_or_insert_with(text);
                }
            } else {
                count += u64::from(is_measured);
                if call.is_measured {
                    latencies.push(nanoseconds(now - call.begin));
                }
            }
            (call.begin, call.is_measured) = (now, is_measured);
            out.extend_from_slice(&call.bytes);
            Ok(())
        });
        let received = tokio::select! {
            biased;
            received = received => received,
            () = &mut poll => {
                poll.as_mut().reset(tokio::time::Instant::now() + POLL_INTERVAL);
                Ok(())
            }
        };
        match received {
            // A relay closes the connection of a caller when its service ends.
            Err(Failure::Closed | Failure::Io(_)) if phase.is_over() => {}
            received => received?,
        }
        if count > 0 || !latencies.is_empty() {
            let mut tally = tally.lock();
            tally.count += count;
            latencies.drain(..).for_each(|latency| tally.latencies.saturating_record(latency));
        }
    }
    let is_lost = |call: &&OpenCall| call.is_measured && call.begin.elapsed() > LOST_AFTER;
    let lost = calls.iter().filter(is_lost).count();
    if lost > 0 {
        let mut tally = tally.lock();
        tally.errors += lost as u64;
        tally.example.get_or_insert_with(|| format!("no reply came within {LOST_AFTER:?}"));
    }
    Ok(())
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
