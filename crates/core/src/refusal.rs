//! Why a request is refused or a message dropped, and the one place where that becomes a reply on the wire.

use std::time::Duration;

use gsb_proto::messages::{
    BroadcastReply, BroadcastReplyCode, CallReply, CallReplyCode, CallReplyReason, Message,
    RegisterMode, RegisterReply, RegisterReplyCode, SubscribeReply, SubscribeReplyCode,
};
use gsb_proto::names::{BYTES_PER_SUBSCRIPTION, SEGMENTS_PER_SUBSCRIPTION};
use gsb_proto::{Frame, NameError, Quoted};

use crate::close_reason::{CloseReason, seconds};
use crate::config::{MAX_REQUEST_ID, STREAMS_LEVEL};

/// Why the broker refuses a request, or drops a message. Displays as a sentence for the peer that sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the service id {id} is already registered by {}", holder(*.own))]
    ServiceTaken { id: Quoted, own: bool },
    #[error("the service id {id} has {limit} owners, which is the limit")]
    TooManyOwners { id: Quoted, limit: usize },
    #[error("this connection has registered {limit} services, which is the limit (--max-services)")]
    TooManyServices { limit: usize },
    #[error(
        "the service id {id} is registered in mode {}, not {}; all its owners have to register it in the same mode",
        .held.as_str_name(),
        .asked.as_str_name()
    )]
    MixedModes { id: Quoted, held: RegisterMode, asked: RegisterMode },
    #[error(
        "the mode {mode} is unknown; a service is registered in mode 0 (EXCLUSIVE), 1 (SHARED) or 2 (STANDBY)"
    )]
    UnknownMode { mode: i32 },
    #[error("this connection is already subscribed to {topic}")]
    AlreadySubscribed { topic: Quoted },
    #[error(
        "this connection has {held} of at most {limit} subscriptions (--max-subscriptions), and the new one counts as \
         {weight}: as 1 for every {SEGMENTS_PER_SUBSCRIPTION} segments or {BYTES_PER_SUBSCRIPTION} bytes of its topic, \
         rounded up"
    )]
    TooManySubscriptions { limit: usize, held: usize, weight: usize },
    #[error("no service is registered for the address {address}")]
    NoSuchService { address: Quoted },
    #[error(
        "the request id {request_id} is in use by an open call of this connection; choose another one"
    )]
    RequestIdInUse { request_id: Quoted },
    #[error(
        "the service at {address} has as many open calls as it takes at a time (its capacity); try again later"
    )]
    Busy { address: Quoted },
    #[error("the request id has {length} bytes; at most {MAX_REQUEST_ID} are allowed")]
    RequestIdTooLong { length: usize },
    #[error("this connection has {limit} open calls, which is the limit (--max-open-calls)")]
    TooManyCalls { limit: usize },
    #[error(
        "the service has stalled: it read too little of what was sent to it within {} (--stall-timeout)",
        seconds(*.timeout)
    )]
    ServiceStalled { timeout: Duration },
    #[error(
        "this connection has stalled: it read too little of what was sent to it within {} (--stall-timeout)",
        seconds(*.timeout)
    )]
    CallerStalled { timeout: Duration },
    #[error(
        "streams (more, reply_credit) need level {STREAMS_LEVEL} of the protocol, and the first frame of this connection was not \
         a Hello of that level"
    )]
    CallerUnsupported,
    #[error(
        "a request that is a stream (more) needs level {STREAMS_LEVEL} of the protocol, and the first frame of the service's \
         connection was not a Hello of that level"
    )]
    ServiceUnsupported,
    #[error("the caller cancelled this call")]
    Cancelled,
    #[error("the service did not finish its answer within {}, the timeout of the call (timeout_ms)", seconds(*.timeout))]
    DeadlineExceeded { timeout: Duration },
    #[error("the router is shutting down and accepts no more calls; try again when it is back")]
    Stopping,
    #[error("the router shut down before the service finished its answer (--drain-timeout)")]
    Stopped,
    #[error("the service went away before it finished its answer: its connection {reason}")]
    ServiceGone { reason: CloseReason },
    #[error("the reply belongs to no open call")]
    StrayReply,
    #[error("the data belongs to no open call whose request is a stream that has not ended")]
    StrayData,
    #[error("a call without a reply (no_reply) cannot have a request that is a stream (more)")]
    StreamWithoutReply,
    #[error(
        "events for this connection are dropped: it does not read them, and its queue is full (--queue-limit, {limit} \
         bytes) or it has stalled (--stall-timeout)"
    )]
    SlowSubscriber { limit: usize },
}

fn holder(own: bool) -> &'static str {
    if own { "this connection itself" } else { "another connection" }
}

impl Refusal {
    /// A short name for counting by reason.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Refusal::Name(_) => "bad name",
            Refusal::ServiceTaken { .. } => "service taken",
            Refusal::TooManyOwners { .. } => "too many owners",
            Refusal::TooManyServices { .. } => "too many services",
            Refusal::MixedModes { .. } => "mixed modes",
            Refusal::UnknownMode { .. } => "unknown mode",
            Refusal::AlreadySubscribed { .. } => "already subscribed",
            Refusal::TooManySubscriptions { .. } => "too many subscriptions",
            Refusal::NoSuchService { .. } => "no such service",
            Refusal::RequestIdInUse { .. } => "request id in use",
            Refusal::Busy { .. } => "busy",
            Refusal::RequestIdTooLong { .. } => "request id too long",
            Refusal::TooManyCalls { .. } => "too many open calls",
            Refusal::ServiceGone { .. } => "service gone",
            Refusal::ServiceStalled { .. } => "service stalled",
            Refusal::CallerStalled { .. } => "caller stalled",
            Refusal::CallerUnsupported | Refusal::ServiceUnsupported => "unsupported",
            Refusal::Cancelled => "cancelled",
            Refusal::DeadlineExceeded { .. } => "deadline exceeded",
            Refusal::Stopping => "stopping",
            Refusal::Stopped => "stopped",
            Refusal::StrayReply => "stray reply",
            Refusal::StrayData => "stray data",
            Refusal::StreamWithoutReply => "stream without reply",
            Refusal::SlowSubscriber { .. } => "slow subscriber",
        }
    }

    /// Whether a limit was reached that an operator can raise, or a peer has stalled.
    pub(crate) fn is_about_a_limit(&self) -> bool {
        matches!(
            self,
            Refusal::TooManyServices { .. }
                | Refusal::TooManySubscriptions { .. }
                | Refusal::TooManyCalls { .. }
                | Refusal::ServiceStalled { .. }
                | Refusal::CallerStalled { .. }
                | Refusal::SlowSubscriber { .. }
        )
    }

    pub(crate) fn register_reply(&self) -> Frame {
        let code = match self {
            Refusal::ServiceTaken { .. } | Refusal::MixedModes { .. } => {
                RegisterReplyCode::RegisterConflict
            }
            _ => RegisterReplyCode::RegisterBadRequest,
        };
        RegisterReply { code: code.into(), message: self.to_string() }.to_frame()
    }

    pub(crate) fn subscribe_reply(&self) -> Frame {
        SubscribeReply {
            code: SubscribeReplyCode::SubscribeBadRequest.into(),
            message: self.to_string(),
        }
        .to_frame()
    }

    pub(crate) fn broadcast_reply(&self) -> Frame {
        BroadcastReply {
            code: BroadcastReplyCode::BroadcastBadRequest.into(),
            message: self.to_string(),
            receivers: Some(0),
        }
        .to_frame()
    }

    /// The reply that ends a call; it is always the last one.
    pub(crate) fn call_reply(&self, request_id: &str) -> Frame {
        let (code, reason) = match self {
            Refusal::ServiceGone { .. } => {
                (CallReplyCode::ServiceFailure, CallReplyReason::ReasonServiceGone)
            }
            Refusal::ServiceStalled { .. } => {
                (CallReplyCode::ServiceFailure, CallReplyReason::ReasonServiceStalled)
            }
            Refusal::CallerStalled { .. } => {
                (CallReplyCode::ServiceFailure, CallReplyReason::ReasonCallerStalled)
            }
            Refusal::CallerUnsupported | Refusal::ServiceUnsupported => {
                (CallReplyCode::CallReplyBadRequest, CallReplyReason::ReasonUnsupported)
            }
            Refusal::Cancelled => (CallReplyCode::ServiceFailure, CallReplyReason::ReasonCancelled),
            Refusal::DeadlineExceeded { .. } => {
                (CallReplyCode::ServiceFailure, CallReplyReason::ReasonDeadlineExceeded)
            }
            Refusal::Stopping => {
                (CallReplyCode::CallReplyBadRequest, CallReplyReason::ReasonRouterStops)
            }
            Refusal::Stopped => (CallReplyCode::ServiceFailure, CallReplyReason::ReasonRouterStops),
            Refusal::NoSuchService { .. } => {
                (CallReplyCode::CallReplyBadRequest, CallReplyReason::ReasonNoSuchService)
            }
            Refusal::RequestIdInUse { .. } => {
                (CallReplyCode::CallReplyBadRequest, CallReplyReason::ReasonRequestIdInUse)
            }
            Refusal::Busy { .. } => {
                (CallReplyCode::CallReplyBadRequest, CallReplyReason::ReasonBusy)
            }
            _ => (CallReplyCode::CallReplyBadRequest, CallReplyReason::ReasonLimitReached),
        };
        CallReply {
            request_id: request_id.to_owned(),
            code: code.into(),
            data: self.to_string().into(),
            reason: reason.into(),
            ..CallReply::default()
        }
        .to_frame()
    }
}
