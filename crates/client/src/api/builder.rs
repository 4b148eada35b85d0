//! Making a bus.

use std::sync::Arc;
use std::time::Duration;

use gsb_proto::{Address, Framing};

use crate::api::bus::Bus;
use crate::encoding::Encoding;
use crate::engine::{Engine, connection};
use crate::error::Error;
use crate::options::Options;
use crate::reconnect::Reconnect;

/// Options of a [`Bus`]. Made by [`Bus::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "call `connect`, `connect_lazy` or `local`"]
pub struct BusBuilder {
    options: Options,
}

impl Bus {
    /// Options for a bus.
    pub fn builder() -> BusBuilder {
        BusBuilder::default()
    }

    /// A bus within this process, without a router.
    ///
    /// It suits the unit tests of most services. [The documentation of the crate](crate#tests) lists the differences
    /// from a bus with a router, and shows how a test starts a router.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), gsb_client::Error> {
    /// use gsb_client::{Bus, Call};
    ///
    /// let bus = Bus::local();
    /// let _echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await?;
    /// assert_eq!(bus.call("/echo", "hello").await?, "hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn local() -> Bus {
        Bus::builder().local()
    }

    /// Connects to a router, given as an [`Address`] or as text such as `unix:/run/gsb.sock`. A connection that is
    /// lost is made again: see [`BusBuilder::reconnect`].
    ///
    /// # Errors
    /// [`Error::Address`]; [`Error::Connect`] if there is no connection now.
    pub async fn connect<A>(address: A) -> Result<Bus, Error>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        Bus::builder().connect(address).await
    }

    /// Connects to the router of this user: at the address in `GSB_URL`, or else at the default address of a router
    /// (see [`Address::from_environment`]).
    ///
    /// # Errors
    /// [`Error::Address`] or [`Error::Connect`].
    pub async fn connect_default() -> Result<Bus, Error> {
        Bus::connect(Address::from_environment()?).await
    }
}

impl BusBuilder {
    /// The name of the program. Routers show it, and services see it as the caller unless
    /// [`Endpoint::caller`](crate::Endpoint::caller) sets another one. Default: `gsb-client`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// The framing of the connection. Routers of this project accept both, and `ya-sb-router` 0.6 accepts packet.
    /// Default: packet.
    pub fn framing(mut self, framing: Framing) -> Self {
        self.options.framing = framing;
        self
    }

    /// How long connecting may take, including the router's Hello. Default: 10 s
    /// ([`DEFAULT_CONNECT_TIMEOUT`](crate::DEFAULT_CONNECT_TIMEOUT)).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// How long the router may take to answer a request: to register, subscribe, broadcast, unregister or unsubscribe.
    /// After that the request fails with [`Error::Timeout`]. Default: 10 s
    /// ([`DEFAULT_REQUEST_TIMEOUT`](crate::DEFAULT_REQUEST_TIMEOUT)).
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.options.request_timeout = timeout;
        self
    }

    /// How long the router may be silent before it is sent a Ping. After twice this time the connection is lost.
    /// `None` and zero turn this off. Default: 30 s ([`DEFAULT_PING_TIMEOUT`](crate::DEFAULT_PING_TIMEOUT)).
    pub fn ping_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.ping_timeout = timeout.into().filter(|timeout| !timeout.is_zero());
        self
    }

    /// How a lost connection is made again. With `None` it is not, and a loss ends the bus. Default:
    /// growing random pauses, without a limit on the attempts, see [`Reconnect::default`].
    pub fn reconnect(mut self, reconnect: impl Into<Option<Reconnect>>) -> Self {
        self.options.reconnect = reconnect.into();
        self
    }

    /// How long calls, pushes and broadcasts wait for a connection if there is none. For a call this time counts
    /// towards [its timeout](BusBuilder::call_timeout). While a caller waits, the bus tries to connect about twice a
    /// second. Default: zero, so that they fail at once with [`Error::NotSent`].
    pub fn wait_for_router(mut self, timeout: Duration) -> Self {
        self.options.wait_for_router = timeout;
        self
    }

    /// How long a call waits for its reply, and a stream for each of its replies. `None` waits without a limit.
    /// Default: 60 s ([`DEFAULT_CALL_TIMEOUT`](crate::DEFAULT_CALL_TIMEOUT)).
    pub fn call_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.call_timeout = timeout.into();
        self
    }

    /// Largest message to send, in bytes, including 64 bytes for its framing. A larger one is [`Error::TooLarge`]. If
    /// the router announces a lower limit, that one applies: a router closes the connection over a larger message.
    /// Default: 64 MiB, which is also the default of routers.
    pub fn max_frame(mut self, limit: usize) -> Self {
        self.options.max_frame = limit;
        self
    }

    /// How many bytes may be queued for the router before senders have to wait. Default: 16 MiB
    /// ([`DEFAULT_BUFFER_LIMIT`](crate::DEFAULT_BUFFER_LIMIT)).
    pub fn outbox_limit(mut self, limit: usize) -> Self {
        self.options.outbox_limit = limit;
        self
    }

    /// How many bytes a subscription may hold that its consumer has not read; see [`Error::Overflow`]. It holds for a
    /// stream as well, if the router or the service does not keep to its [window](BusBuilder::stream_window), as those of
    /// level 0 do not. Default: 16 MiB ([`DEFAULT_BUFFER_LIMIT`](crate::DEFAULT_BUFFER_LIMIT)).
    pub fn buffer_limit(mut self, limit: usize) -> Self {
        self.options.buffer_limit = limit;
        self
    }

    /// How many bytes the service of a stream may be ahead of the reader. Each reply counts as the length of its data and
    /// 64 bytes, and the last one may exceed the window. Then the service waits until the reader has read, however long
    /// that takes, and other calls and streams go on. A larger window makes a stream faster if a round trip takes long, and
    /// takes more memory. [`Endpoint::window`](crate::Endpoint::window) sets it for single streams. Default: 1 MiB
    /// ([`DEFAULT_STREAM_WINDOW`](crate::DEFAULT_STREAM_WINDOW)).
    ///
    /// It is also how far the caller of an upload may be ahead of a handler of this bus, see
    /// [`RequestStream`](crate::RequestStream).
    pub fn stream_window(mut self, bytes: usize) -> Self {
        self.options.stream_window = bytes;
        self
    }

    /// How many calls a service handles at the same time. A further call fails with [`Error::Busy`], and so does a
    /// push from this process. A further push from another process is dropped and counted, see
    /// [`Registration::dropped_pushes`](crate::Registration::dropped_pushes). [`Bus::with_max_running`] sets the limit
    /// of single services. Default: 65,536 ([`DEFAULT_MAX_RUNNING`](crate::DEFAULT_MAX_RUNNING)).
    pub fn max_running(mut self, limit: usize) -> Self {
        self.options.max_running = limit;
        self
    }

    /// How many bytes the running calls and pushes from other processes may hold, all services together. Each holds
    /// its payload as it was sent, its texts (address, caller, id) and 512 bytes, until its handler has ended and its
    /// reply is queued. A call beyond the limit is treated as one beyond [`max_running`](BusBuilder::max_running). A
    /// single call is handled whatever its size. Memory that a handler allocates, such as for a decoded message, does
    /// not count. Default: 64 MiB ([`DEFAULT_MAX_RUNNING_BYTES`](crate::DEFAULT_MAX_RUNNING_BYTES)).
    pub fn max_running_bytes(mut self, limit: usize) -> Self {
        self.options.max_running_bytes = limit;
        self
    }

    /// The encoding of typed messages. Callers and services must use the same. Default:
    /// [`FlexBuffers`](crate::FlexBuffers).
    pub fn encoding(mut self, encoding: impl Encoding) -> Self {
        self.options.encoding = Arc::new(encoding);
        self
    }

    /// Connects over a simulated network within the process, for tests. The address to connect to is only a label
    /// then. Needs the feature `memory`.
    #[cfg(feature = "memory")]
    pub fn network(mut self, network: gsb_net::memory::Network) -> Self {
        self.options.network = Some(network);
        self
    }

    /// Connects to a router, given as an [`Address`] or as text such as `unix:/run/gsb.sock`. The bus
    /// reconnects when the connection is lost: see [`reconnect`](BusBuilder::reconnect).
    ///
    /// # Errors
    /// [`Error::Address`] if the address is malformed; [`Error::Connect`] if the first attempt to connect fails.
    pub async fn connect<A>(self, address: A) -> Result<Bus, Error>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        let address = address.try_into().map_err(Into::into)?;
        Ok(Bus::new(connection::open(self.options, address).await?))
    }

    /// Connects to the router of this user; see [`Bus::connect_default`].
    ///
    /// # Errors
    /// [`Error::Address`]; [`Error::Connect`] if there is no connection now.
    pub async fn connect_default(self) -> Result<Bus, Error> {
        self.connect(Address::from_environment()?).await
    }

    /// A bus that connects to a router as soon as the router can be reached. Until then it works within the process.
    /// The router of this user is at [`Address::from_environment`].
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
        Ok(Bus::new(connection::open_lazily(self.options, address)))
    }

    /// A bus within the process, without a router.
    pub fn local(self) -> Bus {
        Bus::new(Arc::new(Engine::new(self.options, false)))
    }
}
