//! Requests to the router that are answered without an id.

use std::sync::Arc;

use gsb_proto::MessageKind;
use tokio::sync::oneshot;

use crate::engine::service_entry::ServiceEntry;
use crate::engine::terms::Terms;
use crate::error::Error;
use crate::status::NameKind;

/// The result of a request.
pub(crate) type Outcome = Result<(), Error>;

/// Receives the result of a request.
pub(crate) type OutcomeSender = oneshot::Sender<Outcome>;

/// The result of a broadcast: the number of connections that receive it, if the router states it.
pub(crate) type Counted = Result<Option<u32>, Error>;

/// A request that waits for its reply.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) kind: MessageKind,
    /// The name or topic of the request.
    pub(crate) target: String,
    pub(crate) on_reply: OnReply,
}

/// What follows the reply to a request.
#[derive(Debug)]
pub(crate) enum OnReply {
    /// The caller is notified.
    Notify(OutcomeSender),
    /// The caller is notified of the number of receivers.
    Count(oneshot::Sender<Counted>),
    /// The registry of announcements is updated, and notifies all callers that wait for the name.
    Announced(NameRequest),
    /// The caller is notified that a service has given back a name that may have other owners. Until then the router may
    /// send calls, which the service handles: they must not fail while another owner would have taken them.
    GivenBack(OutcomeSender, Arc<ServiceEntry>),
}

/// A name that the router is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameRequest {
    pub(crate) kind: NameKind,
    pub(crate) name: String,
    pub(crate) terms: Terms,
    /// Differs from those of earlier and later requests for the same name.
    pub(crate) serial: u64,
}

/// What a request takes besides the text of its target, in bytes.
const OVERHEAD: usize = 256;

impl Request {
    /// Whether it is [`OnReply::GivenBack`].
    pub(crate) fn gives_back(&self) -> bool {
        matches!(self.on_reply, OnReply::GivenBack(..))
    }

    /// The memory that the request takes, in bytes. A name to be announced is stored twice.
    pub(crate) fn cost(&self) -> usize {
        let copies = match self.on_reply {
            OnReply::Announced(_) => 2,
            OnReply::Notify(_) | OnReply::Count(_) | OnReply::GivenBack(..) => 1,
        };
        OVERHEAD + copies * self.target.len()
    }
}
