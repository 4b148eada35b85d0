//! Making connections to the router, and the task that serves them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gsb_net::{Inbox, Link, Received, Stream, connect_advice};
use gsb_proto::framing::LARGEST_FRAME;
use gsb_proto::messages::{Hello, Message};
use gsb_proto::{Address, FrameDecoder, Framing, LEVEL, MessageKind};
use tokio::time::Instant;

use crate::builder::BusBuilder;
use crate::bus::Bus;
use crate::error::{Error, LostReason};
use crate::intake::CallIntake;
use crate::queue::detach;
use crate::reconnect::{Backoff, Reconnect};
use crate::shared::Shared;
use crate::status::RouterInfo;

/// How long what was sent may take to leave when the last handle is dropped, or the runtime ends.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// The longest pause between attempts to connect while somebody waits for the router.
const IMPATIENCE: Duration = Duration::from_millis(500);

/// How much is kept of what a router says of itself, in bytes.
const LONGEST_HELLO: usize = 1024;

/// A connection whose router has said hello.
struct Opened {
    link: Arc<Link>,
    inbox: Inbox,
    router: RouterInfo,
}

/// Connects, and keeps the connection up from then on.
pub(crate) async fn open(options: BusBuilder, address: Address) -> Result<Bus, Error> {
    let shared = Arc::new(Shared::new(options, true));
    match introduce(&shared, &address).await {
        Ok(opened) => {
            shared.connected(&opened.link, opened.router.clone());
            Ok(start(shared, address, Some(opened)))
        }
        Err(reason) => Err(Error::Connect { address, problem: reason.to_string() }),
    }
}

/// Connects as soon as that is possible, and keeps the connection up from then on.
pub(crate) fn open_lazily(options: BusBuilder, address: Address) -> Bus {
    start(Arc::new(Shared::new(options, true)), address, None)
}

fn start(shared: Arc<Shared>, address: Address, opened: Option<Opened>) -> Bus {
    // The guard goes along, so that it is there even if the task is never run.
    tokio::spawn(run(EndWhenDropped(shared.clone()), address, opened));
    Bus::new(shared)
}

/// Connects and introduces itself. In the packet framing a router answers a Hello with its own, which
/// shows that it is one.
async fn introduce(shared: &Shared, address: &Address) -> Result<Opened, LostReason> {
    let options = shared.options();
    let after = options.connect_timeout;
    let introduced = async {
        let link = Arc::new(Link::new(connect(options, address).await?, options.outbox_limit));
        // A router is trusted with the largest frames there are: it passes on what others may send it.
        let mut inbox = Inbox::new(FrameDecoder::new(options.framing, LARGEST_FRAME));
        let mut router = RouterInfo::default();
        if options.framing == Framing::Packet {
            let hello = Hello {
                name: options.name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                instance_id: Bytes::copy_from_slice(shared.instance_id().as_bytes()),
                no_echo: true,
                level: LEVEL,
                max_frame: 0,
            };
            link.send(options.framing, &hello.to_frame()).await;
            router = await_hello(&link, &mut inbox).await?;
        }
        Ok(Opened { link, inbox, router })
    };
    tokio::time::timeout(after, introduced).await.unwrap_or(Err(LostReason::NoAnswer(after)))
}

async fn connect(
    #[cfg_attr(not(feature = "memory"), expect(unused_variables))] options: &BusBuilder,
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
    // Not with the buffer that it was read into.
    let instance_id = detach(instance_id);
    Ok(RouterInfo { name, version, instance_id, heeds_no_echo: no_echo, level, max_frame })
}

/// Whatever ends the task that serves a bus, its runtime's end included, ends the bus.
struct EndWhenDropped(Arc<Shared>);

impl Drop for EndWhenDropped {
    fn drop(&mut self) {
        // If the runtime ends, nobody else writes what is queued.
        self.0.write_last(LEAVE_TIME);
        self.0.end(LostReason::RuntimeEnded);
    }
}

/// Serves one connection after the other, until nobody holds the bus any more, or no other is to be
/// made. All choices here are biased, so that a simulation repeats itself.
async fn run(guard: EndWhenDropped, address: Address, mut opened: Option<Opened>) {
    let shared = &guard.0;
    let reconnect = shared.options().reconnect.clone();
    // The router of the last connection.
    let mut known = Bytes::new();
    let mut backoff = Backoff::new(reconnect.unwrap_or_else(|| Reconnect::default().attempts(0)));
    loop {
        let reason = match opened.take() {
            Some(opened) => {
                let router = opened.router.instance_id.clone();
                let since = Instant::now();
                let reason = serve(shared, opened).await;
                backoff.lasted(since.elapsed(), router != known);
                known = router;
                log::debug!("the connection to the router is lost: {reason}");
                reason
            }
            None => {
                shared.connecting(backoff.failures());
                let introduced = tokio::select! {
                    biased;
                    () = shared.finished() => Err(LostReason::Closed),
                    introduced = introduce(shared, &address) => introduced,
                };
                match introduced {
                    Ok(new) if shared.connected(&new.link, new.router.clone()) => {
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
        if reason == LostReason::Closed || shared.has_ended() || shared.is_leaving() {
            return shared.end(LostReason::Closed);
        }
        let Some(delay) = backoff.next() else {
            return shared.end(reason);
        };
        shared.disconnected(&reason, delay);
        let until = Instant::now() + delay;
        tokio::select! {
            biased;
            () = shared.finished() => return shared.end(LostReason::Closed),
            () = tokio::time::sleep_until(until) => continue,
            () = shared.is_awaited() => {}
        }
        // Somebody waits for it.
        let soon = Instant::now() + IMPATIENCE.mul_f64(fastrand::f64());
        tokio::select! {
            biased;
            () = shared.finished() => return shared.end(LostReason::Closed),
            () = tokio::time::sleep_until(until.min(soon)) => {}
        }
    }
}

/// Serves a connection until it is lost, or until nobody holds the bus any more.
async fn serve(shared: &Arc<Shared>, opened: Opened) -> LostReason {
    let Opened { link, mut inbox, .. } = opened;
    let intake = Arc::new(CallIntake::new(link.clone(), shared.options()));
    let reason = tokio::select! {
        biased;
        () = shared.finished() => {
            let leave = async {
                tokio::select! {
                    biased;
                    () = link.drained() => {}
                    _ = read(shared, &intake, &mut inbox) => return,
                }
                // Closing before the router has seen the end would take back what it has not read.
                link.finish();
                read(shared, &intake, &mut inbox).await;
            };
            // A router that does not read is not waited for any longer.
            let _ = tokio::time::timeout(LEAVE_TIME, leave).await;
            LostReason::Closed
        }
        () = shared.keep_asking() => LostReason::Closed,
        reason = read(shared, &intake, &mut inbox) => reason,
    };
    link.close();
    reason
}

/// Reads until the end and hands each frame on. A router that is silent is asked for a sign of life.
async fn read(shared: &Arc<Shared>, intake: &Arc<CallIntake>, inbox: &mut Inbox) -> LostReason {
    let link = intake.link();
    let patience = shared.options().ping_timeout.unwrap_or(Duration::MAX);
    let mut is_asked = false;
    loop {
        let received = receive_all(shared, intake, inbox);
        shared.publish();
        if let Err(reason) = received {
            return reason;
        }
        if intake.is_full() {
            if let Err(reason) = has_room(intake).await {
                return reason;
            }
            continue;
        }
        match tokio::time::timeout(patience, fill(link, inbox)).await {
            Ok(Ok(())) => is_asked = false,
            Ok(Err(reason)) => return reason,
            Err(_) if is_asked => return LostReason::Silent(patience.saturating_mul(2)),
            Err(_) => {
                is_asked = true;
                shared.ping();
            }
        }
    }
}

/// Hands on what was read, until too many refusals wait.
fn receive_all(
    shared: &Arc<Shared>,
    intake: &Arc<CallIntake>,
    inbox: &mut Inbox,
) -> Result<(), LostReason> {
    while !intake.is_full()
        && let Some(frame) = inbox.next_frame()?
    {
        shared.receive(intake, &frame)?;
    }
    Ok(())
}

/// Writes, and reads nothing, until there is room for refusals.
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

/// Waits for bytes.
async fn fill(link: &Link, inbox: &mut Inbox) -> Result<(), LostReason> {
    match link.receive(inbox).await? {
        Received::Bytes => Ok(()),
        Received::End => Err(LostReason::HungUp),
        Received::Closed => Err(LostReason::Closed),
    }
}
