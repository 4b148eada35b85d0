//! Who a peer is, and what it may do: identities, and the rules that give them permissions.
//!
//! [`Rules`] are read from the configuration. [`Rules::policy`] compiles those that concern one [`Identity`] into a [`Policy`],
//! which is asked for each request of a connection.

mod identity;
mod policy;
mod rules;

pub use identity::{Certificate, Identity};
pub use policy::{Policy, Verb};
pub use rules::{RuleConfig, RuleError, Rules, Subject};
