//! Calls that wait for their replies.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use gsb_proto::messages::{CallReply, CallReplyCode, CallReplyReason, CallReplyType};
use tokio::sync::oneshot;

use crate::error::{Error, LostReason};
use crate::queue::{Queue, detach};

/// Who waits for the replies of a call.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// For one reply.
    Once(oneshot::Sender<Result<Bytes, Error>>),
    /// For a stream of replies.
    Stream(Arc<Queue<Bytes>>),
}

#[derive(Debug)]
struct OpenCall {
    address: String,
    waiting: Waiting,
}

/// The open calls of one connection, by request id.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    open: HashMap<String, OpenCall>,
}

impl Calls {
    pub(crate) fn open(&mut self, request_id: String, address: String, waiting: Waiting) {
        self.open.insert(request_id, OpenCall { address, waiting });
    }

    /// Nobody waits for this call any more; its replies are dropped when they come.
    pub(crate) fn forget(&mut self, request_id: &str) {
        self.open.remove(request_id);
    }

    /// Hands a reply to whoever waits for it.
    pub(crate) fn reply(&mut self, reply: &CallReply) {
        let id = reply.request_id.as_str();
        let Some(call) = self.open.get(id) else {
            log::debug!("a reply to the call {id}, for which nobody waits, is dropped");
            return;
        };
        let is_last = reply.reply_type != CallReplyType::Partial as i32;
        let goes_on = match &call.waiting {
            Waiting::Once(_) => false,
            Waiting::Stream(queue) => stream_reply(queue, &call.address, reply, is_last),
        };
        if goes_on {
            return;
        }
        if let Some(OpenCall { address, waiting: Waiting::Once(waiting) }) = self.open.remove(id) {
            let result = if is_last || reply.code != CallReplyCode::CallReplyOk as i32 {
                payload(&address, reply)
            } else {
                Err(Error::IsStream { address })
            };
            // Nobody may be waiting any more, which is as good.
            let _ = waiting.send(result);
        }
    }

    /// The connection is gone: every call ends.
    pub(crate) fn lost(&mut self, reason: &LostReason) {
        for (_, call) in self.open.drain() {
            let error = Error::ConnectionLost(reason.clone());
            match call.waiting {
                Waiting::Once(waiting) => drop(waiting.send(Err(error))),
                Waiting::Stream(queue) => queue.end(Some(error)),
            }
        }
    }
}

/// Adds a reply to its stream; `false` if that ends it.
fn stream_reply(queue: &Queue<Bytes>, address: &str, reply: &CallReply, is_last: bool) -> bool {
    match payload(address, reply) {
        Err(error) => {
            queue.end(Some(error));
            false
        }
        // The last reply may bring something, or only the end.
        Ok(data) => {
            let length = data.len();
            let wanted = (is_last && length == 0) || queue.push(data, length);
            if is_last {
                queue.end(None);
            }
            wanted && !is_last
        }
    }
}

/// What a reply says: its payload, or the refusal that it is.
fn payload(address: &str, reply: &CallReply) -> Result<Bytes, Error> {
    if reply.code == CallReplyCode::CallReplyOk as i32 {
        return Ok(detach(reply.data.clone()));
    }
    let address = address.to_owned();
    let message = String::from_utf8_lossy(&reply.data).into_owned();
    Err(match CallReplyCode::try_from(reply.code) {
        Ok(CallReplyCode::CallReplyBadRequest)
            if reply.reason() == CallReplyReason::ReasonNoSuchService =>
        {
            Error::NoSuchService { address, message }
        }
        Ok(CallReplyCode::CallReplyBadRequest) => Error::BadRequest { target: address, message },
        Ok(_) => Error::ServiceFailure { address, message },
        Err(_) => Error::UnknownCode { address, code: reply.code, message },
    })
}
