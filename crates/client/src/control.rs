//! Requests that are answered without an id, in order, per kind.

use std::collections::VecDeque;

use gsb_proto::messages::{
    BroadcastReply, BroadcastReplyCode, RegisterReply, RegisterReplyCode, SubscribeReply,
    SubscribeReplyCode, UnregisterReply, UnsubscribeReply,
};
use gsb_proto::{Frame, MessageKind};
use tokio::sync::oneshot;

use crate::announcements::Ask;
use crate::error::{Error, LostReason};

/// What comes of a request, for whoever waits for it.
pub(crate) type Outcome = Result<(), Error>;

/// A request that waits for its reply.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) kind: MessageKind,
    /// The name or topic that it is about.
    pub(crate) target: String,
    pub(crate) then: Then,
}

/// Who is interested in the reply to a request.
#[derive(Debug)]
pub(crate) enum Then {
    /// Whoever waits for it.
    Tell(oneshot::Sender<Outcome>),
    /// All that need the name; see [`Announcements`](crate::announcements::Announcements).
    Announced(Ask),
}

/// How many requests may wait for their replies. A router that owes more answers than that is not asked
/// for more.
const MAX_UNANSWERED: usize = 262_144;

/// The requests of one connection that wait for their replies, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Control {
    queues: [VecDeque<Request>; 6],
}

/// The queue of a kind, request or reply.
fn queue_of(kind: MessageKind) -> Option<usize> {
    Some(match kind {
        MessageKind::RegisterRequest | MessageKind::RegisterReply => 0,
        MessageKind::UnregisterRequest | MessageKind::UnregisterReply => 1,
        MessageKind::SubscribeRequest | MessageKind::SubscribeReply => 2,
        MessageKind::UnsubscribeRequest | MessageKind::UnsubscribeReply => 3,
        MessageKind::BroadcastRequest | MessageKind::BroadcastReply => 4,
        MessageKind::Ping | MessageKind::Pong => 5,
        _ => return None,
    })
}

impl Control {
    /// Notes a request. Must happen in the order of sending.
    pub(crate) fn asked(&mut self, request: Request) {
        if let Some(queue) = queue_of(request.kind) {
            self.queues[queue].push_back(request);
        }
    }

    /// Whether the router owes too many answers.
    pub(crate) fn is_full(&self) -> bool {
        self.queues.iter().map(VecDeque::len).sum::<usize>() >= MAX_UNANSWERED
    }

    /// Takes the oldest request that a reply may answer, and what the reply says.
    pub(crate) fn reply(&mut self, frame: &Frame) -> Result<(Request, Outcome), LostReason> {
        let request = queue_of(frame.kind)
            .and_then(|queue| self.queues[queue].pop_front())
            .ok_or(LostReason::UnexpectedReply(frame.kind.name()))?;
        let outcome = outcome(frame, &request.target)?;
        Ok((request, outcome))
    }

    /// Whether a request waits for a reply of this kind.
    pub(crate) fn waits_for(&self, kind: MessageKind) -> bool {
        queue_of(kind).is_some_and(|queue| !self.queues[queue].is_empty())
    }

    /// Everything that waits; nothing will be answered any more.
    pub(crate) fn into_requests(self) -> impl Iterator<Item = Request> {
        self.queues.into_iter().flatten()
    }
}

/// What a reply to a request about `target` says.
fn outcome(frame: &Frame, target: &str) -> Result<Outcome, LostReason> {
    let (code, done, message) = match frame.kind {
        MessageKind::RegisterReply => {
            let reply: RegisterReply = frame.decode()?;
            if reply.code == RegisterReplyCode::RegisterConflict as i32 {
                let service_id = target.to_owned();
                return Ok(Err(Error::AlreadyRegistered { service_id, message: reply.message }));
            }
            (reply.code, RegisterReplyCode::RegisteredOk as i32, reply.message)
        }
        // That it is not registered is what was wanted.
        MessageKind::UnregisterReply => {
            let UnregisterReply { .. } = frame.decode()?;
            return Ok(Ok(()));
        }
        MessageKind::SubscribeReply => {
            let reply: SubscribeReply = frame.decode()?;
            (reply.code, SubscribeReplyCode::SubscribedOk as i32, reply.message)
        }
        MessageKind::UnsubscribeReply => {
            let UnsubscribeReply { .. } = frame.decode()?;
            return Ok(Ok(()));
        }
        MessageKind::BroadcastReply => {
            let reply: BroadcastReply = frame.decode()?;
            (reply.code, BroadcastReplyCode::BroadcastOk as i32, reply.message)
        }
        MessageKind::Pong => return Ok(Ok(())),
        kind => return Err(LostReason::UnexpectedReply(kind.name())),
    };
    if code == done {
        return Ok(Ok(()));
    }
    Ok(Err(match frame.kind {
        MessageKind::RegisterReply | MessageKind::SubscribeReply => {
            Error::NameRefused { name: target.to_owned(), message }
        }
        _ => Error::BadRequest { target: target.to_owned(), message },
    }))
}
