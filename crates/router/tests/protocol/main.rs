//! Framings, liveness, limits and violations, over real sockets.

mod cancelling;
mod deadlines;
mod framings;
mod limits;
mod liveness;
mod no_echo;
mod replacement;
mod shared_names;
mod streams;
mod violations;
mod workers;
