//! What benchmarks of servers have in common: building and starting them, and printing their figures.

mod program;
mod progress;
mod server;
pub mod table;

pub use program::{build, cargo, find_installed, run, version};
pub use progress::Progress;
pub use server::{Server, Socket, within};
