//! A router for the Golem Service Bus.
//!
//! The program `router` is a thin shell around this library. The library can run a router inside any
//! other program, too:
//!
//! ```
//! use gsb_router::{Router, RouterConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = RouterConfig {
//!     listen: vec!["tcp://127.0.0.1:0".parse()?],
//!     ..RouterConfig::default()
//! };
//! let router = Router::bind(config).await?;
//! println!("listening on {}", router.local_addresses()[0]);
//! let handle = router.shutdown_handle();
//! let running = tokio::spawn(router.run());
//! // ...
//! handle.shutdown();
//! running.await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Router::in_process`] starts a router for a test.
//!
//! The routing rules are in [`gsb_core`]; this crate adds sockets, tasks and timers. Each connection
//! has one task, which reads what its socket holds, routes the whole batch under one short lock and
//! writes to each destination itself (see `ARCHITECTURE.md`).

mod accept;
mod batches;
mod busy_poll;
mod clock;
mod config;
mod connection;
mod deferred;
mod error;
mod identity;
mod in_process;
mod listener;
mod lock_file;
mod memory_limit;
mod queued_frame;
mod router;
mod router_state;
mod slow_peers;
mod stopping;
mod timer;
mod turn;
mod unix_listener;
mod workers;

pub use config::{DEFAULT_MAX_CONNECTIONS, DEFAULT_UNIX_MODE, RouterConfig, SMALLEST_MAX_FRAME};
pub use error::BindError;
pub use gsb_core::{Counters, Limits, Usage};
pub use gsb_proto::{Address, AddressError};
pub use in_process::InProcessRouter;
pub use router::{Router, RouterStatus};
pub use stopping::ShutdownHandle;
