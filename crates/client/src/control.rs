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

/// How much memory requests may take that wait for their replies, in bytes: 64 MiB. A router that owes so many answers
/// is asked for nothing new. The answers have no ids, so a request whose user has given up waits, too.
const MAX_UNANSWERED: usize = 64 << 20;

/// What a request takes besides the text of its target, in bytes.
const REQUEST: usize = 256;

/// How much of a message of the router is kept in an error, in bytes. A bus keeps one for each name that is refused.
const LONGEST_MESSAGE: usize = 1024;

/// The requests of one connection that wait for their replies, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Control {
    queues: [VecDeque<Request>; 6],
    /// The memory that they take, in bytes.
    taken: usize,
}

impl Request {
    /// The memory that it takes, in bytes. A name to be announced is there twice.
    fn cost(&self) -> usize {
        let copies = match self.then {
            Then::Announced(_) => 2,
            Then::Tell(_) => 1,
        };
        REQUEST + copies * self.target.len()
    }
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
            self.taken += request.cost();
            self.queues[queue].push_back(request);
        }
    }

    /// Whether the router may be sent another request of this kind: not if it owes too many answers.
    pub(crate) fn check(&self, kind: MessageKind) -> Result<(), Error> {
        match queue_of(kind) {
            Some(_) if self.taken >= MAX_UNANSWERED => Err(Error::NotSent(LostReason::Unanswered)),
            _ => Ok(()),
        }
    }

    /// Takes the oldest request that a reply may answer, and what the reply says.
    pub(crate) fn reply(&mut self, frame: &Frame) -> Result<(Request, Outcome), LostReason> {
        let request = queue_of(frame.kind)
            .and_then(|queue| self.queues[queue].pop_front())
            .ok_or(LostReason::UnexpectedReply(frame.kind.name()))?;
        self.taken -= request.cost();
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
                let message = cut(reply.message);
                return Ok(Err(Error::AlreadyRegistered { service_id, message }));
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
    let message = cut(message);
    Ok(Err(match frame.kind {
        MessageKind::RegisterReply | MessageKind::SubscribeReply => {
            Error::NameRefused { name: target.to_owned(), message }
        }
        _ => Error::BadRequest { target: target.to_owned(), message },
    }))
}

/// The beginning of a message of the router, so that it does not decide how much memory its refusals take.
fn cut(message: String) -> String {
    match message.len() {
        0..=LONGEST_MESSAGE => message,
        _ => message[..message.floor_char_boundary(LONGEST_MESSAGE)].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use gsb_proto::messages::Message as _;

    use super::*;

    #[test]
    fn requests_that_are_never_answered_take_bounded_memory() {
        let mut control = Control::default();
        let mut asked = 0;
        while control.check(MessageKind::BroadcastRequest).is_ok() {
            let (waiting, _given_up) = oneshot::channel();
            let (kind, target) = (MessageKind::BroadcastRequest, "t".repeat(1000));
            control.asked(Request { kind, target, then: Then::Tell(waiting) });
            asked += 1;
        }
        assert_eq!(asked, (64 << 20) / 1256 + 1);
        assert!(matches!(
            control.check(MessageKind::RegisterRequest),
            Err(Error::NotSent(LostReason::Unanswered))
        ));
        assert!(control.check(MessageKind::CallRequest).is_ok(), "its reply has an id");
        let (request, _) =
            control.reply(&BroadcastReply::default().to_frame()).expect("a reply to the oldest");
        assert_eq!(request.kind, MessageKind::BroadcastRequest);
        assert!(control.check(MessageKind::RegisterRequest).is_ok());
    }

    #[test]
    fn a_long_message_is_cut() {
        let mut control = Control::default();
        let (waiting, _) = oneshot::channel();
        let (kind, target) = (MessageKind::SubscribeRequest, "t".to_owned());
        control.asked(Request { kind, target, then: Then::Tell(waiting) });
        let reply = SubscribeReply { code: 400, message: "\u{20ac}".repeat(50_000) };
        let (_, outcome) = control.reply(&reply.to_frame()).expect("a reply");
        let Err(Error::NameRefused { message, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(message, "\u{20ac}".repeat(341));
    }
}
