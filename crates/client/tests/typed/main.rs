//! Typed messages and their encodings.

#![allow(clippy::panic, clippy::unwrap_used)]

mod hostile_messages;
mod large_messages;
mod tower_layers;
mod typed_calls;
mod value_round_trips;
