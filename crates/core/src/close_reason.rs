//! Why connections end.

use std::time::Duration;

use gsb_proto::Violation;

/// Why a connection ends. Displays as a clause with the connection as its subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it.
    #[error("hung up")]
    HungUp,
    /// The socket failed.
    #[error("failed: {0}")]
    Io(String),
    /// The peer broke the protocol.
    #[error("broke the protocol: {}{}", .0, option_behind(.0))]
    Violation(#[from] Violation),
    /// Nothing was received for so long, Pings notwithstanding.
    #[error("was silent for {} (--ping-timeout)", seconds(*.0))]
    Silent(Duration),
    /// The same peer connected again with the same instance id.
    #[error("was replaced by a new connection with its instance id")]
    Replaced,
    /// It used the instance id of a connection of another peer.
    #[error("claimed the instance id of another peer's connection")]
    ForeignInstanceId,
    /// For so long it took hardly anything of what was queued for it.
    #[error("does not read: it took less than 64 KiB within {} (--write-timeout)", seconds(*.0))]
    NotReading(Duration),
    /// It had so many bytes of an unfinished frame, more than any other, when memory was short.
    #[error(
        "has sent {0} bytes of an unfinished message, the most of all, while the router was short of memory (--memory-limit)"
    )]
    MemoryShort(usize),
    /// For so long a frame that had begun did not go on.
    #[error("began a frame and sent no more of it for {} (--frame-timeout)", seconds(*.0))]
    UnfinishedFrame(Duration),
    /// The router stops.
    #[error("was closed because the router stops")]
    Shutdown,
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// The option that sets the limit that a peer exceeded, if there is one. It stands here, because clients report
/// violations, too, and have no options.
fn option_behind(violation: &Violation) -> &'static str {
    match violation {
        Violation::FrameTooLarge { .. } => " (--max-frame)",
        _ => "",
    }
}

impl CloseReason {
    /// A short name for counting by reason.
    pub fn reason(&self) -> &'static str {
        match self {
            CloseReason::HungUp => "hung up",
            CloseReason::Io(_) => "socket failed",
            CloseReason::Violation(violation) => violation.reason(),
            CloseReason::Silent(_) => "silent",
            CloseReason::Replaced => "replaced",
            CloseReason::ForeignInstanceId => "foreign instance id",
            CloseReason::NotReading(_) => "not reading",
            CloseReason::MemoryShort(_) => "memory limit",
            CloseReason::UnfinishedFrame(_) => "unfinished frame",
            CloseReason::Shutdown => "shutdown",
        }
    }

    /// Whether an operator should hear of it.
    pub fn is_fault(&self) -> bool {
        !matches!(self, CloseReason::HungUp | CloseReason::Replaced | CloseReason::Shutdown)
    }
}
