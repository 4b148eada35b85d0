//! Requests that are answered without an id, in order, per kind. (Subscriptions, which may wait for
//! each other's answers, keep their own.)

use std::collections::VecDeque;

use gsb_proto::messages::{
    BroadcastReply, BroadcastReplyCode, RegisterReply, RegisterReplyCode, UnregisterReply,
    UnregisterReplyCode, UnsubscribeReply, UnsubscribeReplyCode,
};
use gsb_proto::{Frame, MessageKind};
use tokio::sync::oneshot;

use crate::error::{Error, LostReason};

/// What comes of a request. Ends without a value only with the connection.
pub(crate) type Answer = oneshot::Receiver<Result<(), Error>>;

/// The answer to a request that need not be made.
pub(crate) fn answered_already() -> Answer {
    let (done, answer) = oneshot::channel();
    let _ = done.send(Ok(()));
    answer
}

/// A request that waits for its reply.
#[derive(Debug)]
struct Request {
    /// The name or topic that it was about.
    target: String,
    done: oneshot::Sender<Result<(), Error>>,
}

/// The requests that wait for their replies, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Control {
    register: VecDeque<Request>,
    unregister: VecDeque<Request>,
    unsubscribe: VecDeque<Request>,
    broadcast: VecDeque<Request>,
}

impl Control {
    /// Notes a request of a kind that is answered this way. Must happen in the order of sending.
    pub(crate) fn asked(&mut self, kind: MessageKind, target: String) -> Answer {
        let (done, result) = oneshot::channel();
        if let Some(queue) = self.queue(kind) {
            queue.push_back(Request { target, done });
        }
        result
    }

    /// Hands a reply to the oldest request of its kind.
    pub(crate) fn reply(&mut self, frame: &Frame) -> Result<(), LostReason> {
        let (queue, outcome): (_, Outcome) = match frame.kind {
            MessageKind::RegisterReply => {
                let reply: RegisterReply = frame.decode()?;
                let outcome = match reply.code() {
                    RegisterReplyCode::RegisteredOk if reply.code == 0 => Outcome::Done,
                    RegisterReplyCode::RegisterConflict => Outcome::Conflict(reply.message),
                    _ => Outcome::Refused(reply.message),
                };
                (&mut self.register, outcome)
            }
            MessageKind::UnregisterReply => {
                let reply: UnregisterReply = frame.decode()?;
                let done = reply.code == UnregisterReplyCode::UnregisteredOk as i32;
                let outcome = Outcome::done_or(done, "it is not registered by this connection");
                (&mut self.unregister, outcome)
            }
            MessageKind::UnsubscribeReply => {
                let reply: UnsubscribeReply = frame.decode()?;
                let done = reply.code == UnsubscribeReplyCode::UnsubscribedOk as i32;
                let outcome = Outcome::done_or(done, "it is not subscribed by this connection");
                (&mut self.unsubscribe, outcome)
            }
            _ => {
                let reply: BroadcastReply = frame.decode()?;
                let done = reply.code == BroadcastReplyCode::BroadcastOk as i32;
                (&mut self.broadcast, Outcome::done_or(done, reply.message))
            }
        };
        let request = queue.pop_front().ok_or(LostReason::UnexpectedReply(frame.kind.name()))?;
        // Whoever asked may not wait any more.
        let _ = request.done.send(outcome.into_result(request.target));
        Ok(())
    }

    /// The connection is gone: every request ends.
    pub(crate) fn lost(&mut self, reason: &LostReason) {
        let all = std::mem::take(self);
        let queues = [all.register, all.unregister, all.unsubscribe, all.broadcast];
        for request in queues.into_iter().flatten() {
            let error = Error::ConnectionLost(reason.clone());
            let _ = request.done.send(Err(error));
        }
    }

    fn queue(&mut self, kind: MessageKind) -> Option<&mut VecDeque<Request>> {
        Some(match kind {
            MessageKind::RegisterRequest => &mut self.register,
            MessageKind::UnregisterRequest => &mut self.unregister,
            MessageKind::UnsubscribeRequest => &mut self.unsubscribe,
            MessageKind::BroadcastRequest => &mut self.broadcast,
            _ => return None,
        })
    }
}

/// What a router answers.
enum Outcome {
    Done,
    Conflict(String),
    Refused(String),
}

impl Outcome {
    fn done_or(done: bool, message: impl Into<String>) -> Outcome {
        if done { Outcome::Done } else { Outcome::Refused(message.into()) }
    }

    fn into_result(self, target: String) -> Result<(), Error> {
        match self {
            Outcome::Done => Ok(()),
            Outcome::Conflict(message) => {
                Err(Error::AlreadyRegistered { service_id: target, message })
            }
            Outcome::Refused(message) => Err(Error::BadRequest { target, message }),
        }
    }
}
