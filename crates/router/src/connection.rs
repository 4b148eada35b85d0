//! The task of one connection.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use gsb_core::{CloseReason, ConnId, Identity, Room, Wait};
use gsb_net::{Inbox, Link, Received, Stream};
use gsb_proto::FrameDecoder;

use crate::patience::{Patience, Timeouts};
use crate::shared::{Afterwards, Routed, Shared};
use crate::ticket::Ticket;
use crate::turn::SLICE;

/// Serves a peer until it goes or is sent away, and until nothing of it is left.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    stream: Stream,
    max_frame: usize,
    timeouts: Timeouts,
) {
    let identity = identify(&stream);
    let link = Arc::new(Link::with_tickets(stream));
    let Some(id) = shared.connect(identity.clone(), link.clone()) else {
        return;
    };
    log::debug!("connection {id} of {identity}");
    let room = shared.room(id);
    let mut connection =
        Connection { shared: shared.clone(), id, link, end: CloseReason::Shutdown };
    connection.end = connection.run(max_frame, timeouts).await;
    let link = connection.link.clone();
    drop(connection);
    while link.clear_away() {
        tokio::task::yield_now().await;
    }
    shared.sweep().await;
    // What it has sent may still wait for others to take it. Until then it counts as a connection, lest
    // whoever comes again and again has more queued than all connections may have.
    if let Some(room) = room {
        room.emptied().await;
    }
}

/// Who is behind a socket.
pub(crate) fn identify(stream: &Stream) -> Identity {
    match (stream.peer_ip(), stream.peer_uid()) {
        (Some(ip), _) => Identity::Ip(ip),
        (None, Some(uid)) => Identity::Uid(uid),
        (None, None) => Identity::Unknown,
    }
}

/// A connection that the bus knows. It learns of the end however the task ends, that of its runtime
/// included.
struct Connection {
    shared: Arc<Shared>,
    id: ConnId,
    link: Arc<Link<Ticket>>,
    /// What ends it, as far as is known.
    end: CloseReason,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close(self.id, self.end.clone());
    }
}

/// What has come, between the socket and the bus.
struct Incoming {
    inbox: Inbox,
    patience: Patience,
}

impl Connection {
    /// Reads and routes until the end.
    async fn run(&self, max_frame: usize, timeouts: Timeouts) -> CloseReason {
        let mut incoming = Incoming {
            inbox: Inbox::new(FrameDecoder::detecting(max_frame)),
            patience: Patience::new(timeouts, self.shared.clone()),
        };
        match self.receive(&mut incoming).await {
            Err(end) => end,
        }
    }

    async fn receive(&self, incoming: &mut Incoming) -> Result<Infallible, CloseReason> {
        loop {
            let Incoming { inbox, patience, .. } = incoming;
            let received = tokio::select! {
                biased;
                received = self.link.receive_or_full(inbox) => received,
                () = patience.is_over() => Ok(None),
            };
            if is_something(received)? {
                self.route(incoming).await?;
                incoming.patience.has_read(&incoming.inbox, &self.link);
            } else {
                Box::pin(incoming.patience.look(self.id, &self.link)).await?;
            }
        }
    }

    /// Routes all whole frames that have come, batch by batch; those before a violation count.
    async fn route(&self, incoming: &mut Incoming) -> Result<(), CloseReason> {
        let mut afterwards = Afterwards::default();
        let mut begin = tokio::time::Instant::now();
        loop {
            // Bytes count, though they may be only a part of a frame (CO-9).
            let routed = self.shared.receive(self.id, &mut incoming.inbox, &mut afterwards);
            while afterwards.run_for_a_while() {
                tokio::task::yield_now().await;
            }
            match routed? {
                Routed::All => return Ok(()),
                Routed::Some => {}
                // In memory of its own, which an idle connection does without; so it is above.
                Routed::UntilRoom(Wait { room, .. }) => {
                    Box::pin(self.wait(room, incoming)).await?;
                }
            }
            if begin.elapsed() >= SLICE {
                tokio::task::yield_now().await;
                begin = tokio::time::Instant::now();
            }
        }
    }

    async fn sleep_until(&self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => self.shared.clock.sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the frames at hand are routed. Nothing is read meanwhile.
    async fn wait(&self, room: Room, incoming: &mut Incoming) -> Result<(), CloseReason> {
        incoming.patience.does_not_read();
        let waited = self.wait_for(room, incoming).await;
        incoming.patience.reads();
        waited
    }

    async fn wait_for(&self, mut room: Room, incoming: &mut Incoming) -> Result<(), CloseReason> {
        loop {
            let here = room;
            let mut notified = pin!(here.notified());
            notified.as_mut().enable();
            // Once more, now that no room is made without a word.
            let mut afterwards = Afterwards::default();
            let routed = self.shared.receive(self.id, &mut incoming.inbox, &mut afterwards);
            while afterwards.run_for_a_while() {
                tokio::task::yield_now().await;
            }
            let Routed::UntilRoom(Wait { room: wanted, is_own_fault, until }) = routed? else {
                return Ok(());
            };
            room = wanted;
            if !room.is(&here) {
                continue;
            }
            incoming.patience.waits_for_another(!is_own_fault);
            let mut over = pin!(self.sleep_until(until));
            loop {
                let written = tokio::select! {
                    biased;
                    written = self.link.write_only() => written,
                    () = incoming.patience.is_over() => Ok(None),
                    () = &mut notified => break,
                    () = &mut over => break,
                };
                // Nothing is read; the end is all there may be.
                is_something(written)?;
                Box::pin(incoming.patience.look(self.id, &self.link)).await?;
            }
        }
    }
}

/// Whether there are bytes; the end is an error.
fn is_something(received: io::Result<Option<Received>>) -> Result<bool, CloseReason> {
    match received {
        Ok(Some(Received::Bytes)) => Ok(true),
        Ok(None) => Ok(false),
        Ok(Some(Received::End)) => Err(CloseReason::HungUp),
        // Whoever closed it on this side has told the bus, or the router stops.
        Ok(Some(Received::Closed)) => Err(CloseReason::Shutdown),
        Err(error) => Err(CloseReason::Io(error.to_string())),
    }
}
