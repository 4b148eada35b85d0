//! The task of one connection.

use std::sync::Arc;

use gsb_bus::{CloseReason, ConnId, Identity};
use gsb_net::{Inbox, Link, Received, Stream};
use gsb_proto::{Frame, FrameDecoder};

use crate::config::OUTBOX_LIMIT;
use crate::shared::{Afterwards, Shared};

/// How many frames are routed under one lock.
const BATCH: usize = 64;

/// Serves a peer until it goes or is sent away.
pub(crate) async fn serve(shared: Arc<Shared>, stream: Stream, max_frame: usize) {
    let identity = identify(&stream);
    let link = Arc::new(Link::new(stream, OUTBOX_LIMIT));
    let Some(id) = shared.connect(identity.clone(), link.clone()) else {
        return;
    };
    log::debug!("connection {id} from {identity:?}");
    let mut connection = Connection { shared, id, end: CloseReason::Shutdown };
    connection.end = connection.receive(&link, max_frame).await;
}

fn identify(stream: &Stream) -> Identity {
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
    /// What ends it, as far as is known.
    end: CloseReason,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close(self.id, self.end.clone());
    }
}

impl Connection {
    /// Reads and routes until the end.
    async fn receive(&self, link: &Link, max_frame: usize) -> CloseReason {
        let mut inbox = Inbox::new(FrameDecoder::detecting(max_frame));
        loop {
            match link.receive(&mut inbox).await {
                Ok(Received::Bytes) => {}
                Ok(Received::End) => return CloseReason::HungUp,
                // Whoever closed it on this side has told the bus, or the router stops.
                Ok(Received::Closed) => return CloseReason::Shutdown,
                Err(error) => return CloseReason::Io(error.to_string()),
            }
            if let Err(reason) = self.route(&mut inbox) {
                return reason;
            }
        }
    }

    /// Routes all whole frames that have come, batch by batch; those before a violation count.
    fn route(&self, inbox: &mut Inbox) -> Result<(), CloseReason> {
        let mut frames = Vec::new();
        let mut afterwards = Afterwards::default();
        loop {
            let is_full = collect(inbox, &mut frames);
            self.shared.receive(self.id, inbox.framing(), &mut frames, &mut afterwards);
            if !is_full? {
                return Ok(());
            }
        }
    }
}

/// Takes whole frames; `true` if there may be more than fit into a batch.
fn collect(inbox: &mut Inbox, frames: &mut Vec<Frame>) -> Result<bool, CloseReason> {
    while let Some(frame) = inbox.next_frame()? {
        frames.push(frame);
        if frames.len() == BATCH {
            return Ok(true);
        }
    }
    Ok(false)
}
