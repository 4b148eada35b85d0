//! Registering services, and the handle that keeps them registered.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{BoxFuture, try_join_all};
use futures::{FutureExt as _, Stream, StreamExt as _};
use gsb_proto::ServiceId;

use crate::api::bus::Bus;
use crate::call::Call;
use crate::engine::scope::Scope;
use crate::engine::service_entry::{Handler, PushFn, ReplyFn, ServiceEntry, StreamFn};
use crate::error::Error;
use crate::failure::Failure;
use crate::status::{Announcement, NameKind};

impl Bus {
    /// Registers a service that answers each call with one reply.
    ///
    /// Its name is a list of segments with `/` between them, by convention with a leading `/`: up to 1024 bytes of text
    /// without white space and control characters. The reply is any value that converts into [`Bytes`]. Errors and
    /// texts become a [`Failure`] with `?` and `.into()`.
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
    /// A call from another process is handled in a task of its own. When the connection is lost, the handler goes on,
    /// but a stream ends at its next item. A call from this process is handled as a part of the caller's future: if the
    /// caller is dropped, for example by a timeout, its handler is dropped where it waits. Use `tokio::spawn` for work
    /// that has to be finished.
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
    /// [`BusBuilder::reconnect`](crate::BusBuilder::reconnect) sets others. Thus a second program that serves the same
    /// name over a lazy bus is a standby, which takes over when the first one stops. See also
    /// [`Registration::announcement`] and [`Bus::watch`].
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
    /// If a caller in this process drops its [`ReplyStream`](crate::ReplyStream), the stream of the handler is dropped, too. A caller
    /// behind a router has no such effect: the stream runs to its end, or until the connection to the router is lost,
    /// and counts as a running call until then.
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
/// Its type does not contain the type of the handler, so that the compiler reports a wrongly typed handler once and not
/// three times, as it does for an `async fn`.
#[must_use = "nothing is registered until this is awaited"]
pub struct Registering {
    registered: BoxFuture<'static, Result<Registration, Error>>,
}

impl Registering {
    /// A service with one address.
    pub(crate) fn one(bus: &Bus, binding: Binding) -> Self {
        Registering::all(bus, binding.address.clone(), vec![binding])
    }

    /// A service with several addresses, named `service_id`: all of them are registered, or none.
    pub(crate) fn all(bus: &Bus, service_id: String, bindings: Vec<Binding>) -> Self {
        Registering { registered: register(bus.clone(), service_id, bindings).boxed() }
    }
}

impl Future for Registering {
    type Output = Result<Registration, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.registered.poll_unpin(cx)
    }
}

impl fmt::Debug for Registering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registering").finish_non_exhaustive()
    }
}

async fn register(
    bus: Bus,
    service_id: String,
    bindings: Vec<Binding>,
) -> Result<Registration, Error> {
    let services = bindings.into_iter().map(|Binding { address, handler, typed }| {
        let id = ServiceId::new(&address)?;
        let running_calls = bus.engine().running_calls().clone();
        let (scope, is_serial, limit) = (bus.scope(), bus.turn().is_some(), bus.max_running());
        let service = ServiceEntry::new(id, handler, typed, scope, is_serial, limit, running_calls);
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
