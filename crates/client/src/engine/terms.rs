//! The terms on which a service registers its name (rule SV-10).

use gsb_proto::messages::RegisterMode;

/// The terms on which a service registers its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Who else may register the name.
    pub(crate) mode: RegisterMode,
    /// How many calls the service takes at a time; 0 for any number.
    pub(crate) capacity: u32,
}
