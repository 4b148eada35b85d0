//! Calls that wait for their replies.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gsb_proto::messages::{CallReply, CallReplyCode, CallReplyReason, CallReplyType, CallRequest};
use tokio::sync::oneshot;

use crate::engine::credit::Credit;
use crate::engine::queue::{Queue, detach};
use crate::error::{Error, LostReason};
use crate::headers::Headers;
use crate::panics::contain;
use crate::reply::Reply;

/// Where the replies of a call go.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// To a caller that waits for one reply.
    Once(oneshot::Sender<Result<Reply, Error>>),
    /// To the buffer of a stream.
    Stream(Arc<Queue<Reply>>),
    /// Nowhere: the call is about to be cancelled.
    Nothing,
}

/// A call that waits for its replies.
#[derive(Debug)]
pub(crate) struct PendingCall {
    address: String,
    /// The timeout in the call that was sent to the router, in milliseconds. Zero if the call has none.
    timeout_ms: u32,
    reply_to: ReplyTo,
    upload: Option<OpenUpload>,
}

/// The credit for the body of a call. It is closed with the call.
#[derive(Debug)]
struct OpenUpload(Arc<Credit>);

impl Drop for OpenUpload {
    fn drop(&mut self) {
        // Its wakers are code of users.
        contain("a waker of the program", || self.0.close());
    }
}

/// The open calls of one connection, by number.
#[derive(Debug, Default)]
pub(crate) struct PendingCalls {
    open: HashMap<u64, PendingCall>,
}

impl PendingCalls {
    pub(crate) fn open(&mut self, number: u64, call: PendingCall) {
        self.open.insert(number, call);
    }

    /// Removes a call that its caller has cancelled. `None` if it has ended.
    pub(crate) fn cancel(&mut self, number: u64) -> Option<PendingCall> {
        self.open.remove(&number)
    }

    /// Whether a call has not ended.
    pub(crate) fn is_open(&self, number: u64) -> bool {
        self.open.contains_key(&number)
    }

    /// The credit for the body of an open call.
    pub(crate) fn credit(&self, number: u64) -> Option<Arc<Credit>> {
        Some(self.open.get(&number)?.upload.as_ref()?.0.clone())
    }

    /// The call that a reply is for, to be [delivered](PendingCall::deliver) when no lock is held. Removes the call
    /// if the reply is its last. `None` if there is no such call.
    pub(crate) fn reply(&mut self, number: u64, reply: &CallReply) -> Option<PendingCall> {
        if !is_partial(reply) {
            return self.open.remove(&number);
        }
        let call = self.open.get_mut(&number)?;
        let reply_to = match &call.reply_to {
            ReplyTo::Stream(queue) => ReplyTo::Stream(queue.clone()),
            // The caller expects one reply. It gets an error with the first of several.
            _ => std::mem::replace(&mut call.reply_to, ReplyTo::Nothing),
        };
        let (address, timeout_ms) = (call.address.clone(), call.timeout_ms);
        Some(PendingCall { address, timeout_ms, reply_to, upload: None })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// All calls, oldest first. The connection is lost.
    pub(crate) fn into_pending(self) -> impl Iterator<Item = PendingCall> {
        let mut open: Vec<_> = self.open.into_iter().collect();
        open.sort_unstable_by_key(|(number, _)| *number);
        open.into_iter().map(|(_, pending)| pending)
    }
}

impl PendingCall {
    /// `upload` is the credit for the body of the request, if it has one.
    pub(crate) fn new(
        request: &CallRequest,
        reply_to: ReplyTo,
        upload: Option<Arc<Credit>>,
    ) -> Self {
        let (address, timeout_ms) = (request.address.clone(), request.timeout_ms);
        PendingCall { address, timeout_ms, reply_to, upload: upload.map(OpenUpload) }
    }

    /// The router does not support credit, so that the limit of the buffer holds.
    pub(crate) fn has_no_credit(&self) {
        if let ReplyTo::Stream(queue) = &self.reply_to {
            queue.set_window(0);
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Delivers a reply. `false` if the caller wants no further one.
    pub(crate) fn deliver(self, reply: &CallReply) -> bool {
        let result = self.result(reply);
        match self.reply_to {
            ReplyTo::Once(sender) => {
                let result = match result {
                    Ok(_) if is_partial(reply) => Err(Error::IsStream { address: self.address }),
                    result => result,
                };
                answer(sender, result);
                false
            }
            ReplyTo::Nothing => false,
            ReplyTo::Stream(queue) => {
                let is_last = is_last(reply);
                let wanted = match result {
                    Err(error) => {
                        queue.end(Some(error));
                        false
                    }
                    // The last reply has a payload or headers, or marks only the end.
                    Ok(reply) if is_last && reply.is_empty() => false,
                    Ok(reply) => {
                        let (length, headers) = (reply.data.len(), reply.headers.memory());
                        queue.push(reply, length, headers)
                    }
                };
                if is_last {
                    queue.end(None);
                }
                wanted && !is_last
            }
        }
    }

    /// A reply of the service, or the error that it stands for.
    fn result(&self, reply: &CallReply) -> Result<Reply, Error> {
        if reply.code == CallReplyCode::CallReplyOk as i32 {
            let headers = Headers::from(reply.headers.clone());
            return Ok(Reply { data: detach(reply.data.clone()), headers });
        }
        let address = self.address.clone();
        let message = String::from_utf8_lossy(&reply.data).into_owned();
        let is_bad_request = reply.code == CallReplyCode::CallReplyBadRequest as i32;
        Err(match (reply.reason(), CallReplyCode::try_from(reply.code)) {
            (_, Err(_)) => Error::UnknownCode { address, code: reply.code, message },
            (CallReplyReason::ReasonNoSuchService, _) if is_bad_request => {
                Error::NoSuchService { address, message }
            }
            (CallReplyReason::ReasonRouterStops, _) => match is_bad_request {
                true => Error::NotSent(LostReason::Stopping),
                false => Error::ConnectionLost(LostReason::Stopping),
            },
            (CallReplyReason::ReasonBusy, _) => Error::Busy { address, message },
            (CallReplyReason::ReasonCancelled, _) => Error::Cancelled { address, message },
            (CallReplyReason::ReasonDeadlineExceeded, _) => {
                let after = Duration::from_millis(self.timeout_ms.into());
                Error::Timeout { target: address, after }
            }
            (CallReplyReason::ReasonUnsupported, _) if is_bad_request => {
                Error::Unsupported { target: address, message }
            }
            _ if is_bad_request => Error::BadRequest { target: address, message },
            _ => Error::ServiceFailure { address, message },
        })
    }

    /// Ends the call with an error.
    pub(crate) fn fail(self, error: Error) {
        match self.reply_to {
            ReplyTo::Once(sender) => answer(sender, Err(error)),
            ReplyTo::Stream(queue) => queue.end(Some(error)),
            ReplyTo::Nothing => {}
        }
    }
}

/// Delivers the only reply. The caller may be gone, and its waker may panic.
fn answer(sender: oneshot::Sender<Result<Reply, Error>>, result: Result<Reply, Error>) {
    contain("a waker of the program", || drop(sender.send(result)));
}

pub(crate) fn is_partial(reply: &CallReply) -> bool {
    reply.reply_type == CallReplyType::Partial as i32
}

/// Whether a reply is the last one of its call: it says so, or it is a refusal.
fn is_last(reply: &CallReply) -> bool {
    !is_partial(reply) || reply.code != CallReplyCode::CallReplyOk as i32
}
