//! How a router behaves.

use std::num::NonZeroUsize;
use std::time::Duration;

use gsb_core::Limits;
use gsb_proto::Address;
use gsb_proto::frame::DEFAULT_MAX_FRAME;

/// Connections a router accepts at the same time, if not told otherwise.
pub const DEFAULT_MAX_CONNECTIONS: usize = 65_536;

/// Permissions of a Unix socket's file, if not told otherwise: for its owner alone.
pub const DEFAULT_UNIX_MODE: u32 = 0o600;

/// The smallest frame limit that a router accepts, in bytes: a call with a name has to fit.
pub const SMALLEST_MAX_FRAME: usize = 1 << 10;

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
    /// Largest frame body that is accepted, in bytes; 64 MiB by default, 127 MiB at most and
    /// [`SMALLEST_MAX_FRAME`] at least.
    pub max_frame: usize,
    /// How many connections may be open at the same time; [`DEFAULT_MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// What one connection may hold.
    pub limits: Limits,
    /// How long a service may take nothing before the calls that wait for it end, and how long services
    /// wait for a caller that takes no replies. 5 seconds by default.
    pub stall_timeout: Duration,
    /// How long a connection may take nothing of what is to be written to it before it is closed. 10 seconds
    /// by default.
    pub write_timeout: Duration,
    /// How long a frame that has begun to come may go without another byte before its connection is closed.
    /// 30 seconds by default.
    pub frame_timeout: Duration,
    /// How long open calls are given to end when the router stops. 5 seconds by default.
    pub drain_timeout: Duration,
    /// How many threads to start for the connections, each with a runtime of its own. `None`, the
    /// default, runs them as tasks of the runtime that the router itself runs on.
    pub workers: Option<NonZeroUsize>,
    /// How long a worker without work polls for more before it sleeps; 50 µs by default, and zero disables it.
    /// This saves the time that waking up takes, and costs processor time. A worker polls only if there are more
    /// processors than workers, and less often where that is in vain or other threads need its processor.
    pub busy_poll: Duration,
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
            stall_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
            workers: None,
            busy_poll: Duration::from_micros(50),
        }
    }
}
