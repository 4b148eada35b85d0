//! How a router behaves.

use std::num::NonZeroUsize;
use std::time::Duration;

use gsb_bus::Limits;
use gsb_proto::Address;
use gsb_proto::frame::DEFAULT_MAX_FRAME;

/// Connections a router accepts at the same time, if not told otherwise.
pub const DEFAULT_MAX_CONNECTIONS: usize = 65_536;

/// Permissions of a Unix socket's file, if not told otherwise: for its owner alone.
pub const DEFAULT_UNIX_MODE: u32 = 0o600;

/// How many bytes may wait to be written to one connection before it is closed.
pub const OUTBOX_LIMIT: usize = 64 << 20;

/// What a [`Router`](crate::Router) is told.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// Where to listen; one set of services is behind all of them. Empty by default, which
    /// [`Router::bind`](crate::Router::bind) refuses.
    pub listen: Vec<Address>,
    /// Permissions of the file of each Unix socket; [`DEFAULT_UNIX_MODE`].
    pub unix_mode: u32,
    /// How long a connection may be silent before it gets a Ping; after twice that it is closed. `None`
    /// and zero wait for ever. 60 seconds by default.
    pub ping_timeout: Option<Duration>,
    /// Largest frame body that is accepted, in bytes; 64 MiB by default, 127 MiB at most.
    pub max_frame: usize,
    /// How many connections may be open at the same time; [`DEFAULT_MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// What one connection may hold.
    pub limits: Limits,
    /// How many threads to start for the connections, each with a runtime of its own. `None`, the
    /// default, runs them as tasks of the runtime that the router itself runs on.
    pub workers: Option<NonZeroUsize>,
}

impl Default for RouterConfig {
    fn default() -> Self {
        RouterConfig {
            listen: Vec::new(),
            unix_mode: DEFAULT_UNIX_MODE,
            ping_timeout: Some(Duration::from_secs(60)),
            max_frame: DEFAULT_MAX_FRAME,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            limits: Limits::default(),
            workers: None,
        }
    }
}
