//! How far a name, a call or an event reaches.

/// How far the operations of a handle reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// This process, and the router if there is one.
    Everywhere,
    /// This process only.
    InProcess,
}
