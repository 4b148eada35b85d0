//! The configuration of a router.

use std::num::NonZeroUsize;
use std::time::Duration;

use gsb_core::Limits;
use gsb_proto::Address;
use gsb_proto::framing::DEFAULT_MAX_FRAME;

/// The default for the number of connections that may be open at the same time.
pub const DEFAULT_MAX_CONNECTIONS: usize = 65_536;

/// The default permissions of the file of a Unix socket: its owner alone can connect.
pub const DEFAULT_UNIX_MODE: u32 = 0o600;

/// The smallest frame limit that a router accepts, in bytes. A call with a long address fits.
pub const SMALLEST_MAX_FRAME: usize = 1 << 10;

/// The configuration of a [`Router`](crate::Router).
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// The addresses to listen on. The peers of all of them share one set of services. Empty by default, which
    /// [`Router::bind`](crate::Router::bind) refuses.
    pub listen: Vec<Address>,
    /// Permissions of the file of each Unix socket; [`DEFAULT_UNIX_MODE`] by default.
    pub unix_mode: u32,
    /// How long a connection may be silent before it gets a Ping; after twice that time it is closed. `None` and
    /// zero disable it. 60 seconds by default.
    pub ping_timeout: Option<Duration>,
    /// The largest frame body that is accepted, in bytes: from [`SMALLEST_MAX_FRAME`] to 127 MiB, 64 MiB by default.
    pub max_frame: usize,
    /// How many connections may be open at the same time; [`DEFAULT_MAX_CONNECTIONS`] by default.
    pub max_connections: usize,
    /// Limits for each connection.
    pub limits: Limits,
    /// How many bytes all connections together may have queued, those of unfinished frames included. `None`, the
    /// default, stands for a quarter of the memory of the machine or its cgroup.
    pub memory_limit: Option<usize>,
    /// The time in which a peer must read 64 KiB of what is queued for it, or an eighth of the queue limit while
    /// another connection is not read because of it. A slower peer is stalled until it reads: calls to it fail, and so do
    /// its own calls when they are answered. 5 seconds by default.
    pub stall_timeout: Duration,
    /// The time in which a peer must read 64 KiB of what is queued for it. A slower peer is closed. 10 seconds by
    /// default.
    pub write_timeout: Duration,
    /// A connection whose unfinished frame gets no further byte within this time is closed. 30 seconds by default.
    pub frame_timeout: Duration,
    /// How long a stopping router waits for open calls to end. 5 seconds by default.
    pub drain_timeout: Duration,
    /// The number of threads that serve connections, each with its own runtime. `None`, the default, serves them
    /// on the runtime of [`Router::run`](crate::Router::run).
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
            memory_limit: None,
            stall_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
            workers: None,
            busy_poll: Duration::from_micros(50),
        }
    }
}
