//! Loads with `gsb-client` at both ends, which share one thread.

use std::cell::Cell;
use std::error::Error;
use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use futures::{StreamExt as _, stream};
use gsb_client::{Bus, Bytes, Call, Failure};
use gsb_load::ResourceUse;
use gsb_proto::{Address, Framing};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{sleep, sleep_until, timeout};

use crate::figures::{Figure, Readings, Spread};

/// The length of each reply of a stream in bytes.
const REPLY: usize = 4 << 10;

/// The bytes per second of a slow reader.
const SLOW_RATE: f64 = MEBIBYTE;

const MEBIBYTE: f64 = (1 << 20) as f64;

/// The time that a load may take to connect and to end.
const EXTRA_TIME: Duration = Duration::from_secs(10);

/// A load with `gsb-client` at both ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// Readers, each of which reads streams of `replies` × 4 KiB one after the other.
    Streams { readers: usize, replies: usize, with_credit: bool },
    /// One push at a time. Measured from before the push until its handler runs.
    Push,
    /// One call at a time. Measured from the drop of its future at the caller to the drop of its handler's future.
    Cancel,
    /// A reader of 1 MiB/s, and a service that produces as fast as it may.
    SlowReader,
}

impl Load {
    /// Loads the router at an address, whose process is `pid`, and measures it after the warm-up.
    ///
    /// # Errors
    /// The text of a failure.
    pub(crate) fn measure(
        self,
        address: &Address,
        pid: u32,
        warm_up: Duration,
        duration: Duration,
    ) -> Result<Readings, String> {
        let with_credit = !matches!(self, Load::Streams { with_credit: false, .. });
        let work = async {
            let peers = Peers::connect(address, with_credit).await?;
            match self {
                Load::Streams { readers, replies, .. } => {
                    peers.streams(readers, replies, warm_up, duration).await
                }
                Load::Push => peers.pushes(warm_up, duration).await,
                Load::Cancel => peers.cancels(warm_up, duration).await,
                Load::SlowReader => peers.slow_reader(pid, duration).await,
            }
        };
        let limit = warm_up + duration + EXTRA_TIME;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        match runtime.block_on(async { timeout(limit, work).await }) {
            Ok(readings) => readings.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the clients did not end within {limit:.1?}")),
        }
    }
}

/// A service and its caller.
struct Peers {
    service: Bus,
    caller: Bus,
}

impl Peers {
    /// The classic framing has no credit.
    async fn connect(address: &Address, with_credit: bool) -> Result<Peers, gsb_client::Error> {
        let service = Bus::connect(address.clone()).await?;
        let framing = if with_credit { Framing::Packet } else { Framing::Classic };
        let caller = Bus::builder().framing(framing).connect(address.clone()).await?;
        Ok(Peers { service, caller })
    }

    async fn streams(
        &self,
        readers: usize,
        replies: usize,
        warm_up: Duration,
        duration: Duration,
    ) -> Result<Readings, Box<dyn Error>> {
        let reply = Bytes::from(vec![b'x'; REPLY]);
        let handler =
            move |_: Call| stream::repeat(reply.clone()).take(replies).map(Ok::<_, Failure>);
        let _service = self.service.register_stream("/stream", handler).await?;
        let read = Cell::new(0);
        let reader = |_| async {
            loop {
                let mut replies = self.caller.stream("/stream", "").await?;
                while let Some(reply) = replies.next().await {
                    read.set(read.get() + reply?.len());
                }
            }
        };
        let measured = async {
            sleep(warm_up).await;
            let (before, begin) = (read.get(), Instant::now());
            sleep(duration).await;
            (read.get() - before) as f64 / begin.elapsed().as_secs_f64()
        };
        tokio::select! {
            biased;
            per_second = measured => Ok(vec![(Figure::Mebibytes, per_second / MEBIBYTE)]),
            // The readers end only if one of them fails.
            Err::<Vec<()>, gsb_client::Error>(error) = try_join_all((0..readers).map(reader)) => {
                Err(error.into())
            }
        }
    }

    async fn pushes(
        &self,
        warm_up: Duration,
        duration: Duration,
    ) -> Result<Readings, Box<dyn Error>> {
        let (started, mut starts) = unbounded_channel();
        let handler = move |_: Call| {
            let started = started.clone();
            async move {
                // Fails if the measurement is over.
                let _ = started.send(Instant::now());
            }
        };
        let _service = self.service.register_push("/push", handler).await?;
        median(warm_up, duration, async || {
            let begin = Instant::now();
            self.caller.push("/push", "").await?;
            Ok(starts.recv().await.ok_or(ENDED)? - begin)
        })
        .await
    }

    async fn cancels(
        &self,
        warm_up: Duration,
        duration: Duration,
    ) -> Result<Readings, Box<dyn Error>> {
        let (started, mut starts) = unbounded_channel();
        let (dropped, mut drops) = unbounded_channel();
        let handler = move |_: Call| {
            let (started, reporter) = (started.clone(), DropReporter(dropped.clone()));
            async move {
                let _reporter = reporter;
                let _ = started.send(());
                future::pending::<Result<Bytes, Failure>>().await
            }
        };
        let _service = self.service.register("/cancel", handler).await?;
        median(warm_up, duration, async || {
            let mut call = Box::pin(self.caller.call("/cancel", ""));
            tokio::select! {
                biased;
                ended = &mut call => return Err(ended.err().map_or(ENDED.into(), Into::into)),
                start = starts.recv() => start.ok_or(ENDED)?,
            }
            let begin = Instant::now();
            drop(call);
            Ok(drops.recv().await.ok_or(ENDED)? - begin)
        })
        .await
    }

    async fn slow_reader(&self, pid: u32, duration: Duration) -> Result<Readings, Box<dyn Error>> {
        let reply = Bytes::from(vec![b'x'; REPLY]);
        let produced = Arc::new(AtomicU64::new(0));
        let counter = produced.clone();
        let handler = move |_: Call| {
            let (counter, reply) = (counter.clone(), reply.clone());
            stream::repeat_with(move || {
                counter.fetch_add(REPLY as u64, Ordering::Relaxed);
                Ok(reply.clone())
            })
        };
        let _service = self.service.register_stream("/source", handler).await?;
        let before = ResourceUse::of(pid)?.memory;
        let mut replies = self.caller.stream("/source", "").await?;
        let begin = tokio::time::Instant::now();
        let (mut read, mut most_ahead) = (0, 0);
        while begin.elapsed() < duration {
            sleep_until(begin + Duration::from_secs_f64(read as f64 / SLOW_RATE)).await;
            most_ahead = most_ahead.max(produced.load(Ordering::Relaxed) - read);
            read += replies.next().await.ok_or(ENDED)??.len() as u64;
        }
        let growth = ResourceUse::of(pid)?.peak_memory.saturating_sub(before);
        let mebibytes = |bytes| bytes as f64 / MEBIBYTE;
        Ok(vec![(Figure::Growth, mebibytes(growth)), (Figure::Ahead, mebibytes(most_ahead))])
    }
}

/// The error of a load whose service has ended.
const ENDED: &str = "the service ended during the measurement";

/// The median of the times that `once` measures, again and again.
async fn median(
    warm_up: Duration,
    duration: Duration,
    mut once: impl AsyncFnMut() -> Result<Duration, Box<dyn Error>>,
) -> Result<Readings, Box<dyn Error>> {
    let begin = Instant::now();
    let mut microseconds = Vec::new();
    while begin.elapsed() < warm_up + duration {
        let is_measured = begin.elapsed() >= warm_up;
        let time = once().await?;
        if is_measured {
            microseconds.push(time.as_secs_f64() * 1e6);
        }
    }
    let spread = Spread::of(microseconds).ok_or("nothing ended in the measurement")?;
    Ok(vec![(Figure::P50, spread.median)])
}

/// Reports when it is dropped.
struct DropReporter(UnboundedSender<Instant>);

impl Drop for DropReporter {
    fn drop(&mut self) {
        // Fails if the measurement is over.
        let _ = self.0.send(Instant::now());
    }
}
