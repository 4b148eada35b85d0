//! Registering services, and the handle that keeps them registered.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, try_join_all};
use futures::{FutureExt as _, Stream, StreamExt as _};
use gsb_proto::ServiceId;
use gsb_proto::messages::RegisterMode;

use crate::api::bus::Bus;
use crate::call::Call;
use crate::engine::scope::Scope;
use crate::engine::service_entry::{Handler, PushFn, ReplyFn, ServiceEntry, StreamFn};
use crate::engine::terms::Terms;
use crate::error::Error;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::status::{Announcement, NameKind};

impl Bus {
    /// Registers a service that answers each call with one reply.
    ///
    /// Its name is a list of segments with `/` between them, by convention with a leading `/`: up to 1024 bytes of text
    /// without white space and control characters. The reply is any value that converts into [`Bytes`](crate::Bytes),
    /// or a [`Reply`] with headers. Errors and texts become a [`Failure`] with `?` and `.into()`.
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
    /// # Order
    ///
    /// Calls are handled concurrently, up to [`BusBuilder::max_running`](crate::BusBuilder::max_running), and begin in
    /// no particular order. Pushes are handled concurrently as well, but begin in the order in which they arrive: a
    /// handler runs up to its first wait before the handler of the next push begins, across all services of this bus.
    /// A handler of pushes should therefore not compute for long or block its thread. (Pushes within this process that
    /// are made on several runtimes are ordered per runtime.) A [serial](Bus::serial) service handles one call or push
    /// after the other.
    ///
    /// # Where a handler runs
    ///
    /// A call from another process is handled in a task of its own, a call from this process as a part of the caller's
    /// future. A call is cancelled when its caller is dropped, also by a timeout or the end of its process, or when the
    /// connection is lost. Then the future of the handler is dropped where it waits. Use
    /// [`Call::detach`](crate::CallContext::detach) or `tokio::spawn` for work that has to be finished. The handler of a
    /// push is dropped only by a [shutdown](Bus::shutdown).
    ///
    /// The caller of a handler that fails or panics gets a failure. A handler that makes calls should hold a
    /// [`WeakBus`](crate::WeakBus).
    ///
    /// # The router
    ///
    /// This waits until the router has confirmed the name. Without a connection it does not wait: callers in this
    /// process find the service at once, and the router is told when there is a connection. If the router refuses the
    /// name then, or after a reconnect, a warning is logged, [`Status::is_serving`](crate::Status::is_serving) is
    /// false, and the router is asked again after growing pauses, of up to 30 seconds unless
    /// [`BusBuilder::reconnect`](crate::BusBuilder::reconnect) sets others. See also [`Registration::announcement`] and
    /// [`Bus::watch`]. A name has one owner, unless all of its owners register it as [shared](Registering::shared) or as
    /// [standby](Registering::standby).
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::AlreadyRegistered`], [`Error::NameRefused`] if the router refuses it,
    /// [`Error::TooLarge`], [`Error::Timeout`], [`Error::ShutDown`], [`Error::ConnectionLost`].
    pub fn register<F, R, B>(&self, service_id: &str, handler: F) -> Registering
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<B, Failure>> + Send + 'static,
        B: Into<Reply>,
    {
        let handler = move |call| handler(call).map(|reply| reply.map(Into::into)).boxed();
        let handler: ReplyFn = match self.turn().cloned() {
            None => Box::new(handler),
            Some(turn) => Box::new(turn.wrap(handler)),
        };
        self.register_handler(service_id, Handler::Reply(handler))
    }

    /// Registers a service that answers each call with a stream of replies. A failure ends the stream.
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
    /// When the caller drops its [`ReplyStream`](crate::ReplyStream), or its process ends, the stream of the handler is
    /// dropped, too, unless it is [detached](crate::CallContext::detach).
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn register_stream<F, S, B>(&self, service_id: &str, handler: F) -> Registering
    where
        F: Fn(Call) -> S + Send + Sync + 'static,
        S: Stream<Item = Result<B, Failure>> + Send + 'static,
        B: Into<Reply>,
    {
        let handler = move |call| handler(call).map(|reply| reply.map(Into::into)).boxed();
        let handler: StreamFn = match self.turn().cloned() {
            None => Box::new(handler),
            Some(turn) => Box::new(turn.wrap_stream(handler)),
        };
        self.register_handler(service_id, Handler::Stream(handler))
    }

    /// Registers a service that takes pushes only. A call, which wants a reply, is refused.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn register_push<F, R>(&self, service_id: &str, handler: F) -> Registering
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let handler = move |call| handler(call).boxed();
        let handler: PushFn = match self.turn().cloned() {
            None => Box::new(handler),
            Some(turn) => Box::new(turn.wrap(handler)),
        };
        self.register_handler(service_id, Handler::Push(handler))
    }

    fn register_handler(&self, service_id: &str, handler: Handler) -> Registering {
        let address = service_id.to_owned();
        Registering::one(self, Binding { address, handler, typed: None })
    }
}

/// A handler, and the address that it serves.
pub(crate) struct Binding {
    pub(crate) address: String,
    pub(crate) handler: Handler,
    /// The handler of messages of one type, which takes them without encoding.
    pub(crate) typed: Option<Box<dyn Any + Send + Sync>>,
}

/// A registration in progress: a future of `Result<Registration, Error>`. It does nothing until it is awaited. Dropping
/// it before its end undoes the registration.
///
/// Its methods set who else may register the name, and how many calls the service takes at a time. Call them before it is
/// awaited. They hold for all messages of [`Bus::serve`].
///
/// Its type does not contain the type of the handler, so that the compiler reports a wrongly typed handler once and not
/// three times, as it does for an `async fn`.
#[must_use = "nothing is registered until this is awaited"]
pub struct Registering {
    /// Taken when it is first polled.
    plan: Option<Plan>,
    registered: Option<BoxFuture<'static, Result<Registration, Error>>>,
}

/// What is to be registered.
struct Plan {
    bus: Bus,
    service_id: String,
    bindings: Vec<Binding>,
    terms: Terms,
    takes_uploads: bool,
}

impl Registering {
    /// A service with one address.
    pub(crate) fn one(bus: &Bus, binding: Binding) -> Self {
        Registering::all(bus, binding.address.clone(), vec![binding])
    }

    /// A service with several addresses, named `service_id`: all of them are registered, or none.
    pub(crate) fn all(bus: &Bus, service_id: String, bindings: Vec<Binding>) -> Self {
        let (bus, terms) = (bus.clone(), Terms::default());
        let plan = Plan { bus, service_id, bindings, terms, takes_uploads: false };
        Registering { plan: Some(plan), registered: None }
    }

    /// Shares the name with other programs that register it as shared, too: a pool of workers. The router gives each call
    /// to the one with the fewest open calls, in turn among equals. When all are full (see
    /// [`capacity`](Registering::capacity)) a call is [`Error::Busy`]. When a worker goes, only its own calls end.
    ///
    /// Calls from this process are handled here while the service has room, and otherwise by the other workers.
    /// [`Endpoint::affinity`](crate::Endpoint::affinity) sends related calls to the same worker.
    ///
    /// A process registers a name once. Where there is no router, in [`Bus::local`] and for [`Bus::in_process`], it may
    /// register the name several times, and the calls are shared in the same way.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), gsb_client::Error> {
    /// use gsb_client::{Bus, Call};
    ///
    /// let bus = Bus::local();
    /// let _one = bus.register("/worker", |_: Call| async { Ok("one") }).shared().await?;
    /// let _two = bus.register("/worker", |_: Call| async { Ok("two") }).shared().await?;
    /// assert_eq!(bus.call("/worker", "").await?, "one");
    /// assert_eq!(bus.call("/worker", "").await?, "two");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::AlreadyRegistered`] if a program has registered the name in another mode; [`Error::Unsupported`] if the
    /// router does not know shared names (level 0 of the protocol).
    pub fn shared(self) -> Self {
        self.mode(RegisterMode::Shared)
    }

    /// Makes the service a hot standby: other programs may register the name as standby, too. The service that registered
    /// first gets all calls. When it unregisters or its connection ends, the next one takes over at once, without a call in
    /// between that finds no service.
    ///
    /// Calls from this process go through the router, too, since the active service may be in another process. For a
    /// standby the router confirms the name, so [`Status::is_serving`](crate::Status::is_serving) is true.
    ///
    /// A process registers a name once, except where there is no router; see [`shared`](Registering::shared).
    ///
    /// # Errors
    /// Those of [`shared`](Registering::shared).
    pub fn standby(self) -> Self {
        self.mode(RegisterMode::Standby)
    }

    /// How many calls the service takes at a time, in any mode, in addition to
    /// [`BusBuilder::max_running`](crate::BusBuilder::max_running). The router gives it no more, and calls beyond the
    /// capacity are [`Error::Busy`]; those to a [shared](Registering::shared) name go to another worker first. 0, the
    /// default, sets no limit.
    ///
    /// The service itself keeps to it, too: a router of level 0 ignores the capacity, and the service refuses the calls.
    pub fn capacity(mut self, calls: u32) -> Self {
        if let Some(plan) = &mut self.plan {
            plan.terms.capacity = calls;
        }
        self
    }

    /// Lets the handlers take the body of a request.
    pub(crate) fn takes_uploads(mut self) -> Self {
        if let Some(plan) = &mut self.plan {
            plan.takes_uploads = true;
        }
        self
    }

    fn mode(mut self, mode: RegisterMode) -> Self {
        if let Some(plan) = &mut self.plan {
            plan.terms.mode = mode;
        }
        self
    }
}

impl Future for Registering {
    type Output = Result<Registration, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(plan) = self.plan.take() {
            self.registered = Some(register(plan).boxed());
        }
        match &mut self.registered {
            Some(registered) => registered.poll_unpin(cx),
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for Registering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registering").finish_non_exhaustive()
    }
}

async fn register(plan: Plan) -> Result<Registration, Error> {
    let Plan { bus, service_id, bindings, terms, takes_uploads } = plan;
    let services = bindings.into_iter().map(|Binding { address, handler, typed }| {
        let id = ServiceId::new(&address)?;
        let handler = if cfg!(feature = "tracing") { handler.in_spans() } else { handler };
        let running_calls = bus.engine().running_calls().clone();
        let (scope, is_serial, limit) = (bus.scope(), bus.turn().is_some(), bus.max_running());
        let mut service =
            ServiceEntry::new(id, handler, typed, scope, terms, is_serial, limit, running_calls);
        if takes_uploads {
            service.allow_uploads();
        }
        Ok(Arc::new(service))
    });
    let services = services.collect::<Result<Vec<_>, Error>>()?;
    // Made first. Dropping it undoes all of it, if a name is refused or this future is dropped.
    let registration = Registration { bus, service_id, services, is_active: true };
    let engine = registration.bus.engine();
    try_join_all(registration.services.iter().map(|service| engine.register(service))).await?;
    Ok(registration)
}

/// A registered service, with one address or several. Dropping it unregisters the service. Running calls go on.
#[derive(Debug)]
#[must_use = "dropping it unregisters the service, and so does `let _ =`: give it a name such as `_service`, or `detach` it"]
pub struct Registration {
    bus: Bus,
    service_id: String,
    services: Vec<Arc<ServiceEntry>>,
    /// Whether dropping it unregisters the service.
    is_active: bool,
}

impl Registration {
    /// The name of the service. For [`Bus::serve`] it is the part that the addresses of all its messages share.
    pub fn service_id(&self) -> &str {
        &self.service_id
    }

    /// Whether the router knows the service. Callers in this process find it in any case. If there are several
    /// addresses, this is the state of the one that needs the most attention: refused before ended, pending and
    /// confirmed.
    pub fn announcement(&self) -> Announcement {
        let announcements = self.services.iter().map(|service| match service.scope {
            Scope::InProcess => Announcement::InProcess,
            Scope::Everywhere => {
                self.bus.engine().announcement(NameKind::Service, service.id.as_str())
            }
        });
        announcements.max_by_key(urgency).unwrap_or(Announcement::InProcess)
    }

    /// How many pushes from other processes were dropped since the service was registered, because of the limits
    /// [`max_running`](crate::BusBuilder::max_running) and
    /// [`max_running_bytes`](crate::BusBuilder::max_running_bytes). Their senders are not told. A push from this
    /// process fails with [`Error::Busy`] instead.
    pub fn dropped_pushes(&self) -> u64 {
        self.services.iter().map(|service| service.dropped_pushes()).sum()
    }

    /// Unregisters the service, and waits for the router's answer. Running calls go on.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::ConnectionLost`].
    pub async fn unregister(mut self) -> Result<(), Error> {
        self.is_active = false;
        let engine = self.bus.engine();
        let services = self.services.iter();
        let confirmed: Vec<_> = services.map(|service| engine.unregister(service)).collect();
        try_join_all(confirmed).await?;
        Ok(())
    }

    /// Keeps the service registered for as long as the bus lives.
    pub fn detach(mut self) {
        self.is_active = false;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.is_active {
            for service in &self.services {
                self.bus.engine().unregister_in_destructor(service);
            }
        }
    }
}

/// How much attention an announcement needs.
fn urgency(announcement: &Announcement) -> u8 {
    match announcement {
        Announcement::InProcess => 0,
        Announcement::Confirmed => 1,
        Announcement::Pending => 2,
        Announcement::Ended => 3,
        Announcement::Refused(_) => 4,
    }
}
