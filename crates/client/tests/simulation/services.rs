//! The services of a run. A handler finds its order by the number in the payload, so that no payload occurs twice, and
//! each side knows the outcome to expect.

use std::panic::resume_unwind;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, Stream, stream};
use gsb_client::{Bus, Call, Error, Failure, Registration, WeakBus};

use crate::calls::perform;
use crate::order::{End, Mode, Order, item, reply};
use crate::world::{Kind, ServiceFacts, World, kind_of, pause, serves};

/// A service that is registered, or is being registered. Dropping it unregisters the service.
pub(crate) struct Served {
    registration: Registration,
    guard: ServiceGuard,
}

struct ServiceGuard {
    world: Arc<World>,
    service: usize,
}

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        let now = self.world.now();
        self.world.facts().services[self.service].gone.get_or_insert(now);
    }
}

impl Served {
    pub(crate) async fn register(
        world: &Arc<World>,
        owner: usize,
        bus: &Bus,
        name: &str,
        kind: Kind,
        in_process: bool,
    ) -> Result<Served, Error> {
        let service = {
            let mut facts = world.facts();
            let name = name.to_owned();
            facts.services.push(ServiceFacts { owner, name, kind, in_process, gone: None });
            facts.services.len() - 1
        };
        let guard = ServiceGuard { world: world.clone(), service };
        let weak = bus.downgrade();
        let bus = if in_process { bus.in_process() } else { bus.clone() };
        let handler = Arc::new(Handler { kept: Witness::new(world), service, bus: weak });
        let registered = match kind {
            Kind::Reply => bus.register(name, move |call| handler.begin(&call).answer()).await,
            Kind::Stream => {
                bus.register_stream(name, move |call| handler.begin(&call).answers()).await
            }
            Kind::Push => bus.register_push(name, move |call| handler.begin(&call).take()).await,
        };
        let said = match &registered {
            Ok(registration) => format!("{:?}", registration.announcement()),
            Err(error) => {
                world.reach(format_args!("register: {}", kind_of(error)));
                error.to_string()
            }
        };
        world.log(format_args!("client {owner}: service {service} {kind:?} at {name}: {said}"));
        Ok(Served { registration: registered?, guard })
    }

    pub(crate) fn service(&self) -> usize {
        self.guard.service
    }

    pub(crate) fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Detaches the service at the end of the run, when there are no calls.
    pub(crate) fn detach(self) {
        self.registration.detach();
    }

    pub(crate) async fn unregister(self) -> Result<(), Error> {
        // It is unregistered from now on, whether the router has confirmed that or not.
        drop(self.guard);
        self.registration.unregister().await
    }
}

/// Records when its last owner has dropped it.
struct Witness {
    world: Arc<World>,
}

impl Witness {
    fn new(world: &Arc<World>) -> Self {
        world.facts().witnesses += 1;
        Witness { world: world.clone() }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.world.facts().witnesses -= 1;
    }
}

struct Handler {
    kept: Witness,
    service: usize,
    bus: WeakBus,
}

impl Drop for Handler {
    /// A bus may drop a handler anywhere, and the destructor may use the bus.
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            drop(bus.in_process().subscribe("left").now_or_never());
        }
    }
}

/// A call that is being handled.
struct Handling {
    kept: Witness,
    service: usize,
    owner: usize,
    bus: WeakBus,
    order: Order,
    payload: String,
}

impl Handler {
    /// Records that a call was received.
    fn begin(&self, call: &Call) -> Handling {
        let world = &self.kept.world;
        let payload = String::from_utf8_lossy(&call.data).into_owned();
        let number = payload.split(':').next().and_then(|number| number.parse::<usize>().ok());
        let mut facts = world.facts();
        let service = facts.services[self.service].clone();
        let order = number.and_then(|number| facts.orders.get_mut(number)).map(|order| {
            order.seen.push(self.service);
            order.clone()
        });
        drop(facts);
        let id = number.unwrap_or(usize::MAX);
        world.log(format_args!("call {id}: service {} has it", self.service));
        let order = order.unwrap_or_else(|| {
            world.problem(format_args!(
                "service {} received a call that was not sent",
                self.service
            ));
            Order::new(Mode::Call, "")
        });
        let problem = |line: &str| world.problem(format_args!("call {id}: {line}"));
        if payload != order.payload(id) || call.address != order.address {
            problem("it did not arrive as it was sent");
        }
        if order.seen.len() > 1 {
            problem("it was handled twice");
        }
        if call.wants_reply() == (order.mode == Mode::Push) {
            problem("whether a reply is wanted was not passed on");
        }
        if !serves(&service.name, &order.address) {
            problem("it came to a service of another name");
        }
        if (service.in_process || order.in_process) && service.owner != order.caller {
            problem("it has left its process");
        }
        if service.gone.is_some_and(|gone| order.started > gone) {
            problem("it came to a service that was unregistered before");
        }
        Handling {
            kept: Witness::new(world),
            service: self.service,
            owner: service.owner,
            bus: self.bus.clone(),
            order,
            payload,
        }
    }
}

impl Handling {
    async fn think(&self) {
        pause(self.order.delay).await;
        if let Some(nested) = self.order.nested
            && let Some(bus) = self.bus.upgrade()
        {
            perform(self.kept.world.clone(), self.owner, bus, nested).await;
        }
    }

    fn end(&self) -> Result<(), Failure> {
        match self.order.end {
            End::Good => Ok(()),
            End::Fail => Err(Failure::new(format!("failed {}", self.payload))),
            End::Refuse => Err(Failure::bad_request(format!("refused {}", self.payload))),
            // Panics without a message on standard error.
            End::Panic => resume_unwind(Box::new("a handler that panics")),
        }
    }

    async fn answer(self) -> Result<Bytes, Failure> {
        self.think().await;
        self.end()?;
        Ok(reply(self.service, &self.payload).into())
    }

    fn answers(self) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
        stream::unfold((self, 0), |(handling, made)| async move {
            handling.think_of(made).await;
            if made < handling.order.items {
                let item = item(handling.service, &handling.payload, made);
                return Some((Ok(item.into()), (handling, made + 1)));
            }
            let failure = handling.end().err().filter(|_| made == handling.order.items)?;
            Some((Err(failure), (handling, made + 1)))
        })
    }

    async fn think_of(&self, made: usize) {
        match made {
            0 => self.think().await,
            _ => pause(self.order.delay).await,
        }
    }

    async fn take(self) {
        self.think().await;
        let _ = self.end();
    }
}
