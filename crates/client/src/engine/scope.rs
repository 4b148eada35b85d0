//! How far a name, a call or an event reaches.

/// How far what is done with a handle reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// This process, and the router if there is one.
    Everywhere,
    /// This process only.
    InProcess,
}
