//! What the broker reports to an operator, beside the closing of connections.

use crate::refusal::Refusal;

/// A message that was refused, or dropped without an answer. Displays as a clause whose subject is the connection that
/// caused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("caused a message to be refused or dropped: {0}")]
pub struct Report(#[from] Refusal);

impl Report {
    /// A short name for counting by reason.
    pub fn reason(&self) -> &'static str {
        self.0.reason()
    }

    /// Whether a limit was reached that an operator can raise, or a peer has stalled.
    pub fn is_fault(&self) -> bool {
        self.0.is_about_a_limit()
    }
}
