//! What the broker reports to an operator, beside the closing of connections.

use std::time::Duration;

use crate::close_reason::seconds;
use crate::refusal::Refusal;

/// A message that is dropped without an answer to its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Dropped {
    #[error("sent a call without a reply to an address that has no service")]
    NoService,
    #[error("sent a reply to a call that is not open")]
    StrayReply,
    #[error("sent data for a call that is not open, or whose request is not a stream or has ended")]
    StrayData,
    #[error(
        "sent a call without a reply whose request is a stream (no_reply and more); a stream needs a reply"
    )]
    StreamWithoutReply,
    #[error("sent a call without a reply while the router is shutting down")]
    Stopping,
    #[error(
        "has stalled: it read too little of what was sent to it within {} (--stall-timeout); \
         calls without a reply to it are dropped",
        seconds(*.timeout)
    )]
    ServiceStalled { timeout: Duration },
    #[error(
        "does not read its events: {limit} bytes of them are queued, which is the limit (--queue-limit), or it has \
         stalled; new events are dropped"
    )]
    SlowSubscriber { limit: usize },
}

impl Dropped {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Dropped::NoService => "no service",
            Dropped::StrayReply => "stray reply",
            Dropped::StrayData => "stray data",
            Dropped::StreamWithoutReply => "stream without reply",
            Dropped::Stopping => "stopping",
            Dropped::ServiceStalled { .. } => "service stalled",
            Dropped::SlowSubscriber { .. } => "slow subscriber",
        }
    }
}

/// A message that was refused or dropped. Displays as a clause whose subject is the connection that caused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Report(#[from] Kind);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kind {
    #[error("caused the refusal of a request: {0}")]
    Refused(Refusal),
    #[error(transparent)]
    Dropped(Dropped),
}

impl Report {
    /// A short name for counting by reason.
    pub fn reason(&self) -> &'static str {
        match &self.0 {
            Kind::Refused(refusal) => refusal.reason(),
            Kind::Dropped(dropped) => dropped.reason(),
        }
    }

    /// Whether a limit was reached that an operator can raise, or a peer has stalled.
    pub fn is_fault(&self) -> bool {
        match &self.0 {
            Kind::Refused(refusal) => refusal.is_about_a_limit(),
            Kind::Dropped(dropped) => {
                matches!(dropped, Dropped::ServiceStalled { .. } | Dropped::SlowSubscriber { .. })
            }
        }
    }
}
