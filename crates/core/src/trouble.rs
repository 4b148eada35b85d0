//! What an operator should hear of, beside the closing of connections.

use std::fmt;
use std::time::Duration;

use crate::effect::seconds;
use crate::refusal::Refusal;

/// A message that nobody gets, and whose sender is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Dropped {
    #[error("sent a call without a reply to an address that has no service")]
    NoService,
    #[error("sent a reply to a call that is not open")]
    StrayReply,
    #[error("sent a call without a reply while the router stops")]
    Stopping,
    #[error("does not read: calls without a reply were not taken for {} (--stall-timeout)", seconds(*.timeout))]
    PushNotTaken { timeout: Duration },
    #[error(
        "does not read its events: {limit} bytes of them wait, which is the limit (--queue-limit); \
         those that come now are dropped"
    )]
    SlowSubscriber { limit: usize },
}

impl Dropped {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Dropped::NoService => "no service",
            Dropped::StrayReply => "stray reply",
            Dropped::Stopping => "stopping",
            Dropped::PushNotTaken { .. } => "not taken",
            Dropped::SlowSubscriber { .. } => "slow subscriber",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Refused(Refusal),
    Dropped(Dropped),
}

/// A message that was refused or dropped. Displays as a clause with the connection whose fault it is as its
/// subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble(Kind);

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Trouble(Kind::Refused(refusal))
    }
}

impl From<Dropped> for Trouble {
    fn from(dropped: Dropped) -> Self {
        Trouble(Kind::Dropped(dropped))
    }
}

impl Trouble {
    /// A short name for counting by reason.
    pub fn reason(&self) -> &'static str {
        match &self.0 {
            Kind::Refused(refusal) => refusal.reason(),
            Kind::Dropped(dropped) => dropped.reason(),
        }
    }

    /// Whether a limit was reached that an operator can raise, or a peer stands still.
    pub fn is_fault(&self) -> bool {
        match &self.0 {
            Kind::Refused(refusal) => refusal.is_about_a_limit(),
            Kind::Dropped(dropped) => {
                matches!(dropped, Dropped::PushNotTaken { .. } | Dropped::SlowSubscriber { .. })
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Refused(refusal) => write!(f, "has caused a refusal: {refusal}"),
            Kind::Dropped(dropped) => dropped.fmt(f),
        }
    }
}
