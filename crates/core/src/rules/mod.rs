//! The rules of each kind of request: a file for each, with methods of the [`Broker`](crate::Broker), which chooses among
//! them.

mod broadcasts;
mod calls;
mod cancelling;
mod deadlines;
mod groups;
mod hello;
mod names;
mod stopping;
mod streams;
