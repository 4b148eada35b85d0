//! The task of one connection.

use std::sync::Arc;

use gsb_bus::{CloseReason, ConnId, Identity};
use gsb_net::{Inbox, Link, Received, Stream};
use gsb_proto::{Frame, FrameDecoder};

use crate::config::OUTBOX_LIMIT;
use crate::shared::Shared;

/// Serves a peer until it goes or is sent away.
pub(crate) async fn serve(shared: Arc<Shared>, stream: Stream, max_frame: usize) {
    let identity = identify(&stream);
    let link = Arc::new(Link::new(stream, OUTBOX_LIMIT));
    let connection = shared.connect(identity.clone(), link.clone());
    log::debug!("connection {connection} from {identity:?}");
    let reason = receive(&shared, connection, &link, max_frame).await;
    shared.close(connection, reason);
}

fn identify(stream: &Stream) -> Identity {
    match (stream.peer_ip(), stream.peer_uid()) {
        (Some(ip), _) => Identity::Ip(ip),
        (None, Some(uid)) => Identity::Uid(uid),
        (None, None) => Identity::Unknown,
    }
}

/// Reads and routes, batch by batch, until the end.
async fn receive(
    shared: &Shared,
    connection: ConnId,
    link: &Link,
    max_frame: usize,
) -> CloseReason {
    let mut inbox = Inbox::new(FrameDecoder::detecting(max_frame));
    let mut frames = Vec::new();
    let mut flush = Vec::new();
    loop {
        match link.receive(&mut inbox).await {
            Ok(Received::Bytes) => {}
            Ok(Received::End) => return CloseReason::HungUp,
            // Whoever closed it on this side has told the bus, or the router stops.
            Ok(Received::Closed) => return CloseReason::Shutdown,
            Err(error) => return CloseReason::Io(error.to_string()),
        }
        let end = collect(&mut inbox, &mut frames);
        shared.receive(connection, inbox.framing(), &mut frames, &mut flush);
        if let Err(reason) = end {
            return reason;
        }
    }
}

/// Takes all whole frames; those before a violation count.
fn collect(inbox: &mut Inbox, frames: &mut Vec<Frame>) -> Result<(), CloseReason> {
    while let Some(frame) = inbox.next_frame()? {
        frames.push(frame);
    }
    Ok(())
}
