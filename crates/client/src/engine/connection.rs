//! The task of a bus: connects to the router, serves the connection, and reconnects when it is lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gsb_net::{Inbox, Link, Received, Stream, connect_advice};
use gsb_proto::framing::LARGEST_FRAME;
use gsb_proto::messages::{Hello, Message};
use gsb_proto::{Address, FrameDecoder, Framing, LEVEL, MessageKind};
use tokio::time::Instant;

use crate::engine::Engine;
use crate::engine::backoff::Backoff;
use crate::engine::intake::CallIntake;
use crate::engine::queue::detach;
use crate::error::{Error, LostReason};
use crate::options::Options;
use crate::reconnect::Reconnect;
use crate::status::RouterInfo;

/// How long queued frames are written after the last handle is dropped, or when the runtime ends.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest pause between attempts to connect while a caller waits for the router.
const LONGEST_PAUSE_WHILE_AWAITED: Duration = Duration::from_millis(500);

/// The longest Hello of a router that is accepted, in bytes.
const LONGEST_HELLO: usize = 1024;

/// A connection over which the router has sent its Hello.
struct Opened {
    link: Arc<Link>,
    inbox: Inbox,
    router: RouterInfo,
}

/// Connects, and starts the task that keeps the connection up.
pub(crate) async fn open(options: Options, address: Address) -> Result<Arc<Engine>, Error> {
    let engine = Arc::new(Engine::new(options, true));
    match connect(&engine, &address).await {
        Ok(opened) => {
            engine.connected(&opened.link, opened.router.clone());
            Ok(start(engine, address, Some(opened)))
        }
        Err(reason) => Err(Error::Connect { address, problem: reason.to_string() }),
    }
}

/// Starts the task that connects, and keeps the connection up.
pub(crate) fn open_lazily(options: Options, address: Address) -> Arc<Engine> {
    start(Arc::new(Engine::new(options, true)), address, None)
}

fn start(engine: Arc<Engine>, address: Address, opened: Option<Opened>) -> Arc<Engine> {
    // The guard is made here, so that it works even if the task is never polled.
    tokio::spawn(run(TaskGuard(engine.clone()), address, opened));
    engine
}

/// Connects, and exchanges Hellos in the packet framing. The Hello of the router shows that the peer is a router.
async fn connect(engine: &Engine, address: &Address) -> Result<Opened, LostReason> {
    let options = engine.options();
    let after = options.connect_timeout;
    let connected = async {
        let link = Arc::new(Link::new(open_stream(options, address).await?, options.outbox_limit));
        // The router forwards frames up to its own limit, which may be higher than the one of this client.
        let mut inbox = Inbox::new(FrameDecoder::new(options.framing, LARGEST_FRAME));
        let mut router = RouterInfo::default();
        if options.framing == Framing::Packet {
            let hello = Hello {
                name: options.name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                instance_id: Bytes::copy_from_slice(engine.instance_id.as_bytes()),
                no_echo: true,
                level: LEVEL,
                max_frame: 0,
            };
            link.send(options.framing, &hello.to_frame()).await;
            router = await_hello(&link, &mut inbox).await?;
        }
        Ok(Opened { link, inbox, router })
    };
    tokio::time::timeout(after, connected).await.unwrap_or(Err(LostReason::NoAnswer(after)))
}

async fn open_stream(
    #[cfg_attr(not(feature = "memory"), expect(unused_variables))] options: &Options,
    address: &Address,
) -> Result<Stream, LostReason> {
    #[cfg(feature = "memory")]
    if let Some(network) = &options.network {
        return Ok(network.connect().await.map(Stream::Memory)?);
    }
    Stream::connect(address).await.map_err(|error| {
        let advice = connect_advice(address, &error);
        LostReason::NotConnected(format!("{error}; {advice}"))
    })
}

async fn await_hello(link: &Link, inbox: &mut Inbox) -> Result<RouterInfo, LostReason> {
    let first = loop {
        if let Some(frame) = inbox.next_frame()? {
            break frame;
        }
        fill(link, inbox).await?;
    };
    if first.kind != MessageKind::Hello {
        return Err(LostReason::UnexpectedReply(first.kind.name()));
    }
    let Hello { name, version, instance_id, no_echo, level, max_frame } = first.decode()?;
    if name.len() + version.len() + instance_id.len() > LONGEST_HELLO {
        return Err(LostReason::UnexpectedReply("Hello of more than 1 KiB"));
    }
    let level = level.min(LEVEL);
    let max_frame = usize::try_from(max_frame).ok().filter(|&limit| limit > 0);
    // A copy, which does not keep the buffer that it was read into.
    let instance_id = detach(instance_id);
    Ok(RouterInfo { name, version, instance_id, supports_no_echo: no_echo, level, max_frame })
}

/// Ends the bus when its task ends, also when it ends with its runtime.
struct TaskGuard(Arc<Engine>);

impl Drop for TaskGuard {
    /// Writes queued frames, and blocks the thread for up to a second. This is the one destructor that does I/O: a
    /// runtime ends its tasks by dropping them, and no task is left to write what a program has sent just before the
    /// end of `main`. A task that ends by itself has ended the bus before, so that nothing is written here.
    fn drop(&mut self) {
        self.0.write_blocking(CLOSING_TIMEOUT);
        self.0.end(&LostReason::RuntimeEnded);
    }
}

/// Serves one connection after the other, until the bus has ended, or no further attempt to connect is allowed. Every
/// `select!` is biased, so that a simulation can be repeated.
async fn run(guard: TaskGuard, address: Address, mut opened: Option<Opened>) {
    let engine = &guard.0;
    let reconnect = engine.options().reconnect.clone();
    // The instance id of the router of the last connection.
    let mut known = Bytes::new();
    let mut backoff = Backoff::new(reconnect.unwrap_or_else(|| Reconnect::default().attempts(0)));
    loop {
        let reason = match opened.take() {
            Some(opened) => {
                let router = opened.router.instance_id.clone();
                let since = Instant::now();
                let reason = serve(engine, opened).await;
                backoff.lasted(since.elapsed(), router != known);
                known = router;
                log::debug!("lost the connection to the router: {reason}");
                reason
            }
            None => {
                engine.connecting(backoff.failures());
                let connected = tokio::select! {
                    biased;
                    () = engine.finished() => Err(LostReason::Closed),
                    connected = connect(engine, &address) => connected,
                };
                match connected {
                    Ok(new) if engine.connected(&new.link, new.router.clone()) => {
                        opened = Some(new);
                        continue;
                    }
                    Ok(_) | Err(LostReason::Closed) => LostReason::Closed,
                    Err(reason) => {
                        let (address, problem) = (address.clone(), reason.to_string());
                        LostReason::Unreachable { address, problem }
                    }
                }
            }
        };
        if reason == LostReason::Closed || engine.has_ended() || engine.is_closing() {
            return engine.end(&LostReason::Closed);
        }
        let Some(delay) = backoff.next() else {
            return engine.end(&reason);
        };
        let delay = delay.max(engine.farewell_pause());
        engine.disconnected(&reason, delay);
        let until = Instant::now() + delay;
        tokio::select! {
            biased;
            () = engine.finished() => return engine.end(&LostReason::Closed),
            () = tokio::time::sleep_until(until) => continue,
            () = engine.connection_wanted() => {}
        }
        // A caller waits for the connection.
        let soon = Instant::now() + LONGEST_PAUSE_WHILE_AWAITED.mul_f64(fastrand::f64());
        tokio::select! {
            biased;
            () = engine.finished() => return engine.end(&LostReason::Closed),
            () = tokio::time::sleep_until(until.min(soon)) => {}
        }
    }
}

/// Serves a connection until it is lost or the bus ends.
async fn serve(engine: &Arc<Engine>, opened: Opened) -> LostReason {
    let Opened { link, mut inbox, router } = opened;
    let intake = Arc::new(CallIntake::new(link.clone(), router.level, engine.options()));
    engine.takes_calls(&intake);
    let (reason, is_lost) = tokio::select! {
        biased;
        () = engine.finished() => (LostReason::Closed, false),
        () = engine.keep_retrying() => (LostReason::Closed, true),
        () = engine.keep_flushing(&link) => (LostReason::Closed, true),
        reason = read(engine, &intake, &mut inbox) => (reason, true),
        // The last, so that it sees what the others have changed.
        () = engine.left() => (LostReason::Stopping, false),
    };
    if !is_lost && !engine.has_ended() {
        let hung_up = hang_up(engine, &link, &intake, &mut inbox);
        let _ = tokio::time::timeout(CLOSING_TIMEOUT, hung_up).await;
    }
    link.close();
    intake.cancel_all();
    reason
}

/// Writes queued frames, and ends the connection on this side.
async fn hang_up(engine: &Arc<Engine>, link: &Link, intake: &Arc<CallIntake>, inbox: &mut Inbox) {
    // Destructors may have queued frames.
    link.flush();
    let drained = async {
        intake.all_sent().await;
        link.drained().await;
    };
    tokio::select! {
        biased;
        () = drained => {}
        () = engine.keep_flushing(link) => {}
        _ = read(engine, intake, inbox) => return,
    }
    // A connection that is closed before the router has closed its side drops what the router has not read.
    link.finish();
    read(engine, intake, inbox).await;
}

/// Reads and handles frames until the connection ends. Sends a Ping to a router that is silent.
async fn read(engine: &Arc<Engine>, intake: &Arc<CallIntake>, inbox: &mut Inbox) -> LostReason {
    let link = intake.link();
    let timeout = engine.options().ping_timeout.unwrap_or(Duration::MAX);
    let mut has_pinged = false;
    loop {
        let received = receive_all(engine, intake, inbox);
        engine.notify_batched();
        if let Err(reason) = received {
            return reason;
        }
        if intake.is_full() {
            if let Err(reason) = has_room(intake).await {
                return reason;
            }
            continue;
        }
        match tokio::time::timeout(timeout, fill(link, inbox)).await {
            Ok(Ok(())) => has_pinged = false,
            Ok(Err(reason)) => return reason,
            Err(_) if has_pinged => return LostReason::Silent(timeout.saturating_mul(2)),
            Err(_) => {
                has_pinged = true;
                engine.ping();
            }
        }
    }
}

/// Handles the frames that were read, until too many refusals are queued.
fn receive_all(
    engine: &Arc<Engine>,
    intake: &Arc<CallIntake>,
    inbox: &mut Inbox,
) -> Result<(), LostReason> {
    while !intake.is_full()
        && let Some(frame) = inbox.next_frame()?
    {
        engine.receive(intake, &frame)?;
    }
    Ok(())
}

/// Writes, without reading, until there is room for refusals.
async fn has_room(intake: &CallIntake) -> Result<(), LostReason> {
    let write = async {
        loop {
            match intake.link().write_only().await {
                Ok(Some(Received::Closed)) => return LostReason::Closed,
                Ok(Some(_)) => return LostReason::HungUp,
                Ok(None) => {}
                Err(error) => return error.into(),
            }
        }
    };
    tokio::select! {
        biased;
        () = intake.has_room() => Ok(()),
        reason = write => Err(reason),
    }
}

/// Waits for bytes, and reads them.
async fn fill(link: &Link, inbox: &mut Inbox) -> Result<(), LostReason> {
    match link.receive(inbox).await? {
        Received::Bytes => Ok(()),
        Received::End => Err(LostReason::HungUp),
        Received::Closed => Err(LostReason::Closed),
    }
}
