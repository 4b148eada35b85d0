//! The state of a bus: its services and subscriptions, its connection to the router, and what follows a change.

use std::sync::Arc;
use std::time::Duration;

use gsb_net::Link;
use gsb_proto::messages::{Message, Ping, SubscribeRequest, UnregisterRequest, UnsubscribeRequest};
use gsb_proto::{Frame, MessageKind, PrefixMap, Topic};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::engine::announcements::{Announcements, Answered};
use crate::engine::changes::{Changes, StatusSummary};
use crate::engine::deferred::Deferred;
use crate::engine::farewell::Sending;
use crate::engine::nesting::BusId;
use crate::engine::owners::Owners;
use crate::engine::pending_requests::PendingRequests;
use crate::engine::request::{NameRequest, OnReply, Outcome, Request};
use crate::engine::service_entry::ServiceEntry;
use crate::engine::session::Session;
use crate::engine::subscriptions::{Origin, Subscriptions};
use crate::engine::terms::Terms;
use crate::error::{Error, LostReason};
use crate::event::Broadcast;
use crate::reconnect::Reconnect;
use crate::status::{Connection, NameKind, RouterInfo, Status};

/// The state of a bus.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) services: PrefixMap<Owners>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) announcements: Announcements,
    /// The pauses before the router is asked again for a refused name.
    retry: Reconnect,
    /// A shutdown has begun: no name can be registered or subscribed.
    pub(crate) is_stopping: bool,
    /// This side has sent the end of the stream: nothing more is sent, and the loss of the connection ends the bus.
    pub(crate) is_closing: bool,
    pub(crate) connection: Connection,
    /// Why a connection was lost over which pushes were sent that no flush has covered.
    pub(crate) lost_pushes: Option<LostReason>,
    /// The part of the state that tasks were notified of, or are about to be.
    known: StatusSummary,
    /// Grows with each change of the status.
    pub(crate) version: u64,
    /// Changes that no task was notified of yet.
    pub(crate) unreported: Changes,
}

/// Where a bus stands with its router.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "each bus has one")]
pub(crate) enum Phase {
    /// There is no router.
    InProcess,
    /// There is no connection to the router, for now.
    Down(LostReason),
    /// There is a connection.
    Up(Session),
    /// The bus has ended for good.
    Ended(LostReason),
}

impl State {
    /// The state of a bus that is not connected yet, or has no router at all.
    pub(crate) fn new(has_router: bool, retry: Reconnect) -> Self {
        let (phase, connection) = match has_router {
            true => (Phase::Down(LostReason::NotYet), Connection::Connecting { failures: 0 }),
            false => (Phase::InProcess, Connection::InProcess),
        };
        let known = StatusSummary {
            connection: connection.clone(),
            is_settled: !has_router,
            is_serving: !has_router,
            refusals: 0,
            is_unregistering: false,
        };
        State {
            phase,
            known,
            unreported: Changes::default(),
            services: PrefixMap::new(),
            subscriptions: Subscriptions::default(),
            announcements: Announcements::default(),
            retry,
            is_stopping: false,
            is_closing: false,
            lost_pushes: None,
            connection,
            version: 0,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    pub(crate) fn is_connected_over(&self, link: &Arc<Link>) -> bool {
        matches!(&self.phase, Phase::Up(session) if Arc::ptr_eq(&session.link, link))
    }

    /// Fails if the bus has ended.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.phase {
            Phase::Ended(reason) => Err(not_sent(reason)),
            _ => Ok(()),
        }
    }

    /// The link of the connection. Fails if there is none.
    pub(crate) fn link(&self) -> Result<&Arc<Link>, Error> {
        match &self.phase {
            Phase::Up(_) if self.is_closing => Err(Error::ShutDown),
            Phase::Up(Session { farewell: Some(farewell), .. }) if farewell.is_leaving => {
                Err(not_sent(&LostReason::Stopping))
            }
            Phase::Up(session) => Ok(&session.link),
            Phase::Down(reason) | Phase::Ended(reason) => Err(not_sent(reason)),
            Phase::InProcess => Err(not_sent(&LostReason::NotYet)),
        }
    }

    /// [`link`](State::link) for something to send. Fails also if the router has said farewell. `bus` is this bus.
    pub(crate) fn link_for(&self, sending: Sending, bus: BusId) -> Result<&Arc<Link>, Error> {
        match &self.phase {
            Phase::Up(Session { farewell: Some(farewell), .. })
                if !farewell.allows(sending, bus) =>
            {
                Err(Error::NotSent(LostReason::Stopping))
            }
            _ => self.link(),
        }
    }

    /// Fails if no name can be registered or subscribed.
    pub(crate) fn check_new(&self) -> Result<(), Error> {
        self.check()?;
        if self.is_stopping {
            return Err(Error::ShutDown);
        }
        self.check_answers()
    }

    /// Fails if the router owes too many answers.
    fn check_answers(&self) -> Result<(), Error> {
        match &self.phase {
            Phase::Up(session) => session.requests.check(MessageKind::RegisterRequest),
            _ => Ok(()),
        }
    }

    /// Whether the router may still send calls for names that were given back.
    pub(crate) fn is_unregistering(&self) -> bool {
        let waits = |session: &Session| session.requests.waits_for(MessageKind::UnregisterReply);
        matches!(&self.phase, Phase::Up(session) if waits(session))
    }

    /// Does something with the connection, if there is one.
    pub(crate) fn with_session<R>(&mut self, act: impl FnOnce(&mut Session) -> R) -> Option<R> {
        match &mut self.phase {
            Phase::Up(session) => Some(act(session)),
            _ => None,
        }
    }

    /// Queues a small request, whatever the limit of the outbox, and records what follows its reply. Does nothing
    /// without a connection.
    ///
    /// Replies come in the order of the requests, so the request is queued and recorded under one lock. The change
    /// that it tells the router of happens under the same lock, so that two tasks which undo and redo it reach the
    /// router in the same order. Therefore it cannot wait for room in the outbox.
    fn request(&mut self, frame: &Frame, target: &str, on_reply: OnReply, deferred: &mut Deferred) {
        if let Phase::Up(session) = &mut self.phase {
            if let Err(error) = session.check_size(frame) {
                return self.not_requested(on_reply, error, deferred);
            }
            let (kind, target) = (frame.kind, target.to_owned());
            session.requests.record(Request { kind, target, on_reply });
            if session.link.push_urgent(session.framing, frame) {
                deferred.flush = Some(session.link.clone());
            }
        }
    }

    /// A request is larger than the router accepts, and was not sent.
    fn not_requested(&mut self, on_reply: OnReply, error: Error, deferred: &mut Deferred) {
        match on_reply {
            OnReply::Notify(sender) => deferred.outcomes.push((sender, Err(error))),
            OnReply::Count(sender) => deferred.counts.push((sender, Err(error))),
            OnReply::GivenBack(sender, service) => {
                deferred.outcomes.push((sender, Err(error)));
                deferred.dropped.push(service);
            }
            OnReply::Announced(request) => self.announced(&request, &Err(error), deferred),
        }
    }

    /// Takes the router's answer for a name.
    pub(crate) fn announced(
        &mut self,
        request: &NameRequest,
        outcome: &Outcome,
        deferred: &mut Deferred,
    ) {
        let delay = |refusals| self.retry.delay(refusals);
        let answered = self.announcements.answered(request, outcome, Instant::now(), delay);
        answered_for(answered, outcome, deferred);
    }

    /// The router has taken a name away. Its subscriptions have a gap from here on.
    pub(crate) fn name_lost(
        &mut self,
        kind: NameKind,
        name: &str,
        error: Error,
        deferred: &mut Deferred,
    ) {
        let delay = |refusals| self.retry.delay(refusals);
        let answered = self.announcements.lost(kind, name, &error, Instant::now(), delay);
        if kind == NameKind::Topic
            && let Some(refused) = &answered.refused
        {
            for queue in self.subscriptions.announced_at(name) {
                deferred.wakers.extend(queue.refused(refused.clone()));
            }
        }
        answered_for(answered, &Err(error), deferred);
    }

    /// Sends a Ping. The router answers it when it has handled all that was sent before.
    pub(crate) fn ping(&mut self, deferred: &mut Deferred) -> oneshot::Receiver<Outcome> {
        let (sender, answer) = oneshot::channel();
        self.request(&Ping {}.to_frame(), "", OnReply::Notify(sender), deferred);
        answer
    }

    /// [`ping`](State::ping) for a flush, which covers all pushes before it. Fails if a connection was lost over
    /// which some of them were sent.
    pub(crate) fn flush(
        &mut self,
        deferred: &mut Deferred,
    ) -> Result<oneshot::Receiver<Outcome>, Error> {
        if let Some(reason) = self.lost_pushes.take() {
            return Err(Error::ConnectionLost(reason));
        }
        self.link()?;
        self.check_answers()?;
        self.with_session(|session| session.has_unflushed = false);
        Ok(self.ping(deferred))
    }

    /// Asks the router for a name.
    pub(crate) fn announce(&mut self, request: NameRequest, deferred: &mut Deferred) {
        let name = request.name.clone();
        let Phase::Up(session) = &self.phase else {
            return;
        };
        let frame = match request.kind {
            NameKind::Service => match session.register_request(&name, request.terms) {
                Ok(request) => request.to_frame(),
                Err(error) => {
                    return self.not_requested(OnReply::Announced(request), error, deferred);
                }
            },
            NameKind::Topic => SubscribeRequest { topic: name.clone() }.to_frame(),
        };
        self.request(&frame, &name, OnReply::Announced(request), deferred);
    }

    /// Adds a name that the router is to know. Returns the router's answer.
    pub(crate) fn add_name(
        &mut self,
        kind: NameKind,
        name: &str,
        terms: Terms,
        deferred: &mut Deferred,
    ) -> oneshot::Receiver<Outcome> {
        let (request, outcome) = self.announcements.add(kind, name, terms, self.is_connected());
        if let Some(request) = request {
            self.announce(request, deferred);
        }
        deferred.status_changed = true;
        outcome
    }

    /// Removes a name from those that the router has to know. A `service` handles calls until the router has answered.
    /// Returns the router's answer, or success if the router does not have to be told.
    pub(crate) fn remove_name(
        &mut self,
        kind: NameKind,
        name: &str,
        service: Option<Arc<ServiceEntry>>,
        deferred: &mut Deferred,
    ) -> oneshot::Receiver<Outcome> {
        let (sender, outcome) = oneshot::channel();
        deferred.status_changed = true;
        let (must_tell, waiting) = self.announcements.remove(kind, name);
        let cancelled = waiting.into_iter().map(|sender| (sender, Err(Error::ShutDown)));
        deferred.outcomes.extend(cancelled);
        if must_tell && self.is_connected() {
            let frame = match kind {
                NameKind::Service => UnregisterRequest { service_id: name.to_owned() }.to_frame(),
                NameKind::Topic => UnsubscribeRequest { topic: name.to_owned() }.to_frame(),
            };
            let on_reply = match service {
                Some(service) => OnReply::GivenBack(sender, service),
                None => OnReply::Notify(sender),
            };
            self.request(&frame, name, on_reply, deferred);
        } else {
            deferred.outcomes.push((sender, Ok(())));
        }
        outcome
    }

    /// Adds a service. Fails if its name is taken in this process.
    pub(crate) fn add_service(&mut self, service: &Arc<ServiceEntry>) -> Outcome {
        let has_router = !matches!(self.phase, Phase::InProcess);
        let is_added = match self.services.get_mut(service.id.as_str()) {
            Some(owners) => owners.join(service, has_router),
            None => self.services.insert(service.id.clone(), Owners::new(service.clone())).is_ok(),
        };
        if is_added {
            return Ok(());
        }
        let service_id = service.id.to_string();
        let message = format!("this process has already registered {service_id:?}");
        Err(Error::AlreadyRegistered { service_id, message })
    }

    /// Removes a service. `false` if it is not registered, or if another service has its name by now.
    pub(crate) fn remove_service(
        &mut self,
        service: &Arc<ServiceEntry>,
        deferred: &mut Deferred,
    ) -> bool {
        let id = service.id.as_str();
        let owners = self.services.get_mut(id);
        let Some((left, was_last)) = owners.and_then(|owners| owners.leave(service)) else {
            return false;
        };
        deferred.dropped.push(left);
        if was_last {
            self.services.remove(id);
        }
        true
    }

    /// Gives an event to the subscribers of this process. Returns how many of them receive it.
    pub(crate) fn deliver(
        &mut self,
        event: &Broadcast,
        topic: &Topic,
        origin: Origin,
        deferred: &mut Deferred,
    ) -> u32 {
        let mut receivers: u32 = 0;
        for queue in self.subscriptions.find(topic, origin) {
            let (is_queued, waker) = queue.push_quietly(event.clone(), event.length());
            receivers = receivers.saturating_add(is_queued.into());
            deferred.wakers.extend(waker);
        }
        receivers
    }

    /// The router has dropped `count` events.
    pub(crate) fn missed(&mut self, count: u64, deferred: &mut Deferred) {
        for queue in self.subscriptions.announced() {
            deferred.wakers.extend(queue.missed(count));
        }
    }

    /// A connection is being made.
    pub(crate) fn connecting(&mut self, failures: u32, deferred: &mut Deferred) {
        if let Phase::Down(_) = self.phase {
            self.connection = Connection::Connecting { failures };
            deferred.status_changed = true;
        }
    }

    /// A connection was made: asks the router for all names. `false` if the bus has ended.
    pub(crate) fn connected(
        &mut self,
        session: Session,
        router: RouterInfo,
        deferred: &mut Deferred,
    ) -> bool {
        if !matches!(self.phase, Phase::Down(_)) {
            return false;
        }
        self.phase = Phase::Up(session);
        self.connection = Connection::Connected(router);
        deferred.status_changed = true;
        for request in self.announcements.connected() {
            self.announce(request, deferred);
        }
        true
    }

    /// The connection is lost, or could not be made. The next attempt follows after `retry_in`.
    pub(crate) fn disconnected(
        &mut self,
        reason: &LostReason,
        retry_in: Duration,
        deferred: &mut Deferred,
    ) {
        if let Phase::Ended(_) | Phase::InProcess = self.phase {
            return;
        }
        self.connection = Connection::Lost { reason: reason.clone(), retry_in };
        deferred.status_changed = true;
        let Some(requests) = self.end_session(Phase::Down(reason.clone()), deferred) else {
            return;
        };
        let kept = self.announcements.disconnected();
        deferred.outcomes.extend(kept.into_iter().map(|sender| (sender, Ok(()))));
        end_requests(requests, reason, deferred);
        for queue in self.subscriptions.announced() {
            deferred.wakers.extend(queue.lost(reason.clone()));
        }
    }

    /// The bus has ended: ends all that waits for something, and removes the services.
    pub(crate) fn end(&mut self, reason: &LostReason, deferred: &mut Deferred) {
        if self.has_ended() {
            return;
        }
        // An end that this side has caused is no gap in the events.
        let is_gap = *reason != LostReason::Closed;
        let lost = || Error::ConnectionLost(reason.clone());
        let requests = self.end_session(Phase::Ended(reason.clone()), deferred);
        self.connection = Connection::Closed(reason.clone());
        deferred.status_changed = true;
        if let Some(requests) = requests {
            end_requests(requests, reason, deferred);
        }
        let waiting = self.announcements.end();
        let cancelled = || if is_gap { lost() } else { Error::ShutDown };
        deferred.outcomes.extend(waiting.into_iter().map(|sender| (sender, Err(cancelled()))));
        let queues = std::mem::take(&mut self.subscriptions).into_queues();
        deferred.ended_queues.extend(queues.map(|queue| (queue, is_gap.then(lost))));
        let services = std::mem::take(&mut self.services);
        deferred.dropped.extend(services.iter().flat_map(|(_, owners)| owners.iter().cloned()));
    }

    /// Goes to the next phase. Ends the calls of the connection, if there was one, and returns its requests.
    fn end_session(&mut self, next: Phase, deferred: &mut Deferred) -> Option<PendingRequests> {
        let reason = match &next {
            Phase::Down(reason) | Phase::Ended(reason) => reason.clone(),
            Phase::InProcess | Phase::Up(_) => LostReason::Closed,
        };
        let Phase::Up(session) = std::mem::replace(&mut self.phase, next) else {
            return None;
        };
        if session.has_unflushed && reason != LostReason::Closed {
            self.lost_pushes = Some(reason.clone());
        }
        deferred.close = Some(session.link);
        let error = match &session.farewell {
            Some(farewell) if farewell.is_last => Error::NotSent(LostReason::Stopping),
            _ => Error::ConnectionLost(reason),
        };
        let lost_calls = session.calls.into_pending().map(|call| (call, error.clone()));
        deferred.lost_calls.extend(lost_calls);
        Some(session.requests)
    }

    /// Whether the router has answered for every name.
    pub(crate) fn is_settled(&self) -> bool {
        match self.phase {
            Phase::InProcess => true,
            Phase::Up(_) => self.announcements.is_settled(),
            Phase::Down(_) | Phase::Ended(_) => false,
        }
    }

    /// See [`Status::is_serving`].
    fn is_serving(&self) -> bool {
        match self.phase {
            Phase::InProcess => true,
            Phase::Up(_) => self.announcements.all_services_confirmed(),
            Phase::Down(_) | Phase::Ended(_) => false,
        }
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            connection: self.connection.clone(),
            is_settled: self.is_settled(),
            is_serving: self.is_serving(),
            refused: self.announcements.refused(),
        }
    }

    /// Notes the changes since the last call that tasks are to be notified of.
    pub(crate) fn note_changes(&mut self) {
        let now = StatusSummary {
            connection: self.connection.clone(),
            is_settled: self.is_settled(),
            is_serving: self.is_serving(),
            refusals: self.announcements.refusals(),
            is_unregistering: self.is_unregistering(),
        };
        if now != self.known {
            self.version += 1;
            self.unreported.add(&self.known, &now, self.version);
            self.known = now;
        }
    }
}

/// Notes what follows an answer for a name.
fn answered_for(answered: Answered, outcome: &Outcome, deferred: &mut Deferred) {
    let senders = answered.waiting.into_iter();
    deferred.outcomes.extend(senders.map(|sender| (sender, outcome.clone())));
    deferred.retry_changed |= answered.is_retried;
    deferred.refused.extend(answered.refused);
    deferred.status_changed = true;
}

/// Ends the requests of a connection that is lost. The registry of announcements keeps its own.
fn end_requests(requests: PendingRequests, reason: &LostReason, deferred: &mut Deferred) {
    for request in requests.into_requests() {
        match request.on_reply {
            OnReply::Notify(sender) => {
                let outcome = match request.kind {
                    // The router has dropped the name with the connection.
                    MessageKind::UnregisterRequest | MessageKind::UnsubscribeRequest => Ok(()),
                    _ => Err(Error::ConnectionLost(reason.clone())),
                };
                deferred.outcomes.push((sender, outcome));
            }
            OnReply::Count(sender) => {
                deferred.counts.push((sender, Err(Error::ConnectionLost(reason.clone()))));
            }
            OnReply::GivenBack(sender, service) => {
                deferred.outcomes.push((sender, Ok(())));
                deferred.dropped.push(service);
            }
            OnReply::Announced(_) => {}
        }
    }
}

/// The error of a request that cannot be sent.
fn not_sent(reason: &LostReason) -> Error {
    match reason {
        LostReason::Closed => Error::ShutDown,
        reason => Error::NotSent(reason.clone()),
    }
}
