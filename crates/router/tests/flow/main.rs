//! Backpressure and fairness, over real sockets with small limits and short timeouts.

mod combined_stalls;
mod fairness;
mod stalled_peers;
