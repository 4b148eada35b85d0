//! Why a call from the router is refused, and the reply that says so.

use bytes::Bytes;
use gsb_proto::messages::{CallReply, CallReplyCode, CallReplyReason};

use crate::engine::service_entry::only_pushes;
use crate::failure::Failure;

/// Why a call gets no reply from a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The service was unregistered while the call was on its way.
    NoSuchService,
    /// The request has a body, which the service does not take.
    RequestStream,
    /// The service takes pushes only.
    OnlyPushes,
    /// The service handles as many calls as its limit allows.
    TooManyCalls { limit: usize },
    /// The running calls hold as many bytes as the limit allows.
    TooManyBytes { limit: usize },
    /// The caller has sent more data of the request than it has credit for.
    TooMuchData,
    /// The handler has ended without a reply.
    NoReply,
    /// The handler was dropped, because the call was cancelled.
    Cancelled,
}

impl Refusal {
    /// The reply that refuses the call with this request id.
    pub(crate) fn reply(self, request_id: String) -> CallReply {
        let (failure, reason) = match self {
            Refusal::NoSuchService => (
                Failure::bad_request("the service was unregistered"),
                CallReplyReason::ReasonNoSuchService,
            ),
            Refusal::RequestStream => {
                (Failure::bad_request(NO_UPLOADS), CallReplyReason::ReasonUnsupported)
            }
            Refusal::TooMuchData => (
                Failure::bad_request("the caller has sent more data than the service has granted"),
                CallReplyReason::ReasonLimitReached,
            ),
            Refusal::OnlyPushes => (only_pushes(), CallReplyReason::ReasonUnspecified),
            Refusal::TooManyCalls { limit } => {
                (Failure::new(too_many_calls(limit)), CallReplyReason::ReasonBusy)
            }
            Refusal::TooManyBytes { limit } => {
                (Failure::new(too_many_bytes(limit)), CallReplyReason::ReasonBusy)
            }
            Refusal::NoReply => (
                Failure::new("its handler has ended without a reply"),
                CallReplyReason::ReasonUnspecified,
            ),
            Refusal::Cancelled => (Failure::new(DROPPED), CallReplyReason::ReasonCancelled),
        };
        CallReply { reason: reason.into(), ..failure_reply(request_id, failure) }
    }
}

/// The message of [`Refusal::RequestStream`].
pub(crate) const NO_UPLOADS: &str =
    "the service takes no uploads; register it with `register_upload`, or use `call`";

/// The message of [`Refusal::Cancelled`].
pub(crate) const DROPPED: &str = "its handler was dropped before it answered, because the call was cancelled or its bus was shut down";

/// The message of [`Refusal::TooManyCalls`].
pub(crate) fn too_many_calls(limit: usize) -> String {
    let noun = if limit == 1 { "call" } else { "calls" };
    format!("it is handling {limit} {noun}, its limit (max_running or capacity); try again later")
}

/// The message of [`Refusal::TooManyBytes`].
pub(crate) fn too_many_bytes(limit: usize) -> String {
    format!(
        "the calls that its process is handling hold {limit} bytes, the limit (max_running_bytes); try again later"
    )
}

/// The last reply to a call that failed.
pub(crate) fn failure_reply(request_id: String, failure: Failure) -> CallReply {
    let code = if failure.is_bad_request {
        CallReplyCode::CallReplyBadRequest
    } else {
        CallReplyCode::ServiceFailure
    };
    let data = Bytes::from(failure.message);
    CallReply { request_id, code: code.into(), data, ..CallReply::default() }
}
