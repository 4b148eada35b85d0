//! What peers cost the program `router` in memory, measured from outside.

mod announced_bytes;
mod bulk_calls;
mod bulk_registration;
mod connection_leaks;
mod idle_connections;
mod request_floods;
mod slow_caller;
mod slow_service;
mod slow_subscriber;
