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
    /// Nothing was received for this time, although a Ping was sent.
    #[error("was silent for {}, twice the time of --ping-timeout", seconds(*.0))]
    Silent(Duration),
    /// The same peer connected again with the same instance id.
    #[error("was replaced by a new connection with its instance id")]
    Replaced,
    /// It used the instance id of a connection of another peer.
    #[error("claimed an instance id that a connection of another user or IP address has")]
    ForeignInstanceId,
    /// Its socket took less than 64 KiB of its queue within this time.
    #[error("does not read: its socket took less than 64 KiB within {} (--write-timeout)", seconds(*.0))]
    NotReading(Duration),
    /// It had the largest unfinished frame, of this size in bytes, when the memory limit was exceeded.
    #[error(
        "was closed to free memory (--memory-limit): of all unfinished messages it had the largest, {0} bytes so far"
    )]
    MemoryShort(usize),
    /// No further byte of an unfinished frame was received for this time.
    #[error("sent no further byte of an unfinished message for {} (--frame-timeout)", seconds(*.0))]
    UnfinishedFrame(Duration),
    /// The router is shutting down.
    #[error("was closed because the router is shutting down")]
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
