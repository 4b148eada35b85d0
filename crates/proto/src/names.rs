//! Names: service ids and topics, which are checked when they are made, and the maps that look them up.
//!
//! | type | purpose |
//! |---|---|
//! | [`ServiceId`] | the name of a service; an address is a service id or begins with one |
//! | [`Topic`] | what broadcasts are sent to and subscriptions are made for; may be a pattern |
//! | [`PrefixMap`] | finds the service of an address |
//! | [`TopicMap`] | finds the subscribers of a broadcast |

mod check;
mod pattern;
mod prefix_map;
mod service_id;
mod topic;
mod topic_map;

pub use check::{MAX_NAME, NameError};
pub use pattern::{ANY, ONE};
pub use prefix_map::PrefixMap;
pub use service_id::ServiceId;
pub use topic::{BYTES_PER_SUBSCRIPTION, MAX_SEGMENTS, SEGMENTS_PER_SUBSCRIPTION, Topic};
pub use topic_map::{TopicId, TopicMap};

/// Whether an address is that of the router's own service, `/gsb`, or lies below it. A router that stops still takes calls
/// to such addresses (rule CO-17).
#[inline]
pub fn is_router_address(address: &str) -> bool {
    let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
    address.strip_prefix("/gsb").is_some_and(is_below)
}

#[cfg(test)]
#[path = "names/name_tests.rs"]
mod tests;
