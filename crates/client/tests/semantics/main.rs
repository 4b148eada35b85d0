//! One suite of the semantics of calls. Each case runs within a process, over a router, and over a router with a service
//! or a caller of level 0. A case that ends differently states it in a table, [`Expected`](setup::Expected).

#![allow(clippy::panic, clippy::unwrap_used)]

#[macro_use]
mod setup;
mod cancelling;
mod deadlines;
mod ending;
mod outcomes;
mod pacing;
mod pushes;
mod sharing;
mod streams;
mod uploads;
