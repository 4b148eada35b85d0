//! Calls and their replies.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use clap::Args;
use gsb_net::Link;
use gsb_proto::messages::{CallReply, CallRequest, Message, Pong};
use gsb_proto::{Address, Frame, Framing, MessageKind};
use hdrhistogram::Histogram;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::peer::Peer;
use super::report::Report;
use super::{Common, Failure, Stage};

/// A load of calls.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,

    /// Connections that call
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    callers: u32,

    /// Connections that are called; the callers are spread over them
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    services: u32,

    /// Calls that each caller has open
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,

    /// Bytes that each call and each reply carries. Bytes, or with a unit as in 8KiB
    #[arg(long, value_name = "SIZE", default_value = "64")]
    payload: ByteSize,
}

/// Where the load goes.
#[derive(Debug, Clone)]
struct Target {
    address: Address,
    framing: Framing,
    /// Unlike those of any other load.
    prefix: String,
}

impl Target {
    fn service(&self, number: u32) -> String {
        format!("{}/{number}", self.prefix)
    }
}

/// What callers have seen.
#[derive(Debug)]
struct Tally {
    /// How long calls took, in nanoseconds.
    times: Histogram<u64>,
    errors: u64,
    example: Option<String>,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        // Of any length, to three digits.
        Ok(Tally { times: Histogram::new(3)?, errors: 0, example: None })
    }

    fn add(&mut self, other: Tally) -> Result<(), Failure> {
        self.times.add(&other.times)?;
        self.errors += other.errors;
        self.example = self.example.take().or(other.example);
        Ok(())
    }

    /// A call has ended with this reply, after a time that is worth noting or not.
    fn note(&mut self, reply: &CallReply, time: Option<Duration>) -> Result<(), Failure> {
        if reply.code != 0 {
            self.errors += 1;
            let sentence = || String::from_utf8_lossy(&reply.data).into_owned();
            self.example.get_or_insert_with(sentence);
        } else if let Some(time) = time {
            self.times.record(time.as_nanos() as u64)?;
        }
        Ok(())
    }
}

/// Calls for as long as the options say.
pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let common = &options.common;
    let prefix = format!("/gsb-bench/{}", std::process::id());
    let target = Target { address: common.address()?, framing: common.framing(), prefix };
    let stage = Stage::new();

    // In a thread of its own, as is each side of most programs: on one they would wait for each other.
    let (ready, is_ready) = mpsc::channel();
    let (end, is_over) = oneshot::channel();
    let services = thread::spawn({
        let (target, count) = (target.clone(), options.services);
        move || runtime()?.block_on(serve(target, count, ready, is_over))
    });
    if is_ready.recv().is_err() {
        // They have ended already, and say why.
        return Err(ended(services).err().unwrap_or(Failure::Panicked));
    }
    let callers = thread::spawn({
        let (options, stage) = (options.clone(), stage.clone());
        move || runtime()?.block_on(call(options, target, stage))
    });
    let (time, need) = common.measure(&stage)?;
    let tally = ended(callers)?;
    // Unless they have ended before.
    let _ = end.send(());
    ended(services)?;

    let mut report = common.report("call");
    report.setting("callers", options.callers);
    report.setting("services", options.services);
    report.setting("depth", options.depth);
    report.setting("payload_bytes", options.payload.as_u64());
    let count = tally.times.len();
    report.throughput("calls", count, 2 * options.payload.as_u64(), time);
    report.times(&tally.times);
    report.need(need, "call", count);
    report.errors(tally.errors, tally.example.as_deref());
    Ok(report)
}

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn ended<T>(thread: thread::JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    thread.join().unwrap_or(Err(Failure::Panicked))
}

/// Answers calls until it is told to end.
async fn serve(
    target: Target,
    count: u32,
    ready: mpsc::Sender<()>,
    end: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let mut services = JoinSet::new();
    for number in 0..count {
        let mut peer = Peer::connect(&target.address, target.framing).await?;
        peer.register(&target.service(number)).await?;
        services.spawn(async move { answer_all(&mut peer).await });
    }
    // Nobody waits any more if the load is over.
    let _ = ready.send(());
    tokio::select! {
        Some(ended) = services.join_next() => ended.unwrap_or(Err(Failure::Panicked)),
        _ = end => Ok(()),
    }
}

/// Sends each call's payload back.
async fn answer_all(peer: &mut Peer) -> Result<(), Failure> {
    let framing = peer.framing();
    loop {
        peer.receive(|link, frame| {
            if frame.kind == MessageKind::CallRequest {
                let CallRequest { request_id, data, .. } = frame.decode()?;
                let reply = CallReply { request_id, data, ..CallReply::default() };
                link.push_unlimited(framing, &reply.into_frame(), ());
            } else {
                answer_ping(link, framing, &frame);
            }
            Ok(())
        })
        .await?;
        peer.flush();
    }
}

fn answer_ping(link: &Link, framing: Framing, frame: &Frame) {
    if frame.kind == MessageKind::Ping {
        link.push_unlimited(framing, &Pong {}.to_frame(), ());
    }
}

/// Calls from all connections until the measurement is over.
async fn call(options: Options, target: Target, stage: Stage) -> Result<Tally, Failure> {
    let mut callers = JoinSet::new();
    for number in 0..options.callers {
        let peer = Peer::connect(&target.address, target.framing).await?;
        let service = target.service(number % options.services);
        callers.spawn(call_on(peer, service, options.clone(), stage.clone()));
    }
    let mut tally = Tally::new()?;
    while let Some(ended) = callers.join_next().await {
        tally.add(ended.unwrap_or(Err(Failure::Panicked))?)?;
    }
    Ok(tally)
}

/// A call that is made again and again.
struct Slot {
    frame: Frame,
    begin: Instant,
    /// Whether it was made while the load was measured.
    is_measured: bool,
}

async fn call_on(
    mut peer: Peer,
    service: String,
    options: Options,
    stage: Stage,
) -> Result<Tally, Failure> {
    let framing = peer.framing();
    let payload = vec![b'x'; usize::try_from(options.payload.as_u64()).unwrap_or(usize::MAX)];
    let slot = |number: u32| Slot {
        frame: CallRequest {
            address: service.clone(),
            request_id: number.to_string(),
            data: payload.clone().into(),
            ..CallRequest::default()
        }
        .into_frame(),
        begin: Instant::now(),
        is_measured: false,
    };
    let mut slots: Vec<Slot> = (0..options.depth).map(slot).collect();
    let mut tally = Tally::new()?;
    slots.iter().for_each(|slot| peer.push(&slot.frame));
    peer.flush();
    while !stage.is_over() {
        let is_measured = stage.is_measured();
        peer.receive(|link, frame| {
            if frame.kind != MessageKind::CallReply {
                answer_ping(link, framing, &frame);
                return Ok(());
            }
            let reply: CallReply = frame.decode()?;
            let slot = reply.request_id.parse().ok().and_then(|slot: usize| slots.get_mut(slot));
            let Some(slot) = slot else {
                return Err(Failure::ForeignReply(reply.request_id));
            };
            let now = Instant::now();
            tally.note(&reply, slot.is_measured.then(|| now - slot.begin))?;
            (slot.begin, slot.is_measured) = (now, is_measured);
            link.push_unlimited(framing, &slot.frame, ());
            Ok(())
        })
        .await?;
        peer.flush();
    }
    Ok(tally)
}
