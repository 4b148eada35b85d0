//! Calls and their replies.

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::limits::{allow_connections, check_backlog};
use crate::measure::{Measured, Stage};
use crate::peer::Connected;
use crate::threads::Threads;
use crate::{Failure, Heard, Measure, Outcome, Peer, Protocol, Target};

/// A load of calls: each caller has a number of them open, and makes another when one has ended.
#[derive(Debug, Clone)]
pub struct Load {
    /// Connections that call.
    pub callers: u32,
    /// Connections that are called; the callers are spread over them.
    pub services: u32,
    /// Calls that each caller has open.
    pub depth: u32,
    /// Bytes that each call carries.
    pub payload: usize,
    /// What comes back.
    pub answer: Answer,
    /// How many threads the load has: one leaves the most to the bus; of two, one calls and one is called.
    pub threads: u32,
    /// Nothing is registered, and each caller has a service of its own that connects just before it: for a relay
    /// that connects each two that follow each other.
    pub is_paired: bool,
}

impl Load {
    /// Checks whether this host can make it.
    fn check(&self) -> Result<(), Failure> {
        let Load { callers, services, depth, payload, answer, .. } = *self;
        let open = u64::from(callers) * u64::from(depth);
        check_backlog(open, payload)?;
        if let Answer::Stream { chunks, payload } = answer {
            check_backlog(open.saturating_mul(chunks.into()), payload)?;
        }
        // Each may have one that has not come whole.
        check_backlog(services.into(), payload)?;
        allow_connections(u64::from(callers) + u64::from(services))
    }
}

/// How often is looked whether the measurement is over, where nothing comes.
const LOOK: Duration = Duration::from_millis(100);

/// A call that has had no reply for so long has lost it.
const LOST: Duration = Duration::from_secs(1);

/// What a service answers.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// What came.
    Echo,
    /// A stream.
    Stream {
        /// How many replies it has.
        chunks: u32,
        /// How many bytes each carries.
        payload: usize,
    },
}

/// A call that takes longer counts as one that takes so long. In nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// What callers have seen. All of them write to one, since to have one for each would take much memory, and to touch
/// so much of it much time.
#[derive(Debug)]
struct Tally {
    /// How long calls took, in nanoseconds.
    times: Histogram<u64>,
    /// How many ended while it was measured, whenever they began.
    count: u64,
    errors: u64,
    example: Option<String>,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        // To three digits. It never grows, which would take time while calls wait.
        let times = Histogram::new_with_bounds(1, LONGEST, 3)?;
        Ok(Tally { times, count: 0, errors: 0, example: None })
    }
}

/// Loads a bus with calls.
///
/// # Errors
/// The load could not be made. A call that fails is counted.
pub fn run<P: Protocol>(
    load: &Load,
    target: &Target<P>,
    measure: &Measure<'_>,
) -> Result<Outcome, Failure> {
    load.check()?;
    let stage = Stage::new();
    let connect = || Connected::connect(target);
    let names: Vec<String> =
        (0..load.services).map(|number| target.name("service", number)).collect();
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
        threads.spawn(0, serve(services, served, load.answer, stage.clone(), ready, is_over));
    if is_ready.recv().is_err() {
        // They have ended already, and say why.
        return Err(threads.wait(services).err().unwrap_or(Failure::Panicked));
    }
    let callers = threads.spawn(1, call(load.clone(), callers, names, stage.clone()));
    let measured = measure.run(&stage, || callers.is_finished() || services.is_finished());
    let tally = threads.wait(callers);
    // Unless they have ended before.
    let _ = end.send(());
    threads.wait(services)?;
    let Measured { elapsed, need } = measured?;
    let Tally { times, count, errors, example } = tally?;
    Ok(Outcome { elapsed, count, times, errors, example, need })
}

/// Answers calls until it is told to end.
async fn serve<P: Protocol>(
    connections: Vec<Connected<P>>,
    names: Option<Vec<String>>,
    answer: Answer,
    stage: Stage,
    ready: mpsc::Sender<()>,
    end: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let mut services = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        let mut peer = connection.join()?;
        if let Some(names) = &names {
            peer.ask(|protocol, out| protocol.serve(&names[number], out)).await?;
        }
        services.spawn(async move { answer_all(&mut peer, answer).await });
    }
    // Nobody waits any more if the load is over.
    let _ = ready.send(());
    tokio::select! {
        Some(ended) = services.join_next() => {
            let ended = ended.unwrap_or(Err(Failure::Panicked));
            // A relay closes what it is to connect with a caller that has ended.
            if stage.is_over() { Ok(()) } else { ended }
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
        peer.receive(|protocol, heard, out| {
            if let Heard::Call { reply_to, payload } = heard {
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

/// Calls from all connections until the measurement is over.
async fn call<P: Protocol>(
    load: Load,
    connections: Vec<Connected<P>>,
    names: Vec<String>,
    stage: Stage,
) -> Result<Tally, Failure> {
    let mut callers = JoinSet::new();
    let tally = Arc::new(Mutex::new(Tally::new()?));
    let mut first_id = 0;
    for (number, connection) in connections.into_iter().enumerate() {
        let peer = connection.join()?;
        let name = names[number % names.len()].clone();
        callers.spawn(call_on(peer, name, first_id, load.clone(), stage.clone(), tally.clone()));
        first_id += u64::from(load.depth);
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap_or(Err(Failure::Panicked))?;
    }
    // All who wrote to it have ended.
    Arc::into_inner(tally).map(Mutex::into_inner).ok_or(Failure::Panicked)
}

/// A call that is made again and again.
struct Slot {
    bytes: Vec<u8>,
    begin: Instant,
    /// Whether it was made while the load was measured.
    is_measured: bool,
}

/// Its calls have ids from `first_id` on: those of no other caller, since not each bus tells them apart.
async fn call_on<P: Protocol>(
    mut peer: Peer<P>,
    name: String,
    first_id: u64,
    load: Load,
    stage: Stage,
    tally: Arc<Mutex<Tally>>,
) -> Result<(), Failure> {
    let payload = vec![b'x'; load.payload];
    let mut slots: Vec<Slot> = Vec::new();
    for number in 0..load.depth {
        let mut bytes = Vec::new();
        peer.say(|protocol, out| {
            protocol.call(&name, first_id + u64::from(number), &payload, &mut bytes);
            out.extend_from_slice(&bytes);
        });
        slots.push(Slot { bytes, begin: Instant::now(), is_measured: false });
    }
    // How long those took that have ended, until it is noted for all that came together.
    let mut times = Vec::new();
    let mut look = pin!(tokio::time::sleep(LOOK));
    peer.flush()?;
    while !stage.is_over() {
        let is_measured = stage.is_measured();
        // Looked at once for all that came together.
        let mut arrived: Option<Instant> = None;
        let mut count = 0;
        let received = peer.receive(|_, heard, out| {
            let Heard::Reply { id, payload, is_error, is_last } = heard else {
                return Ok(());
            };
            let slot = id.checked_sub(first_id).and_then(|slot| usize::try_from(slot).ok());
            let slot = slot.and_then(|slot| slots.get_mut(slot));
            let slot = slot.ok_or(Failure::ForeignReply(id))?;
            if !is_last {
                return Ok(());
            }
            let now = *arrived.get_or_insert_with(Instant::now);
            if is_error {
                if is_measured {
                    let mut tally = tally.lock();
                    tally.errors += 1;
                    let sentence = || String::from_utf8_lossy(payload).into_owned();
                    tally.example.get_or_insert_with(sentence);
                }
            } else {
                count += u64::from(is_measured);
                if slot.is_measured {
                    times.push(nanoseconds(now - slot.begin));
                }
            }
            (slot.begin, slot.is_measured) = (now, is_measured);
            out.extend_from_slice(&slot.bytes);
            Ok(())
        });
        let received = tokio::select! {
            biased;
            received = received => received,
            () = &mut look => {
                look.as_mut().reset(tokio::time::Instant::now() + LOOK);
                Ok(())
            }
        };
        match received {
            // Others have ended before, and with them what they are connected with.
            Err(Failure::Closed | Failure::Io(_)) if stage.is_over() => {}
            received => received?,
        }
        if count > 0 || !times.is_empty() {
            let mut tally = tally.lock();
            tally.count += count;
            times.drain(..).for_each(|time| tally.times.saturating_record(time));
        }
    }
    let lost = slots.iter().filter(|slot| slot.is_measured && slot.begin.elapsed() > LOST).count();
    if lost > 0 {
        let mut tally = tally.lock();
        tally.errors += lost as u64;
        tally.example.get_or_insert_with(|| format!("no reply came within {LOST:?}"));
    }
    Ok(())
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
