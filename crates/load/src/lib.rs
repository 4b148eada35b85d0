//! Loads a bus and measures it.
//!
//! Connections that do as little as they can, so that what is measured is the bus: what they send was encoded
//! before, what they receive is read where it stands. They speak any [`Protocol`], of which [`Gsb`] is here.
//!
//! | module | load |
//! |---|---|
//! | [`call`] | calls and their replies, or streams of replies |
//! | [`broadcast`] | one that broadcasts, and those who have subscribed |
//! | [`crowd`] | connections that do nothing, with names or without |

pub mod broadcast;
pub mod call;
pub mod crowd;
mod failure;
mod gsb;
mod limits;
mod measure;
mod peer;
mod process;
mod protocol;
mod router_process;
mod threads;

pub use failure::Failure;
pub use gsb::Gsb;
pub use limits::{LARGEST_BACKLOG, LARGEST_PAYLOAD};
pub use measure::{Measure, Outcome};
pub use peer::Peer;
pub use process::{Need, Process};
pub use protocol::{Heard, Protocol};
pub use router_process::router_process;

use gsb_proto::Address;

/// Where a load goes.
#[derive(Debug, Clone)]
pub struct Target<P> {
    /// Where the bus listens.
    pub address: Address,
    /// What it speaks.
    pub protocol: P,
}

impl<P> Target<P> {
    /// A name that no other load uses, with `purpose` in it.
    fn name(&self, purpose: &str, number: u32) -> String {
        format!("/gsb-bench/{}/{purpose}/{number}", std::process::id())
    }
}
