//! How a bus is made.

use std::sync::Arc;
use std::time::Duration;

use gsb_proto::framing::DEFAULT_MAX_FRAME;
use gsb_proto::{Address, Framing};

use crate::bus::Bus;
use crate::connection;
use crate::encoding::{Encoding, FlexBuffers};
use crate::error::Error;
use crate::reconnect::Reconnect;
use crate::shared::Shared;

/// How long a call waits for its reply, if not told otherwise: 60 s.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a request to the router waits for its answer, if not told otherwise: 10 s.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long connecting may take, if not told otherwise: 10 s.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a router may be silent before it is sent a Ping, if not told otherwise: 30 s.
pub const DEFAULT_PING_TIMEOUT: Duration = Duration::from_secs(30);

/// How many bytes may wait, to be sent or for one consumer, if not told otherwise: 16 MiB.
pub const DEFAULT_BUFFER_LIMIT: usize = 16 << 20;

/// How many calls one service handles at the same time, if not told otherwise: 65,536.
pub const DEFAULT_MAX_RUNNING: usize = 65_536;

/// How many bytes the calls that are being handled may hold, if not told otherwise: 64 MiB.
pub const DEFAULT_MAX_RUNNING_BYTES: usize = 64 << 20;

/// Options of a [`Bus`]; made by [`Bus::builder`].
#[derive(Debug, Clone)]
#[must_use = "call `connect`, `connect_lazy` or `local`"]
pub struct BusBuilder {
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
    pub(crate) max_running: usize,
    pub(crate) max_running_bytes: usize,
    pub(crate) encoding: Arc<dyn Encoding>,
    #[cfg(feature = "memory")]
    pub(crate) network: Option<gsb_net::memory::Network>,
}

impl Default for BusBuilder {
    fn default() -> Self {
        BusBuilder {
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
            max_running: DEFAULT_MAX_RUNNING,
            max_running_bytes: DEFAULT_MAX_RUNNING_BYTES,
            encoding: Arc::new(FlexBuffers),
            #[cfg(feature = "memory")]
            network: None,
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

    /// How long to wait for a connection, the router's Hello included. 10 s by default
    /// ([`DEFAULT_CONNECT_TIMEOUT`]).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long registering, subscribing, broadcasting and their opposites wait for the router. 10 s by
    /// default ([`DEFAULT_REQUEST_TIMEOUT`]).
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long the router may be silent before it is sent a Ping; after twice that the connection is
    /// lost. `None`, or zero, waits for ever. 30 s by default ([`DEFAULT_PING_TIMEOUT`]).
    pub fn ping_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.ping_timeout = timeout.into().filter(|timeout| !timeout.is_zero());
        self
    }

    /// How a connection that was lost is made again: by default with growing pauses, for ever. `None` does
    /// not: then a loss ends the bus.
    pub fn reconnect(mut self, reconnect: impl Into<Option<Reconnect>>) -> Self {
        self.reconnect = reconnect.into();
        self
    }

    /// How long calls and broadcasts wait for a connection when there is none. By default they do not, and
    /// fail at once with [`Error::NotSent`]. What a call waits here counts towards
    /// [its timeout](BusBuilder::call_timeout). While anybody waits, the router is tried about twice a
    /// second.
    pub fn wait_for_router(mut self, patience: Duration) -> Self {
        self.wait_for_router = patience;
        self
    }

    /// How long a call waits for its reply, and a stream for each of its replies. `None` is for ever. 60 s by
    /// default ([`DEFAULT_CALL_TIMEOUT`]).
    pub fn call_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.call_timeout = timeout.into();
        self
    }

    /// Largest message to send, in bytes, with 64 bytes for its framing; what is larger is [`Error::TooLarge`].
    /// 64 MiB by default, which is what routers accept by default: a router that gets more closes the connection.
    /// Where the router says that its limit is lower, that one holds.
    pub fn max_frame(mut self, limit: usize) -> Self {
        self.max_frame = limit;
        self
    }

    /// How many bytes may wait to be sent to the router before senders have to wait. 16 MiB by
    /// default ([`DEFAULT_BUFFER_LIMIT`]).
    pub fn outbox_limit(mut self, limit: usize) -> Self {
        self.outbox_limit = limit;
        self
    }

    /// How many bytes of one stream or subscription may wait for their consumer; see
    /// [`Error::Overflow`]. 16 MiB by default ([`DEFAULT_BUFFER_LIMIT`]).
    pub fn buffer_limit(mut self, limit: usize) -> Self {
        self.buffer_limit = limit;
        self
    }

    /// How many calls each service handles at the same time. A call beyond that is [`Error::Busy`] for its
    /// caller, and so is a push from this process; a push from another process is dropped and counted, see
    /// [`Registration::dropped_pushes`](crate::Registration::dropped_pushes). 65,536 by default
    /// ([`DEFAULT_MAX_RUNNING`]); [`Bus::with_max_running`] sets it for single services.
    pub fn max_running(mut self, limit: usize) -> Self {
        self.max_running = limit;
        self
    }

    /// How many bytes the calls and pushes from other processes hold that handlers have not finished: the
    /// data as it was sent, the texts (address, caller, id), and 512 bytes for each; a reply that waits to be sent counts in place of its
    /// call. What comes beyond that is treated as what comes beyond [`max_running`](BusBuilder::max_running).
    /// One call is handled whatever its size. What a handler makes of the data, such as a decoded message,
    /// does not count. 64 MiB by default ([`DEFAULT_MAX_RUNNING_BYTES`]).
    pub fn max_running_bytes(mut self, limit: usize) -> Self {
        self.max_running_bytes = limit;
        self
    }

    /// How typed messages become bytes. [`FlexBuffers`] by default; whoever is called must use the
    /// same.
    pub fn encoding(mut self, encoding: impl Encoding) -> Self {
        self.encoding = Arc::new(encoding);
        self
    }

    /// Connects over this network inside the process, for tests that simulate one. The address that is
    /// connected to is a mere label then. Needs the feature `memory`.
    #[cfg(feature = "memory")]
    pub fn network(mut self, network: gsb_net::memory::Network) -> Self {
        self.network = Some(network);
        self
    }

    /// Connects to a router, given as an [`Address`] or as text such as `unix:/run/gsb.sock`, and keeps the
    /// connection up.
    ///
    /// # Errors
    /// [`Error::Address`] or [`Error::Connect`], if there is no connection now.
    pub async fn connect<A>(self, address: A) -> Result<Bus, Error>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        let address = address.try_into().map_err(Into::into)?;
        connection::open(self, address).await
    }

    /// Connects to the router of this user; see [`Bus::connect_default`].
    ///
    /// # Errors
    /// [`Error::Address`] or [`Error::Connect`], if there is no connection now.
    pub async fn connect_default(self) -> Result<Bus, Error> {
        self.connect(Address::from_environment()?).await
    }

    /// Connects to a router as soon as it is there, and keeps the connection up. Until then the bus works
    /// within the process. The router of this user is at [`Address::from_environment`].
    ///
    /// # Errors
    /// [`Error::Address`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect_lazy<A>(self, address: A) -> Result<Bus, Error>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        let address = address.try_into().map_err(Into::into)?;
        Ok(connection::open_lazily(self, address))
    }

    /// A bus within the process, without a router.
    pub fn local(self) -> Bus {
        Bus::new(Arc::new(Shared::new(self, false)))
    }

    /// How long to wait before the router is asked again for a name that it has refused so often before.
    pub(crate) fn retry_delay(&self, refusals: u32) -> Duration {
        self.reconnect.clone().unwrap_or_default().delay(refusals)
    }
}
