//! Registering services, and what keeps them registered.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::{BoxFuture, try_join_all};
use gsb_proto::ServiceId;

use crate::bus::{Bus, Scope};
use crate::error::Error;
use crate::services::{Handler, ServiceEntry};
use crate::status::{Announcement, NameKind};

/// A handler, and the address that it is to serve.
pub(crate) struct Binding {
    pub(crate) address: String,
    pub(crate) handler: Handler,
    /// What takes messages of one type as they are, if anything does.
    pub(crate) typed: Option<Box<dyn Any + Send + Sync>>,
}

/// A registration that is being made: a future of `Result<Registration, Error>`. Nothing happens until it
/// is awaited; dropping it half way undoes the registration.
///
/// It does not mention the type of the handler. With an `async fn`, which does, the compiler would report a
/// wrongly typed handler three times.
#[must_use = "nothing is registered until this is awaited"]
pub struct Registering {
    registered: BoxFuture<'static, Result<Registration, Error>>,
}

impl Registering {
    /// A service with one address.
    pub(crate) fn one(bus: &Bus, binding: Binding) -> Self {
        Registering::all(bus, binding.address.clone(), vec![binding])
    }

    /// A service with any number of addresses: all of them are registered, or none. `service_id` is its name.
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
        let handling = bus.shared().handling().clone();
        let (scope, is_serial, limit) = (bus.scope(), bus.turn().is_some(), bus.max_running());
        let service = ServiceEntry::new(id, handler, typed, scope, is_serial, limit, handling);
        Ok(Arc::new(service))
    });
    let services = services.collect::<Result<Vec<_>, Error>>()?;
    // Made first: if one name is refused, or this future is dropped half way, all of it is undone.
    let registration = Registration { bus, service_id, services, is_active: true };
    let shared = registration.bus.shared();
    try_join_all(registration.services.iter().map(|service| shared.register(service))).await?;
    Ok(registration)
}

/// A registered service, with one address or several; dropping it unregisters all of them. Calls that are
/// being handled go on.
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
    /// The name under which the service is registered. For the messages of [`Bus::serve`] it is the name that
    /// they have in common.
    pub fn service_id(&self) -> &str {
        &self.service_id
    }

    /// Whether the router knows of the service. Within this process it is served in any case. If there are
    /// several addresses, this is the state of the one that needs attention most: refused before given back,
    /// pending and confirmed.
    pub fn announcement(&self) -> Announcement {
        let announcements = self.services.iter().map(|service| match service.scope {
            Scope::InProcess => Announcement::InProcess,
            Scope::Everywhere => {
                self.bus.shared().announcement(NameKind::Service, service.id.as_str())
            }
        });
        announcements.max_by_key(urgency).unwrap_or(Announcement::InProcess)
    }

    /// How many pushes from other processes were dropped since the service is registered, because as many
    /// calls as [`max_running`](crate::BusBuilder::max_running) allows were running, or calls held as many
    /// bytes as [`max_running_bytes`](crate::BusBuilder::max_running_bytes) allows. Those who have sent them
    /// do not learn of it; a push from this process fails with [`Error::Busy`] instead.
    pub fn dropped_pushes(&self) -> u64 {
        self.services.iter().map(|service| service.dropped_pushes()).sum()
    }

    /// Gives the names back and waits until the router has confirmed it, if it has to be told. Calls
    /// that are being handled go on.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::ConnectionLost`].
    pub async fn unregister(mut self) -> Result<(), Error> {
        self.is_active = false;
        let confirmed: Vec<_> = self.unregister_now().collect();
        try_join_all(confirmed).await?;
        Ok(())
    }

    /// Leaves the service registered for as long as the bus lives.
    pub fn detach(mut self) {
        self.is_active = false;
    }

    /// Gives a name back with each item; the item only waits for the router.
    fn unregister_now(&self) -> impl Iterator<Item = impl Future<Output = Result<(), Error>>> {
        self.services.iter().map(|service| self.bus.shared().unregister(service))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.is_active {
            // Nobody waits for the router to confirm it.
            self.unregister_now().for_each(drop);
        }
    }
}

/// Which of several announcements tells most about a service.
fn urgency(announcement: &Announcement) -> u8 {
    match announcement {
        Announcement::InProcess => 0,
        Announcement::Confirmed => 1,
        Announcement::Pending => 2,
        Announcement::Ended => 3,
        Announcement::Refused(_) => 4,
    }
}
