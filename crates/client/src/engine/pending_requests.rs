//! The requests of a connection whose replies have no id: the router answers the requests of a kind in their order.

use std::collections::VecDeque;
use std::sync::Arc;

use gsb_proto::messages::{
    BroadcastReply, BroadcastReplyCode, RegisterReply, RegisterReplyCode, SubscribeReply,
    SubscribeReplyCode, UnregisterReply, UnsubscribeReply,
};
use gsb_proto::{Frame, MessageKind};

use crate::engine::request::{Counted, OnReply, Request};
use crate::engine::service_entry::ServiceEntry;
use crate::error::{Error, LostReason};

/// How much memory the requests that wait for their replies may take, in bytes: 64 MiB. A router that owes as many
/// answers is sent no further request. A request whose caller has gone waits, too: without it the replies would not
/// match the requests.
const MAX_UNANSWERED: usize = 64 << 20;

/// The longest message of the router that an error keeps, in bytes. A bus keeps one for each refused name.
const LONGEST_MESSAGE: usize = 1024;

/// The requests of one connection that wait for their replies, oldest first, by kind.
#[derive(Debug, Default)]
pub(crate) struct PendingRequests {
    queues: [VecDeque<Request>; 6],
    /// The memory that the requests take, in bytes.
    taken: usize,
    /// How many of the requests [give back](OnReply::GivenBack) a name. If it is 0, the list is not searched.
    given_back: usize,
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

impl PendingRequests {
    /// Records a request. Requests must be recorded in the order of sending.
    pub(crate) fn record(&mut self, request: Request) {
        if let Some(queue) = queue_of(request.kind) {
            self.taken += request.cost();
            self.given_back += usize::from(request.gives_back());
            self.queues[queue].push_back(request);
        }
    }

    /// Fails if the router owes too many answers to be sent another request of this kind.
    pub(crate) fn check(&self, kind: MessageKind) -> Result<(), Error> {
        match queue_of(kind) {
            Some(_) if self.taken >= MAX_UNANSWERED => Err(Error::NotSent(LostReason::Unanswered)),
            _ => Ok(()),
        }
    }

    /// Removes the request that a reply answers. Returns it with its outcome, which for a broadcast has a number.
    pub(crate) fn reply(&mut self, frame: &Frame) -> Result<(Request, Counted), LostReason> {
        let unexpected = || LostReason::UnexpectedReply(frame.kind.name());
        let queue = &mut self.queues[queue_of(frame.kind).ok_or_else(unexpected)?];
        let outcome = outcome(frame, &queue.front().ok_or_else(unexpected)?.target)?;
        // Not before: dropping a request runs code of users, and the caller holds a lock.
        let request = queue.pop_front().ok_or_else(unexpected)?;
        self.taken -= request.cost();
        self.given_back -= usize::from(request.gives_back());
        Ok((request, outcome))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Whether a request waits for a reply of this kind.
    pub(crate) fn waits_for(&self, kind: MessageKind) -> bool {
        queue_of(kind).is_some_and(|queue| !self.queues[queue].is_empty())
    }

    /// The service that gets the calls to an address while its name is [given back](OnReply::GivenBack).
    pub(crate) fn given_back(&self, address: &str) -> Option<&Arc<ServiceEntry>> {
        if self.given_back == 0 {
            return None;
        }
        let [_, unregistering, ..] = &self.queues;
        let serves = |service: &&Arc<ServiceEntry>| {
            let rest = address.strip_prefix(service.id.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let given_back = unregistering.iter().filter_map(|request| match &request.on_reply {
            OnReply::GivenBack(_, service) => Some(service),
            OnReply::Notify(_) | OnReply::Count(_) | OnReply::Announced(_) => None,
        });
        given_back.filter(serves).max_by_key(|service| service.id.as_str().len())
    }

    /// All requests. The connection is lost.
    pub(crate) fn into_requests(self) -> impl Iterator<Item = Request> {
        self.queues.into_iter().flatten()
    }
}

/// The outcome that a reply to a request about `target` reports.
fn outcome(frame: &Frame, target: &str) -> Result<Counted, LostReason> {
    let mut receivers = None;
    let (code, done, message) = match frame.kind {
        MessageKind::RegisterReply => {
            let reply: RegisterReply = frame.decode()?;
            if reply.code == RegisterReplyCode::RegisterConflict as i32 {
                let service_id = target.to_owned();
                let message = cut(reply.message);
                return Ok(Err(Error::AlreadyRegistered { service_id, message }));
            }
            (reply.code, RegisterReplyCode::RegisteredOk as i32, reply.message)
        }
        // A refusal means that the name is not registered, as was requested.
        MessageKind::UnregisterReply => {
            let UnregisterReply { .. } = frame.decode()?;
            return Ok(Ok(None));
        }
        MessageKind::SubscribeReply => {
            let reply: SubscribeReply = frame.decode()?;
            (reply.code, SubscribeReplyCode::SubscribedOk as i32, reply.message)
        }
        MessageKind::UnsubscribeReply => {
            let UnsubscribeReply { .. } = frame.decode()?;
            return Ok(Ok(None));
        }
        MessageKind::BroadcastReply => {
            let reply: BroadcastReply = frame.decode()?;
            receivers = reply.receivers;
            (reply.code, BroadcastReplyCode::BroadcastOk as i32, reply.message)
        }
        MessageKind::Pong => return Ok(Ok(None)),
        kind => return Err(LostReason::UnexpectedReply(kind.name())),
    };
    if code == done {
        return Ok(Ok(receivers));
    }
    let message = cut(message);
    Ok(Err(match frame.kind {
        MessageKind::RegisterReply | MessageKind::SubscribeReply => {
            Error::NameRefused { name: target.to_owned(), message }
        }
        _ => Error::BadRequest { target: target.to_owned(), message },
    }))
}

/// The beginning of a message of the router, so that the router does not decide how much memory its refusals take.
pub(crate) fn cut(message: String) -> String {
    match message.len() {
        0..=LONGEST_MESSAGE => message,
        _ => message[..message.floor_char_boundary(LONGEST_MESSAGE)].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use gsb_proto::messages::Message as _;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn requests_that_are_never_answered_take_bounded_memory() {
        let mut requests = PendingRequests::default();
        let mut asked = 0;
        while requests.check(MessageKind::BroadcastRequest).is_ok() {
            let (sender, _cancelled) = oneshot::channel();
            let (kind, target) = (MessageKind::BroadcastRequest, "t".repeat(1000));
            requests.record(Request { kind, target, on_reply: OnReply::Notify(sender) });
            asked += 1;
        }
        assert_eq!(asked, (64 << 20) / 1256 + 1);
        assert!(matches!(
            requests.check(MessageKind::RegisterRequest),
            Err(Error::NotSent(LostReason::Unanswered))
        ));
        assert!(requests.check(MessageKind::CallRequest).is_ok(), "its reply has an id");
        let (request, _) =
            requests.reply(&BroadcastReply::default().to_frame()).expect("a reply to the oldest");
        assert_eq!(request.kind, MessageKind::BroadcastRequest);
        assert!(requests.check(MessageKind::RegisterRequest).is_ok());
    }

    #[test]
    fn a_long_message_is_cut() {
        let mut requests = PendingRequests::default();
        let (sender, _) = oneshot::channel();
        let (kind, target) = (MessageKind::SubscribeRequest, "t".to_owned());
        requests.record(Request { kind, target, on_reply: OnReply::Notify(sender) });
        let reply = SubscribeReply { code: 400, message: "\u{20ac}".repeat(50_000) };
        let (_, outcome) = requests.reply(&reply.to_frame()).expect("a reply");
        let Err(Error::NameRefused { message, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(message, "\u{20ac}".repeat(341));
    }
}
