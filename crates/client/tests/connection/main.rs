//! The connection to the router: how it ends, is made again and is closed.

#![allow(clippy::panic, clippy::unwrap_used)]

mod closing;
mod connection_ends;
mod farewell;
mod flush;
mod reconnect;
mod reconnect_jitter;
mod restarts_under_load;
mod simulated_network;
