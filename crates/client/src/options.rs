//! The options of a bus, and their defaults.

use std::sync::Arc;
use std::time::Duration;

use gsb_proto::Framing;
use gsb_proto::framing::DEFAULT_MAX_FRAME;

use crate::encoding::{Encoding, FlexBuffers};
use crate::reconnect::Reconnect;

/// Default of [`BusBuilder::call_timeout`](crate::BusBuilder::call_timeout): 60 s.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Default of [`BusBuilder::request_timeout`](crate::BusBuilder::request_timeout): 10 s.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Default of [`BusBuilder::connect_timeout`](crate::BusBuilder::connect_timeout): 10 s.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Default of [`BusBuilder::ping_timeout`](crate::BusBuilder::ping_timeout): 30 s.
pub const DEFAULT_PING_TIMEOUT: Duration = Duration::from_secs(30);

/// Default of [`BusBuilder::outbox_limit`](crate::BusBuilder::outbox_limit) and
/// [`BusBuilder::buffer_limit`](crate::BusBuilder::buffer_limit): 16 MiB.
pub const DEFAULT_BUFFER_LIMIT: usize = 16 << 20;

/// Default of [`BusBuilder::stream_window`](crate::BusBuilder::stream_window): 1 MiB.
pub const DEFAULT_STREAM_WINDOW: usize = 1 << 20;

/// Default of [`BusBuilder::max_running`](crate::BusBuilder::max_running): 65,536 calls of one service.
pub const DEFAULT_MAX_RUNNING: usize = 65_536;

/// Default of [`BusBuilder::max_running_bytes`](crate::BusBuilder::max_running_bytes): 64 MiB.
pub const DEFAULT_MAX_RUNNING_BYTES: usize = 64 << 20;

/// The options of a bus. [`BusBuilder`](crate::BusBuilder) documents each.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) framing: Framing,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) ping_timeout: Option<Duration>,
    pub(crate) reconnect: Option<Reconnect>,
    pub(crate) wait_for_router: Duration,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) max_frame: usize,
    pub(crate) outbox_limit: usize,
    pub(crate) buffer_limit: usize,
    pub(crate) stream_window: usize,
    pub(crate) max_running: usize,
    pub(crate) max_running_bytes: usize,
    pub(crate) encoding: Arc<dyn Encoding>,
    #[cfg(feature = "memory")]
    pub(crate) network: Option<gsb_net::memory::Network>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: env!("CARGO_PKG_NAME").to_owned(),
            framing: Framing::Packet,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            ping_timeout: Some(DEFAULT_PING_TIMEOUT),
            reconnect: Some(Reconnect::default()),
            wait_for_router: Duration::ZERO,
            call_timeout: Some(DEFAULT_CALL_TIMEOUT),
            max_frame: DEFAULT_MAX_FRAME,
            outbox_limit: DEFAULT_BUFFER_LIMIT,
            buffer_limit: DEFAULT_BUFFER_LIMIT,
            stream_window: DEFAULT_STREAM_WINDOW,
            max_running: DEFAULT_MAX_RUNNING,
            max_running_bytes: DEFAULT_MAX_RUNNING_BYTES,
            encoding: Arc::new(FlexBuffers),
            #[cfg(feature = "memory")]
            network: None,
        }
    }
}
