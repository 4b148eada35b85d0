//! Calls: within the process and over a router, and how they end.

#![allow(clippy::panic, clippy::unwrap_used)]

mod blocking;
mod call_outcomes;
mod cancellation;
mod cancelled_handlers;
mod deadlines;
mod either_side_dies;
mod frame_limit;
mod futures_are_send;
mod headers;
mod in_process_calls;
mod last_reply;
mod router_fallback;
mod stream_credit;
mod streams;
mod tracing;
mod uploads;
mod wait_for_service;
