//! The handle that users hold.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _};
use gsb_proto::{Address, Topic};

use crate::builder::BusBuilder;
use crate::endpoint::{Endpoint, ReplyStream};
use crate::error::{Error, Failure, LostReason};
use crate::queue::{Queue, WhenFull};
use crate::registration::{Binding, Registering};
use crate::serial::Turn;
use crate::services::{Call, Handler, PushFn, ReplyFn, ServiceEntry, StreamFn};
use crate::shared::Shared;
use crate::status::{Connection, Status};
use crate::subscriptions::{Broadcast, Subscription};
use crate::watch::StatusWatch;

/// A bus: services and callers of this process, and of others if it has a router. Cheap to clone; all
/// clones are the same bus, which ends when the last of them and of what was made from them is dropped
/// (a [`Registration`](crate::Registration), a [`Subscription`], an [`Endpoint`], a [`Service`](crate::Service) and the like), and
/// by [`Bus::shutdown`] and [`Bus::close`].
///
/// A call goes to the service with the longest matching name in this process. Only when there is none it
/// goes to the router.
///
/// The connection to a router is served by a task of the runtime that the bus was made on, which needs
/// I/O and time enabled; when that runtime ends, so does the bus. Without a router no tokio runtime is
/// needed, except for pushes and for calls that have to wait and have a timeout.
///
/// When the last handle is dropped or the runtime ends, as at the end of `main`, what is queued for the router
/// is written for up to a second, as far as the router takes it; the end of the runtime waits for that. A
/// process that ends otherwise, as by [`std::process::exit`], takes with it what is queued. Whether the router
/// has got all of it is known after [`Bus::flush`], [`Bus::shutdown`] or [`Bus::close`].
#[derive(Clone)]
pub struct Bus {
    handle: Arc<Handle>,
    scope: Scope,
    /// How many calls a service that is registered with this handle handles at the same time.
    max_running: usize,
    /// What the services take turns for that are registered with this handle, if they do.
    turn: Option<Turn>,
}

/// Where something is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In this process, and at the router if there is one.
    Everywhere,
    /// In this process.
    InProcess,
}

/// A [`Bus`] that does not keep the bus alive. For a handler that makes calls itself: one that held a
/// [`Bus`] would keep the bus that keeps the handler.
#[derive(Debug, Clone)]
pub struct WeakBus {
    handle: Weak<Handle>,
    scope: Scope,
    max_running: usize,
    turn: Option<Turn>,
}

/// Ends the bus when the last handle is dropped.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared().fmt(f)
    }
}

impl WeakBus {
    /// The bus, if anybody still holds it.
    pub fn upgrade(&self) -> Option<Bus> {
        let handle = self.handle.upgrade()?;
        let WeakBus { scope, max_running, ref turn, .. } = *self;
        Some(Bus { handle, scope, max_running, turn: turn.clone() })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.finish();
    }
}

impl Bus {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let max_running = shared.options().max_running;
        let handle = Arc::new(Handle { shared });
        Bus { handle, scope: Scope::Everywhere, max_running, turn: None }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// A handle that does not keep the bus alive.
    pub fn downgrade(&self) -> WeakBus {
        let Bus { handle, scope, max_running, turn } = self;
        let (scope, max_running) = (*scope, *max_running);
        WeakBus { handle: Arc::downgrade(handle), scope, max_running, turn: turn.clone() }
    }

    /// The same bus, without its router: nothing that is done with this handle leaves the process. What
    /// it registers is found by callers here, what it broadcasts reaches subscribers here, what it
    /// subscribes to is announced here, and what it calls is served here.
    ///
    /// ```
    /// # use gsb_client::{Bus, Call, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let _cache = bus.in_process().register("/cache", |call: Call| async { Ok(call.data) }).await?;
    /// bus.call("/cache", "key").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn in_process(&self) -> Bus {
        Bus { scope: Scope::InProcess, ..self.clone() }
    }

    /// The same bus; each service that is registered with this handle handles so many calls at the same
    /// time. What comes beyond that is refused: see [`BusBuilder::max_running`].
    #[must_use]
    pub fn with_max_running(&self, limit: usize) -> Bus {
        Bus { max_running: limit, ..self.clone() }
    }

    /// The same bus; the services that are registered with this handle and its clones handle one call or
    /// push after the other, all of them together, in the order in which they come: through the router as
    /// the connection brings them, in this process as the callers begin to wait. Each call of `serial` is
    /// an order of its own.
    ///
    /// Those that wait for their turn count as running: [`with_max_running`](Bus::with_max_running) is how
    /// many may wait, the one that is handled included. A handler that calls one of the same services waits
    /// for itself, until the call times out.
    ///
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// # use gsb_client::{Bus, Call, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let journal = Arc::new(Mutex::new(Vec::new()));
    /// let append = move |call: Call| {
    ///     let journal = journal.clone();
    ///     async move { journal.lock().unwrap().push(call.data) }
    /// };
    /// let _journal = bus.serial().with_max_running(1000).register_push("/journal", append).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn serial(&self) -> Bus {
        Bus { turn: Some(Turn::new()), ..self.clone() }
    }

    /// What handlers take turns for that are registered with this handle, if they do.
    pub(crate) fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
    }

    /// Options for a bus.
    pub fn builder() -> BusBuilder {
        BusBuilder::default()
    }

    /// A bus within this process, without a router.
    ///
    /// It suits the unit tests of most services. [The documentation of the crate](crate#tests) says what differs
    /// from a bus with a router, and how a test gets a router.
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

    /// Connects to a router, given as an [`Address`] or as text such as `unix:/run/gsb.sock`, and keeps the
    /// connection up: see [`BusBuilder::reconnect`].
    ///
    /// # Errors
    /// [`Error::Address`] or [`Error::Connect`], if there is no connection now.
    pub async fn connect<A>(address: A) -> Result<Bus, Error>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        Bus::builder().connect(address).await
    }

    /// Connects to the router of this user: where `GSB_URL` says, or where a router listens that is told
    /// nothing else (see [`Address::from_environment`]).
    ///
    /// # Errors
    /// [`Error::Address`] or [`Error::Connect`].
    pub async fn connect_default() -> Result<Bus, Error> {
        Bus::connect(Address::from_environment()?).await
    }

    /// Registers a service that answers each call once. Its name is up to 1024 bytes of text without white
    /// space and control characters, segments with `/` between them and, by custom, a leading `/`. The reply is
    /// anything that becomes [`Bytes`]; errors and text become a [`Failure`] with `?` and `.into()`.
    ///
    /// ```
    /// # use gsb_client::{Bus, Call, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let _double = bus
    ///     .register("/double", |call: Call| async move {
    ///         let number: i64 = std::str::from_utf8(&call.data)?.parse()?;
    ///         let double = number.checked_mul(2).ok_or("the number is too large")?;
    ///         Ok(double.to_string())
    ///     })
    ///     .await?;
    /// assert_eq!(bus.call("/double", "21").await?, "42");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Calls are handled concurrently, up to [`BusBuilder::max_running`], and begin in no particular order.
    /// Pushes are handled concurrently as well, but begin in the order in which they came: what a handler
    /// does before it first waits for something is done before the handler of the next push begins, of
    /// whatever service of this bus. (Pushes within this process that are made on several runtimes have an order on
    /// each of them.) So a handler of pushes should not compute for long or block its
    /// thread. [`Bus::serial`] handles one call or push after the other. A handler that fails or panics
    /// answers its caller with a failure. A handler that makes calls itself should hold a [`WeakBus`].
    ///
    /// A call from another process is handled by a task of its own; when the connection is lost, it goes
    /// on, but a stream ends at its next item. A call from this process is handled as a part of the
    /// caller's future: a caller that is dropped, by a timeout for example, drops the handler where it
    /// waits. What must be finished is for `tokio::spawn`.
    ///
    /// Waits until the router has confirmed the name. Without a connection it does not wait: the service
    /// is there for callers in this process, and the router is told as soon as it can be. If it refuses
    /// then, or after a reconnect, that is logged as a warning, [`Status::is_serving`] is false, and the router is asked
    /// again with growing pauses, of up to 30 seconds unless [`BusBuilder::reconnect`] says otherwise. So a second program
    /// that serves the same name over a lazy bus stands by, and takes over when the first one stops. See also
    /// [`Registration::announcement`](crate::Registration::announcement) and [`Bus::watch`].
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::AlreadyRegistered`], [`Error::NameRefused`] if the router refuses it,
    /// [`Error::TooLarge`], [`Error::Timeout`], [`Error::ShutDown`], [`Error::ConnectionLost`].
    pub fn register<F, R, B>(&self, service_id: &str, handler: F) -> Registering
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<B, Failure>> + Send + 'static,
        B: Into<Bytes>,
    {
        let handler = move |call| handler(call).map(|reply| reply.map(Into::into)).boxed();
        let handler: ReplyFn = match self.turn.clone() {
            None => Box::new(handler),
            Some(turn) => Box::new(turn.wrap(handler)),
        };
        self.register_handler(service_id, Handler::Reply(handler))
    }

    /// Registers a service that answers each call with a stream, whose items are what [`Bus::register`] takes as
    /// replies. A failure ends the stream.
    ///
    /// ```
    /// # use gsb_client::{Bus, Call, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let _count = bus
    ///     .register_stream("/count", |_: Call| {
    ///         futures::stream::iter((1..=3).map(|number| Ok(number.to_string())))
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A reader in this process drops the stream with it. One behind a router does not: the stream is made
    /// up to its end, or until the connection to the router is lost, and counts as running so long.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn register_stream<F, S, B>(&self, service_id: &str, handler: F) -> Registering
    where
        F: Fn(Call) -> S + Send + Sync + 'static,
        S: Stream<Item = Result<B, Failure>> + Send + 'static,
        B: Into<Bytes>,
    {
        let handler = move |call| handler(call).map(|reply| reply.map(Into::into)).boxed();
        let handler: StreamFn = match self.turn.clone() {
            None => Box::new(handler),
            Some(turn) => Box::new(turn.wrap_stream(handler)),
        };
        self.register_handler(service_id, Handler::Stream(handler))
    }

    /// Registers a service that takes pushes and answers nothing. A call that wants a reply is refused.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn register_push<F, R>(&self, service_id: &str, handler: F) -> Registering
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let handler = move |call| handler(call).boxed();
        let handler: PushFn = match self.turn.clone() {
            None => Box::new(handler),
            Some(turn) => Box::new(turn.wrap(handler)),
        };
        self.register_handler(service_id, Handler::Push(handler))
    }

    fn register_handler(&self, service_id: &str, handler: Handler) -> Registering {
        let address = service_id.to_owned();
        Registering::one(self, Binding { address, handler, typed: None })
    }

    /// How many calls a service that is registered with this handle handles at the same time.
    pub(crate) fn max_running(&self) -> usize {
        self.max_running
    }

    /// The service of this process that an address belongs to; `None` if it is for the router to find.
    pub(crate) fn find(&self, address: &str) -> Result<Option<Arc<ServiceEntry>>, Error> {
        self.shared().find(address, self.scope)
    }

    /// Whether this handle has a router to ask for a service.
    pub(crate) fn asks_router(&self) -> bool {
        self.scope == Scope::Everywhere && self.shared().has_router()
    }

    /// An address to call, with options such as a timeout.
    pub fn endpoint(&self, address: impl Into<String>) -> Endpoint {
        Endpoint::new(self.clone(), address.into())
    }

    /// Calls a service and waits for its reply; see [`Endpoint::call`].
    ///
    /// # Errors
    /// Those of [`Endpoint::call`].
    pub async fn call(&self, address: &str, data: impl Into<Bytes>) -> Result<Bytes, Error> {
        self.endpoint(address).call(data).await
    }

    /// Calls a service and returns its replies as they come; see [`Endpoint::stream`].
    ///
    /// # Errors
    /// Those of [`Endpoint::stream`].
    pub async fn stream(
        &self,
        address: &str,
        data: impl Into<Bytes>,
    ) -> Result<ReplyStream, Error> {
        self.endpoint(address).stream(data).await
    }

    /// Calls a service without wanting a reply; see [`Endpoint::push`].
    ///
    /// # Errors
    /// Those of [`Endpoint::push`].
    pub async fn push(&self, address: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        self.endpoint(address).push(data).await
    }

    /// Subscribes to a topic, or to all topics that a pattern stands for: the segment `*` is any one
    /// segment, `**` any number of them. Events that are announced after this returns are received.
    ///
    /// Without a connection it returns at once: events of this process are received, and the router is
    /// told as soon as it can be.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::NameRefused`] if the router refuses it, [`Error::TooLarge`], [`Error::Timeout`],
    /// [`Error::ShutDown`], [`Error::ConnectionLost`].
    pub async fn subscribe(&self, topic: &str) -> Result<Subscription, Error> {
        let topic = Topic::new(topic)?;
        let shared = self.shared();
        let queue = Arc::new(Queue::new(shared.options().buffer_limit, WhenFull::Drop));
        let (key, confirmed) = shared.subscribe(&topic, queue.clone(), self.scope)?;
        // Made before the router has answered: if it refuses, or this future is dropped, the
        // subscription is undone.
        let subscription = Subscription::new(self.clone(), topic.clone(), key, queue);
        confirmed.await?;
        Ok(subscription)
    }

    /// Announces an event to everyone who subscribed to the topic, in this process and at the router; a
    /// pattern reaches all whose subscriptions share a topic with it. Waits until the router has taken it,
    /// not until it has arrived. When it cannot be sent, nobody gets it; see
    /// [`BusBuilder::wait_for_router`] and [`Bus::in_process`].
    ///
    /// A router that does not know how to leave out the sender, as those of `ya-service-bus`, or any in the
    /// classic framing, brings the event to the subscribers here, too.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::TooLarge`], [`Error::Timeout`], [`Error::NotSent`], [`Error::ShutDown`],
    /// [`Error::ConnectionLost`].
    pub async fn broadcast(&self, topic: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        let topic = Topic::new(topic)?;
        let caller = self.shared().options().name.clone();
        let event = Broadcast { topic: topic.to_string(), caller, data: data.into() };
        self.shared().broadcast(&topic, &event, self.scope).await
    }

    /// How the bus stands with its router now.
    pub fn status(&self) -> Status {
        self.shared().status()
    }

    /// Watches how the bus stands with its router: connecting, connected, lost, and what the router
    /// refuses. Does not keep the bus alive.
    ///
    /// ```
    /// # use gsb_client::Bus;
    /// # fn example(bus: Bus) {
    /// let mut watch = bus.watch();
    /// tokio::spawn(async move {
    ///     while let Some(status) = watch.changed().await {
    ///         println!("{:?}", status.connection);
    ///     }
    /// });
    /// # }
    /// ```
    pub fn watch(&self) -> StatusWatch {
        StatusWatch::new(self.shared().clone())
    }

    /// Waits until there is a connection to the router, and the router has answered for all that was
    /// registered and subscribed before. At once if there is no router.
    ///
    /// # Errors
    /// [`Error::ShutDown`] or [`Error::NotSent`] if there will be none any more.
    pub async fn settled(&self) -> Result<(), Error> {
        match self.shared().settled().await {
            Connection::Closed(LostReason::Closed) => Err(Error::ShutDown),
            Connection::Closed(reason) => Err(Error::NotSent(reason)),
            _ => Ok(()),
        }
    }

    /// Waits until the bus has ended: what a program does that only serves. A connection that is made
    /// again is no end.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`], unless it was ended on this side.
    pub async fn closed(&self) -> Result<(), Error> {
        match self.shared().ended().await {
            LostReason::Closed => Ok(()),
            reason => Err(Error::ConnectionLost(reason)),
        }
    }

    /// Waits until the router has taken all that this bus has sent so far: the pushes above all, which
    /// nobody answers. A program that ends right after a push may end before the push has left; after
    /// `flush` the router has handed it on to the service, or found that there is none.
    ///
    /// What is done within the process is not waited for, and without a router this returns at once. See
    /// [`Bus::shutdown`] for handlers that are still running.
    ///
    /// ```
    /// # use gsb_client::{Bus, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// for line in ["one", "two", "three"] {
    ///     bus.push("/journal", line).await?;
    /// }
    /// bus.flush().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::ConnectionLost`] if a connection was lost over which this bus had pushed since the last flush, or
    /// is lost meanwhile, [`Error::NotSent`] if there is none, [`Error::Timeout`] after [`BusBuilder::request_timeout`]: what was sent before may have arrived or not.
    /// [`Error::ShutDown`].
    pub async fn flush(&self) -> Result<(), Error> {
        self.shared().flush().await
    }

    /// Ends the bus for all handles, gracefully: gives its names back, lets the calls that are being
    /// handled finish, and sends what is queued. What is not done within `patience` is left; handlers
    /// that are still running go on, but nobody hears of them.
    ///
    /// Meanwhile calls can be made, but nothing can be registered or subscribed.
    ///
    /// A handler of this bus may ask for it, too: it and the handlers that it was called by within the
    /// process are not waited for. The bus has ended when they go on, so that a caller behind the router gets
    /// [`Error::ServiceFailure`] in place of their reply. A handler that wants to reply, one that waits for
    /// a task of its own that shuts the bus down, and one of a [serial](Bus::serial) service behind which
    /// others wait for their turn should leave it to a task that they do not wait for.
    ///
    /// # Errors
    /// [`Error::Unfinished`] if calls were still being handled, or replies were not sent. The bus has ended
    /// all the same.
    pub async fn shutdown(&self, patience: Duration) -> Result<(), Error> {
        self.shared().shut_down(patience).await
    }

    /// Waits until all that was sent has left, at most for the time that a request may take, then ends
    /// the bus for all handles.
    pub async fn close(self) {
        self.shared().close().await;
    }
}
