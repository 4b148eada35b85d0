//! The bus that a load is sent to.

use gsb_proto::Address;

/// The bus that a load is sent to.
#[derive(Debug, Clone)]
pub struct Target<P> {
    /// Where the bus listens.
    pub address: Address,
    /// The protocol that the bus speaks.
    pub protocol: P,
}

impl<P> Target<P> {
    /// A service name or topic that no other process uses. `purpose` is a part of it.
    pub(crate) fn name(&self, purpose: &str, number: u32) -> String {
        format!("/gsb-bench/{}/{purpose}/{number}", std::process::id())
    }
}
