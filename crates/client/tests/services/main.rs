//! Services: registration, handlers, pushes and shutdown.

#![allow(clippy::panic, clippy::unwrap_used)]

mod graceful_shutdown;
mod handlers_with_state;
mod name_conflicts;
mod name_lost;
mod panics;
mod push_order;
mod shared_names;
mod shutdown_from_a_handler;
mod undo_order;
