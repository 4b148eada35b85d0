//! Calls that wait for their replies.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use gsb_proto::messages::{CallReply, CallReplyCode, CallReplyReason, CallReplyType};
use tokio::sync::oneshot;

use crate::error::{Error, LostReason};
use crate::panics::contain;
use crate::queue::{Queue, detach};

/// Who waits for the replies of a call.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// For one reply.
    Once(oneshot::Sender<Result<Bytes, Error>>),
    /// For a stream of replies.
    Stream(Arc<Queue<Bytes>>),
    /// For nothing: the call is about to be given up.
    Nothing,
}

/// A call that waits for a reply.
#[derive(Debug)]
pub(crate) struct Pending {
    address: String,
    waiting: Waiting,
}

/// The open calls of one connection, by number.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    open: HashMap<u64, Pending>,
}

impl Calls {
    pub(crate) fn open(&mut self, number: u64, address: String, waiting: Waiting) {
        self.open.insert(number, Pending { address, waiting });
    }

    /// The caller wants nothing more of a call. `None` if it has had its last reply.
    pub(crate) fn give_up(&mut self, number: u64) -> Option<Pending> {
        self.open.remove(&number)
    }

    /// Whom a reply is for, to be [delivered](Pending::deliver) when no lock is held. Takes the call out
    /// if the reply is its last; `None` if nobody waits.
    pub(crate) fn reply(&mut self, number: u64, reply: &CallReply) -> Option<Pending> {
        if !is_partial(reply) {
            return self.open.remove(&number);
        }
        let call = self.open.get_mut(&number)?;
        let waiting = match &call.waiting {
            Waiting::Stream(queue) => Waiting::Stream(queue.clone()),
            // One reply was expected: it learns that there are several, and the others are not wanted.
            _ => std::mem::replace(&mut call.waiting, Waiting::Nothing),
        };
        Some(Pending { address: call.address.clone(), waiting })
    }

    /// Every call, oldest first; none will be answered any more.
    pub(crate) fn into_pending(self) -> impl Iterator<Item = Pending> {
        let mut open: Vec<_> = self.open.into_iter().collect();
        open.sort_unstable_by_key(|(number, _)| *number);
        open.into_iter().map(|(_, pending)| pending)
    }
}

impl Pending {
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Hands a reply to whoever waits for it; `false` if nothing more is wanted.
    pub(crate) fn deliver(self, reply: &CallReply) -> bool {
        let result = payload(&self.address, reply);
        match self.waiting {
            Waiting::Once(waiting) => {
                let result = match result {
                    Ok(_) if is_partial(reply) => Err(Error::IsStream { address: self.address }),
                    result => result,
                };
                answer(waiting, result);
                false
            }
            Waiting::Nothing => false,
            Waiting::Stream(queue) => {
                let is_last = is_last(reply);
                let wanted = match result {
                    Err(error) => {
                        queue.end(Some(error));
                        false
                    }
                    // The last reply may bring something, or only the end.
                    Ok(data) if is_last && data.is_empty() => false,
                    Ok(data) => {
                        let length = data.len();
                        queue.push(data, length)
                    }
                };
                if is_last {
                    queue.end(None);
                }
                wanted && !is_last
            }
        }
    }

    /// The connection is gone.
    pub(crate) fn lost(self, reason: &LostReason) {
        let error = Error::ConnectionLost(reason.clone());
        match self.waiting {
            Waiting::Once(waiting) => answer(waiting, Err(error)),
            Waiting::Stream(queue) => queue.end(Some(error)),
            Waiting::Nothing => {}
        }
    }
}

/// Ends the wait for one reply. The caller may not wait any more, and its waker may panic.
fn answer(waiting: oneshot::Sender<Result<Bytes, Error>>, result: Result<Bytes, Error>) {
    contain("a waker", || drop(waiting.send(result)));
}

pub(crate) fn is_partial(reply: &CallReply) -> bool {
    reply.reply_type == CallReplyType::Partial as i32
}

/// Whether a call is over with this reply: it says so, or it is a refusal.
fn is_last(reply: &CallReply) -> bool {
    !is_partial(reply) || reply.code != CallReplyCode::CallReplyOk as i32
}

/// What a reply says: its payload, or the refusal that it is.
fn payload(address: &str, reply: &CallReply) -> Result<Bytes, Error> {
    if reply.code == CallReplyCode::CallReplyOk as i32 {
        return Ok(detach(reply.data.clone()));
    }
    let is_stopping = reply.reason() == CallReplyReason::ReasonRouterStops;
    let address = address.to_owned();
    let message = String::from_utf8_lossy(&reply.data).into_owned();
    Err(match CallReplyCode::try_from(reply.code) {
        Ok(CallReplyCode::CallReplyBadRequest)
            if reply.reason() == CallReplyReason::ReasonNoSuchService =>
        {
            Error::NoSuchService { address, message }
        }
        Ok(CallReplyCode::CallReplyBadRequest) if is_stopping => {
            Error::NotSent(LostReason::Stopping)
        }
        Ok(_) if is_stopping => Error::ConnectionLost(LostReason::Stopping),
        Ok(_) if reply.reason() == CallReplyReason::ReasonBusy => Error::Busy { address, message },
        Ok(CallReplyCode::CallReplyBadRequest) => Error::BadRequest { target: address, message },
        Ok(_) => Error::ServiceFailure { address, message },
        Err(_) => Error::UnknownCode { address, code: reply.code, message },
    })
}
