//! How a connection is made.

use std::sync::Arc;
use std::time::Duration;

use gsb_proto::frame::DEFAULT_MAX_FRAME;
use gsb_proto::{Address, Framing};

use crate::bus::Bus;
use crate::connection;
use crate::encoding::{Encoding, FlexBuffers};
use crate::error::Error;

/// How long a call waits for its reply, if not told otherwise.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a request to the router waits for its answer, if not told otherwise.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long connecting may take, if not told otherwise.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a router may be silent before it is sent a Ping, if not told otherwise.
pub const DEFAULT_PING_TIMEOUT: Duration = Duration::from_secs(30);

/// How many bytes may wait, to be sent or for one consumer, if not told otherwise: 16 MiB.
pub const DEFAULT_BUFFER_LIMIT: usize = 16 << 20;

/// How many calls one service handles at the same time, if not told otherwise.
pub const DEFAULT_MAX_RUNNING: usize = 65_536;

/// Options of a [`Bus`]; made by [`Bus::builder`].
#[derive(Debug, Clone)]
#[must_use = "call `connect`"]
pub struct BusBuilder {
    pub(crate) name: String,
    pub(crate) framing: Framing,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) ping_timeout: Option<Duration>,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) max_frame: usize,
    pub(crate) outbox_limit: usize,
    pub(crate) buffer_limit: usize,
    pub(crate) max_running: usize,
    pub(crate) encoding: Arc<dyn Encoding>,
}

impl Default for BusBuilder {
    fn default() -> Self {
        BusBuilder {
            name: env!("CARGO_PKG_NAME").to_owned(),
            framing: Framing::Packet,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            ping_timeout: Some(DEFAULT_PING_TIMEOUT),
            call_timeout: Some(DEFAULT_CALL_TIMEOUT),
            max_frame: DEFAULT_MAX_FRAME,
            outbox_limit: DEFAULT_BUFFER_LIMIT,
            buffer_limit: DEFAULT_BUFFER_LIMIT,
            max_running: DEFAULT_MAX_RUNNING,
            encoding: Arc::new(FlexBuffers),
        }
    }
}

impl BusBuilder {
    /// The program's name. Routers show it, and services see it as the caller unless
    /// [`Endpoint::caller`](crate::Endpoint::caller) says otherwise. `gsb-client` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The framing to speak. Packet by default; a router understands both, other routers only one.
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// How long to wait for a connection, the router's Hello included; [`DEFAULT_CONNECT_TIMEOUT`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long registering, subscribing, broadcasting and their opposites wait for the router;
    /// [`DEFAULT_REQUEST_TIMEOUT`].
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long the router may be silent before it is sent a Ping; after twice that the connection is
    /// lost. `None` waits for ever; [`DEFAULT_PING_TIMEOUT`].
    pub fn ping_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.ping_timeout = timeout.into();
        self
    }

    /// How long a call waits for its reply, and a stream for each of its replies. `None` is for ever;
    /// [`DEFAULT_CALL_TIMEOUT`] by default.
    pub fn call_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.call_timeout = timeout.into();
        self
    }

    /// Largest message to send, in bytes; what is larger is [`Error::TooLarge`]. 64 MiB by default, which
    /// is what routers accept by default: one that gets more closes the connection.
    pub fn max_frame(mut self, limit: usize) -> Self {
        self.max_frame = limit;
        self
    }

    /// How many bytes may wait to be sent to the router before senders have to wait;
    /// [`DEFAULT_BUFFER_LIMIT`].
    pub fn outbox_limit(mut self, limit: usize) -> Self {
        self.outbox_limit = limit;
        self
    }

    /// How many bytes of one stream or subscription may wait for their consumer; see
    /// [`Error::Overflow`]. [`DEFAULT_BUFFER_LIMIT`] by default.
    pub fn buffer_limit(mut self, limit: usize) -> Self {
        self.buffer_limit = limit;
        self
    }

    /// How many calls one service handles at the same time. A call beyond that is [`Error::Busy`] for its
    /// caller. [`DEFAULT_MAX_RUNNING`] by default.
    pub fn max_running(mut self, limit: usize) -> Self {
        self.max_running = limit;
        self
    }

    /// How typed messages become bytes. [`FlexBuffers`] by default; whoever is called must use the
    /// same.
    pub fn encoding(mut self, encoding: impl Encoding) -> Self {
        self.encoding = Arc::new(encoding);
        self
    }

    /// Connects to a bus, given as an [`Address`] or as text such as `unix:/run/gsb.sock`.
    ///
    /// # Errors
    /// [`Error::Address`] or [`Error::Connect`].
    pub async fn connect<A>(self, address: A) -> Result<Bus, Error>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        let address = address.try_into().map_err(Into::into)?;
        connection::open(self, address).await
    }
}
