//! The handle of a bus for code without a runtime.

use std::panic::resume_unwind;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream};
use gsb_proto::Address;
use tokio::task::{JoinError, spawn_blocking};

use crate::api::registration::Registering;
use crate::api::reply_stream::ReplyStream;
use crate::api::subscription::Subscription;
use crate::blocking::calls::{Endpoint, Items, Service};
use crate::blocking::runtime::Runtime;
use crate::call::Call;
use crate::error::Error;
use crate::failure::Failure;
use crate::message::{Answer, Message};
use crate::reply::Reply;

/// A bus for code without a runtime. [The documentation of the module](crate::blocking) has examples.
///
/// It is cheap to clone, and all clones are the same bus with the same thread. The bus and its thread end when the last
/// clone and the last handle made from it is dropped; handles of [`Bus::as_async`] do not count. Dropping the last one
/// waits until queued frames are written, for up to a second. It does not wait on a thread of a tokio runtime and in a
/// handler of this bus: the thread of the bus writes the frames then, as long as the process lives.
#[derive(Debug, Clone)]
pub struct Bus {
    bus: crate::Bus,
    runtime: Arc<Runtime>,
}

/// A [`Bus`] handle that does not keep the bus alive. It is meant for handlers that make calls: the bus keeps its
/// handlers, so a handler with a [`Bus`] would keep the bus alive for ever.
#[derive(Debug, Clone)]
pub struct WeakBus {
    bus: crate::WeakBus,
    runtime: Weak<Runtime>,
}

impl WeakBus {
    /// The bus. `None` if its last handle was dropped.
    pub fn upgrade(&self) -> Option<Bus> {
        Some(Bus { bus: self.bus.upgrade()?, runtime: self.runtime.upgrade()? })
    }
}

/// The options of a [`Bus`]. Made by [`BusBuilder::blocking`](crate::BusBuilder::blocking).
#[derive(Debug, Clone, Default)]
#[must_use = "call `connect`, `connect_lazy` or `local`"]
pub struct BusBuilder {
    options: crate::BusBuilder,
}

impl crate::BusBuilder {
    /// These options for a [`blocking::Bus`](Bus), which needs no runtime. Needs the feature `blocking`.
    pub fn blocking(self) -> BusBuilder {
        BusBuilder { options: self }
    }
}

impl BusBuilder {
    /// Connects to a router; see [`crate::BusBuilder::connect`].
    ///
    /// # Errors
    /// [`Error::Address`]; [`Error::Connect`] if the first attempt to connect fails; [`Error::Thread`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn connect<A>(self, address: A) -> Result<Bus, Error>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        Bus::new(self.options.connect(address))
    }

    /// Connects to the router of this user; see [`crate::Bus::connect_default`].
    ///
    /// # Errors
    /// Those of [`BusBuilder::connect`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn connect_default(self) -> Result<Bus, Error> {
        Bus::new(self.options.connect_default())
    }

    /// A bus that connects as soon as the router can be reached; see [`crate::BusBuilder::connect_lazy`].
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Thread`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn connect_lazy<A>(self, address: A) -> Result<Bus, Error>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        Bus::new(async { self.options.connect_lazy(address) })
    }

    /// A bus within the process, without a router.
    ///
    /// # Errors
    /// [`Error::Thread`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn local(self) -> Result<Bus, Error> {
        Bus::new(async { Ok(self.options.local()) })
    }
}

impl Bus {
    #[track_caller]
    fn new(make: impl Future<Output = Result<crate::Bus, Error>>) -> Result<Self, Error> {
        let (bus, runtime) = Runtime::with_bus(make)?;
        Ok(Bus { bus, runtime })
    }

    /// Connects to a router, given as an [`Address`] or as text; see [`crate::Bus::connect`].
    ///
    /// # Errors
    /// Those of [`BusBuilder::connect`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn connect<A>(address: A) -> Result<Bus, Error>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        BusBuilder::default().connect(address)
    }

    /// Connects to the router of this user; see [`crate::Bus::connect_default`].
    ///
    /// # Errors
    /// Those of [`BusBuilder::connect`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn connect_default() -> Result<Bus, Error> {
        BusBuilder::default().connect_default()
    }

    /// A bus within this process, without a router.
    ///
    /// # Errors
    /// [`Error::Thread`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn local() -> Result<Bus, Error> {
        BusBuilder::default().local()
    }

    /// The async handle of this bus. It does not keep the bus alive. Calls that are made with it on another runtime are
    /// served as well.
    pub fn as_async(&self) -> &crate::Bus {
        &self.bus
    }

    /// Waits on this thread for a future, for example one of [`Bus::as_async`]. The thread of the bus drives the timers
    /// and tasks that the future makes.
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The items of a stream, for example one of [`Bus::as_async`].
    pub fn iterate<S: Stream + Unpin>(&self, stream: S) -> Items<S> {
        Items { stream, runtime: self.runtime.clone() }
    }

    /// A handle of the same bus with other options for what is registered and called with it:
    /// `bus.with(|bus| bus.serial().with_max_running(100))`.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&crate::Bus) -> crate::Bus) -> Bus {
        Bus { bus: change(&self.bus), runtime: self.runtime.clone() }
    }

    /// A handle that does not keep the bus alive.
    pub fn downgrade(&self) -> WeakBus {
        WeakBus { bus: self.bus.downgrade(), runtime: Arc::downgrade(&self.runtime) }
    }

    /// An address to call, with options such as a timeout.
    pub fn endpoint(&self, address: impl Into<String>) -> Endpoint {
        Endpoint { endpoint: self.bus.endpoint(address), runtime: self.runtime.clone() }
    }

    /// A service to send typed messages to.
    ///
    /// ```
    /// # fn main() -> Result<(), gsb_client::Error> {
    /// use gsb_client::Message;
    /// use gsb_client::blocking::Bus;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize, Message)]
    /// #[message(id = "double", item = f64, error = String)]
    /// struct Double(f64);
    ///
    /// let bus = Bus::local()?;
    /// let _math = bus.bind("/math", |Double(number)| Ok(2.0 * number))?;
    /// assert_eq!(bus.service("/math").call(Double(1.5))?, Ok(3.0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn service(&self, service_id: impl Into<String>) -> Service {
        Service { service: self.bus.service(service_id), runtime: self.runtime.clone() }
    }

    /// Calls a service and waits for its reply; see [`Endpoint::call`].
    ///
    /// # Errors
    /// Those of [`Endpoint::call`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn call(&self, address: &str, data: impl Into<Bytes>) -> Result<Bytes, Error> {
        self.block_on(self.bus.call(address, data))
    }

    /// Calls a service and returns its replies as they arrive; see [`Endpoint::stream`].
    ///
    /// # Errors
    /// Those of [`Endpoint::stream`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn stream(
        &self,
        address: &str,
        data: impl Into<Bytes>,
    ) -> Result<Items<ReplyStream>, Error> {
        Ok(self.iterate(self.block_on(self.bus.stream(address, data))?))
    }

    /// Calls a service without a reply; see [`Endpoint::push`].
    ///
    /// # Errors
    /// Those of [`Endpoint::push`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn push(&self, address: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        self.block_on(self.bus.push(address, data))
    }

    /// Waits until the router has taken all that this bus has sent so far; see [`crate::Bus::flush`].
    ///
    /// # Errors
    /// Those of [`crate::Bus::flush`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn flush(&self) -> Result<(), Error> {
        self.block_on(self.bus.flush())
    }

    /// Announces an event to all subscribers of the topic. Returns how many receive it; see [`crate::Bus::broadcast`].
    ///
    /// # Errors
    /// Those of [`crate::Bus::broadcast`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn broadcast(&self, topic: &str, data: impl Into<Bytes>) -> Result<Option<u32>, Error> {
        self.block_on(self.bus.broadcast(topic, data))
    }

    /// Subscribes to a topic or pattern; see [`crate::Bus::subscribe`].
    ///
    /// ```no_run
    /// # fn main() -> Result<(), gsb_client::Error> {
    /// # let bus = gsb_client::blocking::Bus::connect_default()?;
    /// for event in bus.subscribe("node/*/status")? {
    ///     match event {
    ///         Ok(event) => println!("{}: {:?}", event.topic, event.data),
    ///         Err(gap) => eprintln!("{gap}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`crate::Bus::subscribe`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn subscribe(&self, topic: &str) -> Result<Items<Subscription>, Error> {
        Ok(self.iterate(self.block_on(self.bus.subscribe(topic))?))
    }

    /// Registers a service that answers each call with one reply; see [`crate::Bus::register`].
    ///
    /// Each call runs on a thread where it may block, up to 512 at the same time; further calls wait for a thread. A
    /// handler is not interrupted when its caller has gone, but [learns](crate::CallContext::is_cancelled) of it. For more
    /// options see [`handler`](crate::blocking::handler). A handler that makes calls holds a [`WeakBus`]:
    ///
    /// ```
    /// # fn example(bus: gsb_client::blocking::Bus) -> Result<(), gsb_client::Error> {
    /// use gsb_client::Call;
    ///
    /// let weak = bus.downgrade();
    /// let _relay = bus.register("/relay", move |call: Call| {
    ///     let bus = weak.upgrade().ok_or("the bus has ended")?;
    ///     Ok(bus.call("/echo", call.data)?)
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`crate::Bus::register`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn register<F, B>(&self, service_id: &str, handler: F) -> Result<Registration, Error>
    where
        F: Fn(Call) -> Result<B, Failure> + Send + Sync + 'static,
        B: Into<Reply> + Send + 'static,
    {
        self.registered(self.bus.register(service_id, self::handler(handler)))
    }

    /// Registers a service that takes pushes only; see [`crate::Bus::register_push`] and [`Bus::register`]. Handlers run
    /// at the same time, in no particular order, unless the service is serial: `bus.with(|bus| bus.serial())`.
    ///
    /// # Errors
    /// Those of [`crate::Bus::register`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn register_push<F>(&self, service_id: &str, handler: F) -> Result<Registration, Error>
    where
        F: Fn(Call) + Send + Sync + 'static,
    {
        self.registered(self.bus.register_push(service_id, self::handler(handler)))
    }

    /// Serves a message; see [`crate::Bus::bind`] and [`Bus::register`].
    ///
    /// # Errors
    /// Those of [`crate::Bus::register`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn bind<M, F>(&self, service_id: &str, handler: F) -> Result<Registration, Error>
    where
        M: Message,
        F: Fn(M) -> Answer<M> + Send + Sync + 'static,
    {
        let handler = self::handler(move |call: Call<M>| handler(call.data));
        self.registered(self.bus.bind_call(service_id, handler))
    }

    #[track_caller]
    fn registered(&self, registering: Registering) -> Result<Registration, Error> {
        let registration = self.block_on(registering)?;
        Ok(Registration { registration, runtime: self.runtime.clone() })
    }

    /// Waits until the bus has ended; see [`crate::Bus::closed`]. A program that only serves calls waits here.
    ///
    /// # Errors
    /// Those of [`crate::Bus::closed`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn closed(&self) -> Result<(), Error> {
        self.block_on(self.bus.closed())
    }

    /// Ends the bus gracefully, for all handles; see [`crate::Bus::shutdown`].
    ///
    /// # Errors
    /// Those of [`crate::Bus::shutdown`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn shutdown(&self, timeout: Duration) -> Result<(), Error> {
        self.block_on(self.bus.shutdown(timeout))
    }
}

/// A registered service. Dropping it unregisters the service. Running calls go on.
#[derive(Debug)]
#[must_use = "dropping it unregisters the service, and so does `let _ =`: give it a name such as `_service`, or `detach` it"]
pub struct Registration {
    registration: crate::Registration,
    runtime: Arc<Runtime>,
}

impl Registration {
    /// The async handle, which has more about the service.
    pub fn as_async(&self) -> &crate::Registration {
        &self.registration
    }

    /// Unregisters the service, and waits for the router's answer. Running calls go on.
    ///
    /// # Errors
    /// Those of [`crate::Registration::unregister`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn unregister(self) -> Result<(), Error> {
        self.runtime.block_on(self.registration.unregister())
    }

    /// Keeps the service registered for as long as the bus lives.
    pub fn detach(self) {
        self.registration.detach();
    }
}

/// Turns a function that blocks into a handler for the async bus, for registrations with options:
///
/// ```
/// # fn main() -> Result<(), gsb_client::Error> {
/// use gsb_client::{Call, blocking};
///
/// let bus = blocking::Bus::local()?;
/// let work = blocking::handler(|call: Call| Ok(call.data));
/// let _worker = bus.block_on(bus.as_async().register("/work", work).shared().capacity(4))?;
/// assert_eq!(bus.call("/work", "data")?, "data");
/// # Ok(())
/// # }
/// ```
///
/// Each call runs on a thread of the runtime where it may block, and counts as running until it has ended: it is
/// [detached](crate::CallContext::detach), because a thread cannot be interrupted.
pub fn handler<T, R>(
    handler: impl Fn(Call<T>) -> R + Send + Sync + 'static,
) -> impl Fn(Call<T>) -> BoxFuture<'static, R> + Send + Sync + 'static
where
    T: Send + 'static,
    R: Send + 'static,
{
    let handler = Arc::new(handler);
    move |call| {
        let handler = handler.clone();
        call.detach();
        let answer = spawn_blocking(move || handler(call));
        // A panic goes on here, where it becomes the failure of the call.
        let panicked = |error: JoinError| {
            resume_unwind(error.try_into_panic().unwrap_or_else(|error| Box::new(error)))
        };
        answer.map(move |answer| answer.unwrap_or_else(panicked)).boxed()
    }
}
