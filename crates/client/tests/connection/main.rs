//! The connection to the router: how it ends, is made again and is closed.

#![allow(clippy::panic, clippy::unwrap_used)]

mod closing;
mod connection_ends;
mod flush;
mod reconnect;
mod reconnect_jitter;
mod simulated_network;
