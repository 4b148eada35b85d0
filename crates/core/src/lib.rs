//! The routing rules of a Golem Service Bus as a state machine.
//!
//! A [`Broker`] takes what happened (a connection came, a frame arrived, time passed) and tells what
//! follows to its caller's [`Effects`]: frames to send, connections to close. It knows no
//! socket, reads no clock and starts no task, so each rule of `docs/protocol.md` is tested in
//! microseconds.
//!
//! One registry per noun holds the state: services, groups, calls, subscriptions, instances, flow, liveness. A
//! registry changes itself and returns what follows; only the [`Broker`] turns that into effects.

mod affinity;
mod broker;
mod call_ids;
mod calls;
mod close_reason;
mod config;
mod connections;
mod counters;
mod deadlines;
mod effect;
mod flow;
mod groups;
mod ids;
mod instances;
mod liveness;
mod refusal;
mod report;
mod route_cache;
mod rules;
mod services;
mod subscriptions;

pub use broker::{Backpressure, Broker};
pub use close_reason::CloseReason;
pub use config::{BrokerConfig, LONGEST_TIMEOUT, Limits, MAX_REQUEST_ID};
pub use connections::Identity;
pub use counters::{Counters, Usage};
pub use effect::{Effect, Effects};
pub use flow::{Charge, Cost, Progress};
pub use ids::{CallKey, ConnId};
pub use report::Report;
