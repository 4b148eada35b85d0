//! The callers of a run: they perform the calls, and check their outcomes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use gsb_client::{Bus, Endpoint, Error, LostReason};

use crate::order::{End, LONG_REPLIES, Mode, Order, Outcome, is_unsent, item, reply};
use crate::world::{Kind, Millis, SLACK, World, kind_of, millis, pause};

/// The longest time of an operation without its own timeout, which waits for handlers and for room in queues.
const LONGEST: Duration = Duration::from_secs(300);

/// Records that a call was dropped, unless it had another outcome.
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

/// Carries out an order and checks its outcome.
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
        let wait = Duration::from_millis(order.wait_for_router);
        let endpoint = endpoint.wait_for_router(wait);
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
    /// When its current wait began.
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

    /// Waits for a future that must end.
    async fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let result = tokio::time::timeout(LONGEST, future).await.ok();
        self.expect(result.is_some(), "it never ends");
        let after = self.world.now() - self.started;
        if let (Some(timeout), true) = (self.order.timeout, self.order.mode != Mode::Push) {
            self.expect(after <= timeout + SLACK, "it has taken longer than its timeout");
        }
        result
    }

    /// The service that received the call. There must be one.
    fn seen(&self) -> Option<(usize, Kind)> {
        let facts = self.world.facts();
        let service = facts.orders[self.id].seen.first().copied();
        let seen = service.map(|service| (service, facts.services[service].kind));
        drop(facts);
        self.expect(seen.is_some(), "it has an outcome, but no service has received it");
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
                self.expect(self.order.end == End::Panic, "no handler panicked");
                self.seen();
            }
            Error::ServiceFailure { message, .. }
                if message.contains("is too large to be sent") =>
            {
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
                self.expect(message.contains("takes pushes only"), "an unexpected refusal");
            }
            Error::IsStream { .. } => {
                let is_right = matches!(self.seen(), Some((_, Kind::Stream)));
                self.expect(is_right && self.order.items > 0, "it is no stream");
                self.expect(self.order.mode == Mode::Call, "a stream was wanted");
            }
            Error::Overflow { .. } => {
                self.expect(self.order.mode == Mode::Stream, "no stream can overflow");
                let facts = self.world.facts();
                let order = &facts.orders[self.id];
                let owner = order.seen.first().map(|&service| facts.services[service].owner);
                let ends = [Some(order.caller), owner];
                let is_classic = |end| facts.classic.contains(&end);
                let is_old = ends.into_iter().flatten().any(is_classic);
                drop(facts);
                self.expect(is_old, "a stream with credit cannot overflow");
            }
            Error::ConnectionLost(_) | Error::Cancelled { .. } => {}
            error if is_unsent(error) => {}
            error => self.problem(&format!("an unexpected error: {error}")),
        }
        ending.set(Outcome::Failed(error));
    }
}

/// Whether the cause of an error is a lost connection: that of the caller, or that of the service.
fn is_disturbance(error: &Error) -> bool {
    match error {
        // The timeout was over before there was room in the outbox.
        Error::NotSent(LostReason::NothingTaken(_)) => false,
        Error::NotSent(_) | Error::ShutDown | Error::ConnectionLost(_) => true,
        Error::ServiceFailure { message, .. } => {
            !message.starts_with("failed")
                && !message.contains("panicked")
                && !message.contains("is too large to be sent")
        }
        _ => false,
    }
}

/// Checks that are possible only at the end, because a call may still be under way after its caller has its outcome.
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
            (Some(Outcome::Failed(Error::Cancelled { .. })), _) => {
                let owner = order.seen.first().map(|&service| facts.services[service].owner);
                let shut_down = facts.calm_but.as_ref();
                if shut_down.is_some_and(|clients| owner.is_none_or(|it| !clients.contains(&it))) {
                    problems.push(format!("call {id}: dropped, but its service was not shut down"));
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
