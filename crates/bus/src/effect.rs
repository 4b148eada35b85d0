//! What a bus wants done.

use std::time::Duration;

use gsb_proto::{Frame, Violation};

use crate::connections::ConnId;

/// Something that the owner of a [`Bus`](crate::Bus) has to carry out, in the order of the buffer.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Send a frame.
    Send {
        /// To whom; live when the effect was made.
        to: ConnId,
        /// What.
        frame: Frame,
    },
    /// Close a connection. The bus has forgotten it already.
    Close {
        /// Which.
        connection: ConnId,
        /// Why.
        reason: CloseReason,
    },
}

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
    #[error("broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// Nothing was received for so long, Pings notwithstanding.
    #[error("was silent for {}", seconds(*.0))]
    Silent(Duration),
    /// The same peer connected again with the same instance id.
    #[error("was replaced by a new connection with its instance id")]
    Replaced,
    /// It used the instance id of a connection of another peer.
    #[error("claimed the instance id of another peer's connection")]
    ForeignInstanceId,
    /// More is waiting to be sent to it than is allowed. In bytes.
    #[error("does not read: more than {limit} bytes wait to be sent to it")]
    OutboxFull {
        /// The limit.
        limit: usize,
    },
    /// The router stops.
    #[error("was closed because the router stops")]
    Shutdown,
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
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
            CloseReason::OutboxFull { .. } => "outbox full",
            CloseReason::Shutdown => "shutdown",
        }
    }

    /// Whether an operator should hear of it.
    pub fn is_fault(&self) -> bool {
        !matches!(self, CloseReason::HungUp | CloseReason::Replaced | CloseReason::Shutdown)
    }
}
