//! Services and calls. What a handler does with a call was decided when the call was made up: it looks
//! the order up by the number in the payload. So no payload is there twice, and everybody knows what
//! must come of it.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use gsb_client::{Bus, Call, Endpoint, Error, Failure, LostReason, Registration, WeakBus};

use crate::world::{Kind, Millis, SLACK, ServiceFacts, World, kind_of, millis, pause, serves};

/// How long anything that has no timeout of its own may take: it waits for handlers and for room.
const LONGEST: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Call,
    Stream,
    Push,
}

/// How a handler ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Good,
    Fail,
    Refuse,
    Panic,
}

/// A call, with all that is to be done about it and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) address: String,
    pub(crate) mode: Mode,
    pub(crate) in_process: bool,
    /// How much there is in the payload besides the number.
    pub(crate) padding: usize,
    pub(crate) timeout: Option<Millis>,
    pub(crate) wait_for_router: Millis,

    /// How long the handler thinks, and how long between items.
    pub(crate) delay: Millis,
    /// How many items a stream has.
    pub(crate) items: usize,
    pub(crate) end: End,
    /// Another order that the handler carries out first.
    pub(crate) nested: Option<usize>,

    /// How long the caller pauses after each item.
    pub(crate) pause: Millis,
    /// How many items the caller wants; it drops the stream then.
    pub(crate) wanted: usize,

    /// The client that calls, and when.
    pub(crate) caller: usize,
    pub(crate) started: Millis,
    /// The services that got it, which is one at most.
    pub(crate) seen: Vec<usize>,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Good,
    Failed(Error),
    Dropped,
}

impl Order {
    pub(crate) fn new(mode: Mode, address: &str) -> Self {
        Order {
            address: address.to_owned(),
            mode,
            in_process: false,
            padding: 0,
            timeout: Some(10_000),
            wait_for_router: 0,
            delay: 0,
            items: 2,
            end: End::Good,
            nested: None,
            pause: 0,
            wanted: usize::MAX,
            caller: usize::MAX,
            started: 0,
            seen: Vec::new(),
            outcome: None,
        }
    }

    fn payload(&self, id: usize) -> String {
        format!("{id}:{}", "x".repeat(self.padding))
    }
}

/// A service that is registered, or about to be. Dropping it takes it back.
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

    /// Leaves the service to the bus, which nobody calls any more.
    pub(crate) fn detach(self) {
        self.registration.detach();
    }

    pub(crate) async fn unregister(self) -> Result<(), Error> {
        // It is gone from here on, whether the router has said so or not.
        drop(self.guard);
        self.registration.unregister().await
    }
}

/// Tells when nobody keeps it any more.
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
    /// A handler may be dropped wherever a bus lets go of it, and may use the bus then.
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
    /// A call has come.
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
            world.problem(format_args!("nobody has sent what service {} got", self.service));
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
            // As a panic, but without a word on the standard error.
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

/// How much padding in a payload asks for replies that are larger than what some routers accept.
pub(crate) const LONG_REPLIES: usize = 10;

fn reply(service: usize, payload: &str) -> String {
    format!("{service} answers {payload}{}", more(payload))
}

fn item(service: usize, payload: &str, made: usize) -> String {
    format!("{service} answers {payload} for the time {made}{}", more(payload))
}

fn more(payload: &str) -> String {
    let padding = payload.bytes().rev().take_while(|&byte| byte == b'x').count();
    if padding == LONG_REPLIES { "y".repeat(3000) } else { String::new() }
}

/// Notes that a call was dropped if nothing else came of it.
struct Ending {
    world: Arc<World>,
    id: usize,
}

impl Ending {
    fn set(&self, outcome: Outcome) {
        let said = match &outcome {
            Outcome::Failed(error) => error.to_string(),
            outcome => format!("{outcome:?}"),
        };
        self.world.log(format_args!("call {}: {said}", self.id));
        let kind = match &outcome {
            Outcome::Failed(error) => kind_of(error),
            Outcome::Good => "good",
            Outcome::Dropped => "dropped",
        };
        let mode = self.world.facts().orders[self.id].mode;
        self.world.reach(format_args!("{mode:?}: {kind}"));
        let before = self.world.facts().orders[self.id].outcome.replace(outcome);
        if before.is_some() {
            self.world.problem(format_args!("call {}: ended twice", self.id));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let has_ended = self.world.facts().orders[self.id].outcome.is_some();
        if !has_ended {
            self.set(Outcome::Dropped);
        }
    }
}

/// Carries out an order and looks at what comes of it.
pub(crate) fn perform(
    world: Arc<World>,
    caller: usize,
    bus: Bus,
    id: usize,
) -> BoxFuture<'static, ()> {
    async move {
        let started = world.now();
        let order = {
            let mut facts = world.facts();
            let order = &mut facts.orders[id];
            (order.caller, order.started) = (caller, started);
            order.clone()
        };
        let bus = if order.in_process { bus.in_process() } else { bus };
        let endpoint = bus.endpoint(order.address.as_str());
        let endpoint = endpoint.timeout(order.timeout.map(Duration::from_millis));
        let patience = Duration::from_millis(order.wait_for_router);
        let endpoint = endpoint.wait_for_router(patience);
        drop(bus);
        let ending = Ending { world: world.clone(), id };
        let caller = Caller { world, id, order, started };
        match caller.order.mode {
            Mode::Call => caller.call(endpoint, &ending).await,
            Mode::Stream => caller.stream(endpoint, &ending).await,
            Mode::Push => caller.push(endpoint, &ending).await,
        }
    }
    .boxed()
}

struct Caller {
    world: Arc<World>,
    id: usize,
    order: Order,
    /// When it began to wait for what it waits for now.
    started: Millis,
}

impl Caller {
    fn problem(&self, line: &str) {
        self.world.problem(format_args!("call {}: {line}", self.id));
    }

    fn expect(&self, is_so: bool, line: &str) {
        if !is_so {
            self.problem(line);
        }
    }

    /// Waits for what must end.
    async fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let result = tokio::time::timeout(LONGEST, future).await.ok();
        self.expect(result.is_some(), "it never ends");
        let after = self.world.now() - self.started;
        if let (Some(timeout), true) = (self.order.timeout, self.order.mode != Mode::Push) {
            self.expect(after <= timeout + SLACK, "it has taken longer than its timeout");
        }
        result
    }

    /// Who got it: there must be somebody.
    fn seen(&self) -> Option<(usize, Kind)> {
        let facts = self.world.facts();
        let service = facts.orders[self.id].seen.first().copied();
        let seen = service.map(|service| (service, facts.services[service].kind));
        drop(facts);
        self.expect(seen.is_some(), "something came of it, but nobody has got it");
        seen
    }

    async fn call(&self, endpoint: Endpoint, ending: &Ending) {
        let payload = self.order.payload(self.id);
        let Some(result) = self.wait(endpoint.call(payload.clone())).await else {
            return;
        };
        match result {
            Ok(data) => {
                let is_right = match self.seen() {
                    Some((service, Kind::Reply)) => data == reply(service, &payload),
                    Some((_, Kind::Stream)) => data.is_empty() && self.order.items == 0,
                    _ => false,
                };
                self.expect(is_right, &format!("the wrong reply: {data:?}"));
                self.expect(self.order.end == End::Good, "a reply from where there was none");
                ending.set(Outcome::Good);
            }
            Err(error) => self.failed(error, ending),
        }
    }

    async fn push(&self, endpoint: Endpoint, ending: &Ending) {
        match self.wait(endpoint.push(self.order.payload(self.id))).await {
            Some(Ok(())) => ending.set(Outcome::Good),
            Some(Err(error)) => {
                let is_known = is_unsent(&error);
                self.expect(is_known, &format!("a push must not end so: {error}"));
                self.failed(error, ending);
            }
            None => {}
        }
    }

    async fn stream(mut self, endpoint: Endpoint, ending: &Ending) {
        let payload = self.order.payload(self.id);
        let mut replies = match self.wait(endpoint.stream(payload.clone())).await {
            Some(Ok(replies)) => replies,
            Some(Err(error)) => return self.failed(error, ending),
            None => return,
        };
        drop(endpoint);
        for made in 0.. {
            if made == self.order.wanted {
                return;
            }
            self.started = self.world.now();
            let Some(next) = self.wait(replies.next()).await else {
                return;
            };
            match next {
                Some(Ok(data)) => {
                    let is_right = match self.seen() {
                        Some((service, Kind::Stream)) => data == item(service, &payload, made),
                        Some((service, Kind::Reply)) => {
                            made == 0 && data == reply(service, &payload)
                        }
                        _ => false,
                    };
                    self.expect(is_right, &format!("the wrong item {made}: {data:?}"));
                    pause(self.order.pause).await;
                }
                Some(Err(error)) => {
                    self.failed(error, ending);
                    break;
                }
                None => {
                    let is_complete = match self.seen() {
                        Some((_, Kind::Stream)) => made == self.order.items,
                        Some((_, Kind::Reply)) => made == 1,
                        _ => false,
                    };
                    self.expect(is_complete, &format!("it has ended after {made} items"));
                    self.expect(self.order.end == End::Good, "it has ended as if all was well");
                    ending.set(Outcome::Good);
                    break;
                }
            }
        }
        let after = replies.next().now_or_never();
        self.expect(matches!(after, Some(None)), "it goes on after its end");
    }

    fn failed(&self, error: Error, ending: &Ending) {
        let payload = self.order.payload(self.id);
        match &error {
            Error::Timeout { after, .. } => {
                let after = millis(*after);
                self.expect(self.order.timeout == Some(after), "not the timeout that was set");
                let waited = self.world.now() - self.started;
                self.expect(waited + 1 >= after, "it has timed out too early");
            }
            Error::ServiceFailure { message, .. } if message.starts_with("failed") => {
                let is_right = *message == format!("failed {payload}");
                self.expect(is_right && self.order.end == End::Fail, "the wrong failure");
                self.seen();
            }
            Error::ServiceFailure { message, .. } if message.contains("panicked") => {
                self.expect(self.order.end == End::Panic, "nobody has panicked");
                self.seen();
            }
            Error::ServiceFailure { message, .. } if message.contains("does not fit") => {
                self.expect(self.order.padding == LONG_REPLIES, "it would have fit");
                self.seen();
                self.world.reach("a reply does not fit");
            }
            Error::ServiceFailure { .. } => {}
            Error::TooLarge { .. } => {
                self.expect(self.order.padding > 1000, "a small message was too large");
            }
            Error::BadRequest { message, .. } if message.starts_with("refused") => {
                let is_right = *message == format!("refused {payload}");
                self.expect(is_right && self.order.end == End::Refuse, "the wrong refusal");
                self.seen();
            }
            Error::BadRequest { message, .. } => {
                self.expect(message.contains("only takes pushes"), "an unexpected refusal");
            }
            Error::IsStream { .. } => {
                let is_right = matches!(self.seen(), Some((_, Kind::Stream)));
                self.expect(is_right && self.order.items > 0, "it is no stream");
                self.expect(self.order.mode == Mode::Call, "a stream was wanted");
            }
            Error::Overflow { .. } => {
                self.expect(self.order.mode == Mode::Stream, "no stream can overflow");
            }
            Error::ConnectionLost(_) => {}
            error if is_unsent(error) => {}
            error => self.problem(&format!("an unexpected error: {error}")),
        }
        ending.set(Outcome::Failed(error));
    }
}

/// Whether an error says that nobody has got the request.
pub(crate) fn is_unsent(error: &Error) -> bool {
    matches!(
        error,
        Error::NotSent(_)
            | Error::ShutDown
            | Error::NoSuchService { .. }
            | Error::Busy { .. }
            | Error::TooLarge { .. }
    )
}

/// Whether an error comes of the loss of a connection: the caller's, or the service's.
fn is_disturbance(error: &Error) -> bool {
    match error {
        // Its time was up before there was room.
        Error::NotSent(LostReason::NothingTaken(_)) => false,
        Error::NotSent(_) | Error::ShutDown | Error::ConnectionLost(_) => true,
        Error::ServiceFailure { message, .. } => {
            !message.starts_with("failed")
                && !message.contains("panicked")
                && !message.contains("does not fit")
        }
        _ => false,
    }
}

/// What can only be said at the end, because a call may be on its way after its caller has heard of it.
pub(crate) fn check(world: &World) {
    let facts = world.facts();
    let mut problems = Vec::new();
    for (id, order) in facts.orders.iter().enumerate() {
        let kind = order.seen.first().map(|&service| facts.services[service].kind);
        match (&order.outcome, kind) {
            (Some(Outcome::Failed(error)), Some(_)) if is_unsent(error) => {
                problems.push(format!("call {id}: handled, but the caller was told: {error}"));
            }
            (Some(Outcome::Failed(error)), _) if is_disturbance(error) => {
                let is_calm = facts.calm_but.as_ref();
                let is_calm = is_calm.is_some_and(|but| !but.contains(&order.caller));
                if is_calm {
                    problems.push(format!("call {id}: nothing was lost, but it was told: {error}"));
                }
            }
            (_, Some(Kind::Push)) if order.mode != Mode::Push => {
                problems.push(format!("call {id}: handled as a push, which it is not"));
            }
            _ => {}
        }
    }
    drop(facts);
    problems.iter().for_each(|line| world.problem(line));
}
