//! The task of one connection.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Wake, Waker};

use gsb_core::{CloseReason, ConnId};
use gsb_net::{Inbox, Link, Received, Stream};
use gsb_proto::FrameDecoder;
use tokio::sync::Notify;

use crate::deferred::Deferred;
use crate::identity::identify;
use crate::queued_frame::QueuedFrame;
use crate::router_state::{Routed, RouterState};
use crate::slow_peers::watch;
use crate::turn::SLICE;

/// Serves a peer until its connection ends, and clears its state away.
pub(crate) async fn serve(state: Arc<RouterState>, stream: Stream, max_frame: usize) {
    let identity = identify(&stream);
    let link = Arc::new(Link::unlimited(stream));
    let resume = Arc::new(Resume(Notify::new()));
    let waker = Waker::from(resume.clone());
    let Some(id) = state.connect(identity.clone(), link.clone(), waker) else {
        return;
    };
    log::debug!("connection {id} of {identity}");
    let (end, watch) = (CloseReason::Shutdown, None);
    let mut connection =
        Connection { state: state.clone(), id, link: link.clone(), resume, watch, end };
    connection.end = connection.run(max_frame).await;
    drop(connection);
    while link.clear_away() {
        tokio::task::yield_now().await;
    }
    state.sweep().await;
}

/// Resumes the task of a connection that is paused.
#[derive(Debug)]
struct Resume(Notify);

impl Wake for Resume {
    fn wake(self: Arc<Self>) {
        // The permit is kept until the task waits for it.
        self.0.notify_one();
    }
}

/// Watches over a peer: see [`watch`].
type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that is registered at the broker. Dropping it reports its end, also when the runtime ends.
struct Connection {
    state: Arc<RouterState>,
    id: ConnId,
    link: Arc<Link<QueuedFrame>>,
    resume: Arc<Resume>,
    /// Watches the peer from the moment its socket is full until the outbox is empty.
    watch: Option<Watch>,
    /// The reason of its end so far.
    end: CloseReason,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.state.close(self.id, self.end.clone());
    }
}

impl Connection {
    /// Reads and routes until the end.
    async fn run(&mut self, max_frame: usize) -> CloseReason {
        match self.receive(Inbox::new(FrameDecoder::detecting(max_frame))).await {
            Err(end) => end,
        }
    }

    async fn receive(&mut self, mut inbox: Inbox) -> Result<Infallible, CloseReason> {
        loop {
            // While a peer sends without a pause, the link does not report a full socket.
            self.watch_if_full();
            let received = self.link.receive_or_full(&mut inbox);
            if is_something(watching(&mut self.watch, received).await)? {
                self.route(&mut inbox).await?;
            }
        }
    }

    /// Routes all complete frames in batches, also those before a violation.
    async fn route(&mut self, inbox: &mut Inbox) -> Result<(), CloseReason> {
        let mut deferred = Deferred::default();
        let mut begin = tokio::time::Instant::now();
        loop {
            // Received bytes count as a sign of life, even if they are only a part of a frame (CO-9).
            let routed = self.state.receive(self.id, inbox, &mut deferred);
            while deferred.run_for_a_while() {
                tokio::task::yield_now().await;
            }
            match routed? {
                Routed::All => return Ok(()),
                Routed::Some => {}
                // Boxed, so that an idle connection needs no memory for it.
                Routed::Paused => Box::pin(self.pause()).await?,
            }
            if begin.elapsed() >= SLICE {
                tokio::task::yield_now().await;
                begin = tokio::time::Instant::now();
            }
        }
    }

    /// Waits, without reading, until the next frame is to be handled again.
    async fn pause(&mut self) -> Result<(), CloseReason> {
        loop {
            self.watch_if_full();
            tokio::select! {
                biased;
                // Without reading, the only event besides a full socket is the end.
                written = watching(&mut self.watch, self.link.write_only()) => {
                    is_something(written)?
                }
                () = self.resume.0.notified() => return Ok(()),
            };
        }
    }

    /// Starts to watch the peer if its socket is full.
    fn watch_if_full(&mut self) {
        if self.watch.is_none() && self.link.is_full() {
            let watch = watch(self.state.clone(), self.id, self.link.clone());
            self.watch = Some(Box::pin(watch));
        }
    }
}

/// Drives the link of a connection, and watches its peer meanwhile.
async fn watching<T>(watch: &mut Option<Watch>, drive: impl Future<Output = T>) -> T {
    let mut drive = pin!(drive);
    if let Some(watching) = watch {
        tokio::select! {
            biased;
            () = watching => *watch = None,
            driven = &mut drive => return driven,
        }
    }
    drive.await
}

/// Whether bytes were received. The end of the connection is an error.
fn is_something(received: io::Result<Option<Received>>) -> Result<bool, CloseReason> {
    match received {
        Ok(Some(Received::Bytes)) => Ok(true),
        Ok(None) => Ok(false),
        Ok(Some(Received::End)) => Err(CloseReason::HungUp),
        // The broker closed the connection, or the router stops.
        Ok(Some(Received::Closed)) => Err(CloseReason::Shutdown),
        Err(error) => Err(CloseReason::Io(error.to_string())),
    }
}
