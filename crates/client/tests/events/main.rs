//! Events: subscriptions and broadcasts.

#![allow(clippy::panic, clippy::unwrap_used)]

mod event_order;
mod receivers;
mod subscriptions;
