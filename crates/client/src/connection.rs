//! Opening a connection, and the task that reads it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gsb_net::{Inbox, Link, Received, Stream};
use gsb_proto::frame::LARGEST_FRAME;
use gsb_proto::messages::{Hello, Message, Ping};
use gsb_proto::{Address, FrameDecoder, Framing, MessageKind};
use uuid::Uuid;

use crate::builder::BusBuilder;
use crate::bus::Bus;
use crate::error::{Error, LostReason};
use crate::shared::Shared;

/// How long what was sent may take to leave when the last handle is dropped.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// Time between attempts to connect to a socket whose queue is full.
const RETRY_TIME: Duration = Duration::from_millis(10);

/// Connects, introduces itself and starts reading.
pub(crate) async fn open(options: BusBuilder, address: Address) -> Result<Bus, Error> {
    let timeout = options.connect_timeout;
    let opened = tokio::time::timeout(timeout, introduce(options, &address)).await;
    let problem = match opened {
        Ok(Ok((shared, inbox))) => {
            // The guard goes along, so that it is there even if the task is never run.
            tokio::spawn(run(LoseWhenDropped(shared.clone()), inbox));
            return Ok(Bus::new(shared));
        }
        Ok(Err(reason)) => reason.to_string(),
        Err(_) => format!("no answer within {} s", timeout.as_secs_f64()),
    };
    Err(Error::Connect { address, problem })
}

/// In the packet framing a router answers a Hello with its own, which shows that it is one.
async fn introduce(
    options: BusBuilder,
    address: &Address,
) -> Result<(Arc<Shared>, Inbox), LostReason> {
    let stream = connect(address).await?;
    let link = Link::new(stream, options.outbox_limit);
    let framing = options.framing;
    let instance_id = Uuid::new_v4();
    // A router is trusted with the largest frames there are: it passes on what others may send it.
    let mut inbox = Inbox::new(FrameDecoder::new(framing, LARGEST_FRAME));
    let hello = Hello {
        name: options.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance_id: Bytes::copy_from_slice(instance_id.as_bytes()),
        no_echo: false,
    };
    let shared = Arc::new(Shared::new(address.clone(), link, options, instance_id));
    if framing == Framing::Packet {
        shared.send(&hello.to_frame()).await;
        let first = loop {
            if let Some(frame) = inbox.next_frame()? {
                break frame;
            }
            fill(&shared, &mut inbox).await?;
        };
        if first.kind != MessageKind::Hello {
            return Err(LostReason::UnexpectedReply(first.kind.name()));
        }
        let _: Hello = first.decode()?;
    }
    Ok((shared, inbox))
}

/// Connects. A Unix socket whose queue is full refuses at once what a TCP socket would let wait.
async fn connect(address: &Address) -> io::Result<Stream> {
    loop {
        match Stream::connect(address).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(RETRY_TIME).await;
            }
            result => return result,
        }
    }
}

/// Whatever ends the task that serves a connection, its runtime's end included, ends the connection.
struct LoseWhenDropped(Arc<Shared>);

impl Drop for LoseWhenDropped {
    fn drop(&mut self) {
        self.0.lose(LostReason::RuntimeEnded);
    }
}

/// Serves the connection until it ends, or until nobody holds it any more.
async fn run(guard: LoseWhenDropped, mut inbox: Inbox) {
    let shared = &guard.0;
    let reason = tokio::select! {
        reason = read(shared, &mut inbox) => reason,
        () = shared.finished() => {
            let leave = async {
                tokio::select! {
                    () = shared.link().drained() => {}
                    _ = read(shared, &mut inbox) => {}
                }
            };
            // A router that does not read is not waited for any longer.
            let _ = tokio::time::timeout(LEAVE_TIME, leave).await;
            LostReason::Closed
        }
    };
    log::debug!("the connection to the router is lost: {reason}");
    shared.lose(reason);
}

/// Reads until the end and hands each frame on. A router that is silent is asked for a sign of life.
async fn read(shared: &Arc<Shared>, inbox: &mut Inbox) -> LostReason {
    let patience = shared.options().ping_timeout.unwrap_or(Duration::MAX);
    let mut is_asked = false;
    loop {
        if let Err(reason) = receive_all(shared, inbox) {
            return reason;
        }
        match tokio::time::timeout(patience, fill(shared, inbox)).await {
            Ok(Ok(())) => is_asked = false,
            Ok(Err(reason)) => return reason,
            Err(_) if is_asked => return LostReason::Silent(patience.saturating_mul(2)),
            Err(_) => {
                is_asked = true;
                shared.send_urgent(&Ping {}.to_frame());
            }
        }
    }
}

fn receive_all(shared: &Arc<Shared>, inbox: &mut Inbox) -> Result<(), LostReason> {
    while let Some(frame) = inbox.next_frame()? {
        shared.receive(&frame)?;
    }
    Ok(())
}

/// Waits for bytes.
async fn fill(shared: &Shared, inbox: &mut Inbox) -> Result<(), LostReason> {
    match shared.link().receive(inbox).await? {
        Received::Bytes => Ok(()),
        Received::End => Err(LostReason::HungUp),
        Received::Closed => Err(LostReason::Closed),
    }
}
