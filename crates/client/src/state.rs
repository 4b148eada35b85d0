//! The state of a bus: what it serves and listens to, where it stands with its router, and what follows
//! when that changes.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use gsb_net::Link;
use gsb_proto::messages::{
    Message, Ping, RegisterRequest, SubscribeRequest, UnregisterRequest, UnsubscribeRequest,
};
use gsb_proto::{Frame, MessageKind, PrefixMap, Topic};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::announcements::{Announcements, Ask};
use crate::calls::Pending;
use crate::changes::{News, Summary};
use crate::control::{Control, Outcome, Request, Then};
use crate::error::{Error, LostReason};
use crate::panics::contain;
use crate::queue::Queue;
use crate::reconnect::Reconnect;
use crate::services::ServiceEntry;
use crate::session::Session;
use crate::status::{Connection, NameKind, RouterInfo, Status};
use crate::subscriptions::{Broadcast, Origin, Subscriptions};

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) services: PrefixMap<Arc<ServiceEntry>>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) announcements: Announcements,
    /// Nothing new is registered or subscribed.
    pub(crate) is_stopping: bool,
    /// Nothing more is sent; when the router ends the connection, too, the bus ends.
    pub(crate) is_leaving: bool,
    pub(crate) connection: Connection,
    /// Why a connection was lost over which pushes had been sent that no flush had asked for.
    lost_pushes: Option<LostReason>,
    /// What of the state tasks know, or are about to be told.
    known: Summary,
    /// Numbers what they are told.
    pub(crate) version: u64,
    /// What they have not been told yet.
    pub(crate) news: News,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "each bus has one")]
pub(crate) enum Phase {
    /// There is no router.
    InProcess,
    /// There is no connection to the router, for now.
    Down(LostReason),
    Up(Session),
    /// Nothing works any more.
    Ended(LostReason),
}

/// What is to be done when the state is not locked any more: it may take its time, or run what others
/// wrote.
#[derive(Debug, Default)]
pub(crate) struct Afterwards {
    pub(crate) flush: Option<Arc<Link>>,
    pub(crate) close: Option<Arc<Link>>,
    pub(crate) tell: Vec<(oneshot::Sender<Outcome>, Outcome)>,
    pub(crate) wake: Vec<Waker>,
    pub(crate) lost_calls: Vec<(Pending, LostReason)>,
    pub(crate) ended_queues: Vec<(Arc<Queue<Broadcast>>, Option<Error>)>,
    pub(crate) dropped: Vec<Arc<ServiceEntry>>,
    /// The status may have changed.
    pub(crate) status_changed: bool,
    /// Whoever watches the status is told later, of many changes at once; see
    /// [`Shared::publish`](crate::shared::Shared::publish).
    pub(crate) is_told_later: bool,
}

impl Afterwards {
    pub(crate) fn run(self) {
        if let Some(link) = self.flush {
            link.flush();
        }
        if let Some(link) = self.close {
            link.close();
        }
        // Wakers and destructors are not ours, and may panic: then all others still have to run.
        for (waiting, outcome) in self.tell {
            // Whoever asked may not wait any more.
            contain("a waker", || drop(waiting.send(outcome)));
        }
        for waker in self.wake {
            contain("a waker", || waker.wake());
        }
        for (call, reason) in self.lost_calls {
            call.lost(&reason);
        }
        for (queue, error) in self.ended_queues {
            queue.end(error);
        }
        // A service contains the panics of its handler's destructor itself.
        drop(self.dropped);
    }
}

impl State {
    /// Of a bus that is not connected yet, or has no router at all.
    pub(crate) fn new(has_router: bool) -> Self {
        let (phase, connection) = match has_router {
            true => (Phase::Down(LostReason::NotYet), Connection::Connecting { failures: 0 }),
            false => (Phase::InProcess, Connection::InProcess),
        };
        let known = Summary {
            connection: connection.clone(),
            is_settled: !has_router,
            is_serving: !has_router,
            refusals: 0,
            is_unregistering: false,
        };
        State {
            phase,
            known,
            news: News::default(),
            services: PrefixMap::new(),
            subscriptions: Subscriptions::default(),
            announcements: Announcements::default(),
            is_stopping: false,
            is_leaving: false,
            lost_pushes: None,
            connection,
            version: 0,
        }
    }

    /// Whether requests may be made at all.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.phase {
            Phase::Ended(reason) => Err(unsent(reason)),
            _ => Ok(()),
        }
    }

    /// The link of the connection, if there is one.
    pub(crate) fn link(&self) -> Result<Arc<Link>, Error> {
        match &self.phase {
            Phase::Up(_) if self.is_leaving => Err(Error::ShutDown),
            Phase::Up(session) => Ok(session.link.clone()),
            Phase::Down(reason) | Phase::Ended(reason) => Err(unsent(reason)),
            Phase::InProcess => Err(unsent(&LostReason::NotYet)),
        }
    }

    /// Whether names may be registered or subscribed.
    pub(crate) fn check_new(&self) -> Result<(), Error> {
        self.check()?;
        if self.is_stopping {
            return Err(Error::ShutDown);
        }
        self.check_answers()
    }

    /// Whether the router has answered enough to be asked for more.
    pub(crate) fn check_answers(&self) -> Result<(), Error> {
        match &self.phase {
            Phase::Up(session) => session.control.check(MessageKind::RegisterRequest),
            _ => Ok(()),
        }
    }

    /// Whether the router may still send calls for names that were given back.
    pub(crate) fn is_unregistering(&self) -> bool {
        let waits = |session: &Session| session.control.waits_for(MessageKind::UnregisterReply);
        matches!(&self.phase, Phase::Up(session) if waits(session))
    }

    pub(crate) fn is_connected_over(&self, link: &Arc<Link>) -> bool {
        matches!(&self.phase, Phase::Up(session) if Arc::ptr_eq(&session.link, link))
    }

    /// Does something with the connection, if there is one.
    pub(crate) fn with_session(&mut self, act: impl FnOnce(&mut Session)) {
        if let Phase::Up(session) = &mut self.phase {
            act(session);
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    /// Sends a small request whatever the limit says, and notes who waits for the answer; `false` if there
    /// is no connection. The order of sending is the order of the answers, so both happen under one lock.
    /// Two tasks that undo and redo the same thing reach the router in the order in which they changed it
    /// here, because that happens under the same lock, too. Therefore it does not wait for room.
    pub(crate) fn ask(&mut self, frame: &Frame, target: &str, then: Then, after: &mut Afterwards) {
        if let Phase::Up(session) = &mut self.phase {
            if let Err(error) = session.check_size(frame) {
                return self.unasked(then, error, after);
            }
            session.control.asked(Request { kind: frame.kind, target: target.to_owned(), then });
            if session.link.push_urgent(session.framing, frame) {
                after.flush = Some(session.link.clone());
            }
        }
    }

    /// A request was not sent, since the router would close the connection over it.
    fn unasked(&mut self, then: Then, error: Error, after: &mut Afterwards) {
        match then {
            Then::Tell(waiting) => after.tell.push((waiting, Err(error))),
            Then::Announced(ask) => {
                let outcome = Err(error);
                let delay = |refusals| Reconnect::default().delay(refusals);
                let answered = self.announcements.answered(&ask, &outcome, Instant::now(), delay);
                let waiting = answered.waiting.into_iter();
                after.tell.extend(waiting.map(|waiting| (waiting, outcome.clone())));
                after.status_changed = true;
            }
        }
    }

    /// Asks the router for a sign of life, which comes when it has handled all that was sent before.
    pub(crate) fn ping(&mut self, after: &mut Afterwards) -> oneshot::Receiver<Outcome> {
        let (waiting, answer) = oneshot::channel();
        self.ask(&Ping {}.to_frame(), "", Then::Tell(waiting), after);
        answer
    }

    /// [`ping`](State::ping) that covers all pushes before, unless some were lost with a connection.
    pub(crate) fn flush(
        &mut self,
        after: &mut Afterwards,
    ) -> Result<oneshot::Receiver<Outcome>, Error> {
        if let Some(reason) = self.lost_pushes.take() {
            return Err(Error::ConnectionLost(reason));
        }
        self.link()?;
        self.check_answers()?;
        self.with_session(|session| session.has_unflushed = false);
        Ok(self.ping(after))
    }

    /// Asks the router for a name.
    pub(crate) fn announce(&mut self, ask: Ask, after: &mut Afterwards) {
        let name = ask.name.clone();
        let frame = match ask.kind {
            NameKind::Service => RegisterRequest { service_id: name.clone() }.to_frame(),
            NameKind::Topic => SubscribeRequest { topic: name.clone() }.to_frame(),
        };
        self.ask(&frame, &name, Then::Announced(ask), after);
    }

    /// A name is to be known at the router. Returns what comes of it.
    pub(crate) fn add_name(
        &mut self,
        kind: NameKind,
        name: &str,
        after: &mut Afterwards,
    ) -> oneshot::Receiver<Outcome> {
        let (ask, outcome) = self.announcements.add(kind, name, self.is_connected());
        if let Some(ask) = ask {
            self.announce(ask, after);
        }
        after.status_changed = true;
        outcome
    }

    /// A name is not to be known at the router any more. Returns what the router says, if it has to be told.
    pub(crate) fn remove_name(
        &mut self,
        kind: NameKind,
        name: &str,
        after: &mut Afterwards,
    ) -> oneshot::Receiver<Outcome> {
        let (waiting, outcome) = oneshot::channel();
        after.status_changed = true;
        let (must_tell, waiters) = self.announcements.remove(kind, name);
        let given_up = waiters.into_iter().map(|waiter| (waiter, Err(Error::ShutDown)));
        after.tell.extend(given_up);
        if must_tell && self.is_connected() {
            let frame = match kind {
                NameKind::Service => UnregisterRequest { service_id: name.to_owned() }.to_frame(),
                NameKind::Topic => UnsubscribeRequest { topic: name.to_owned() }.to_frame(),
            };
            self.ask(&frame, name, Then::Tell(waiting), after);
        } else {
            after.tell.push((waiting, Ok(())));
        }
        outcome
    }

    /// `false` if it is not there, or another has its name by now.
    pub(crate) fn remove_service(
        &mut self,
        service: &Arc<ServiceEntry>,
        after: &mut Afterwards,
    ) -> bool {
        let id = service.id.as_str();
        let is_there = self.services.get(id).is_some_and(|found| Arc::ptr_eq(found, service));
        if is_there {
            after.dropped.extend(self.services.remove(id));
        }
        is_there
    }

    /// Gives an event to the subscribers here.
    pub(crate) fn deliver(
        &mut self,
        event: &Broadcast,
        topic: &Topic,
        origin: Origin,
        after: &mut Afterwards,
    ) {
        for queue in self.subscriptions.find(topic, origin) {
            let (_, waker) = queue.push_quietly(event.clone(), event.length());
            after.wake.extend(waker);
        }
    }

    /// The router has dropped so many events.
    pub(crate) fn missed(&mut self, count: u64, after: &mut Afterwards) {
        for queue in self.subscriptions.announced() {
            after.wake.extend(queue.missed(count));
        }
    }

    /// A connection is being made.
    pub(crate) fn connecting(&mut self, failures: u32, after: &mut Afterwards) {
        if let Phase::Down(_) = self.phase {
            self.connection = Connection::Connecting { failures };
            after.status_changed = true;
        }
    }

    /// There is a connection: the router is asked for all that it is to know. `false` if the bus has ended.
    pub(crate) fn connected(
        &mut self,
        session: Session,
        router: RouterInfo,
        after: &mut Afterwards,
    ) -> bool {
        if !matches!(self.phase, Phase::Down(_)) {
            return false;
        }
        self.phase = Phase::Up(session);
        self.connection = Connection::Connected(router);
        after.status_changed = true;
        for ask in self.announcements.connected() {
            self.announce(ask, after);
        }
        true
    }

    /// The connection is lost, or could not be made, and is tried again.
    pub(crate) fn disconnected(
        &mut self,
        reason: &LostReason,
        retry_in: Duration,
        after: &mut Afterwards,
    ) {
        if let Phase::Ended(_) | Phase::InProcess = self.phase {
            return;
        }
        self.connection = Connection::Lost { reason: reason.clone(), retry_in };
        after.status_changed = true;
        let Some(control) = self.hang_up(Phase::Down(reason.clone()), after) else {
            return;
        };
        let kept = self.announcements.disconnected();
        after.tell.extend(kept.into_iter().map(|waiting| (waiting, Ok(()))));
        for request in control.into_requests() {
            if let Then::Tell(waiting) = request.then {
                after.tell.push((waiting, outcome_of_a_loss(request.kind, reason)));
            }
        }
        for queue in self.subscriptions.announced() {
            after.wake.extend(queue.lost(reason.clone()));
        }
    }

    /// The bus has ended: whatever waits is told so, and the services are let go.
    pub(crate) fn end(&mut self, reason: &LostReason, after: &mut Afterwards) {
        if let Phase::Ended(_) = self.phase {
            return;
        }
        // What this side has ended is no gap.
        let is_gap = *reason != LostReason::Closed;
        let lost = || Error::ConnectionLost(reason.clone());
        let control = self.hang_up(Phase::Ended(reason.clone()), after);
        self.connection = Connection::Closed(reason.clone());
        after.status_changed = true;
        for request in control.into_iter().flat_map(Control::into_requests) {
            if let Then::Tell(waiting) = request.then {
                after.tell.push((waiting, outcome_of_a_loss(request.kind, reason)));
            }
        }
        let waiting = self.announcements.end();
        let given_up = || if is_gap { lost() } else { Error::ShutDown };
        after.tell.extend(waiting.into_iter().map(|waiting| (waiting, Err(given_up()))));
        let queues = std::mem::take(&mut self.subscriptions).into_queues();
        after.ended_queues.extend(queues.map(|queue| (queue, is_gap.then(lost))));
        let services = std::mem::take(&mut self.services);
        after.dropped.extend(services.iter().map(|(_, service)| service.clone()));
    }

    /// Goes on to the next phase. If that ends a connection, the calls over it are over; returns what
    /// else waits for it.
    fn hang_up(&mut self, next: Phase, after: &mut Afterwards) -> Option<Control> {
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
        after.close = Some(session.link);
        let lost_calls = session.calls.into_pending().map(|call| (call, reason.clone()));
        after.lost_calls.extend(lost_calls);
        Some(session.control)
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

    /// Notes what of a change tasks are to be told.
    pub(crate) fn note_news(&mut self) {
        let now = Summary {
            connection: self.connection.clone(),
            is_settled: self.is_settled(),
            is_serving: self.is_serving(),
            refusals: self.announcements.refusals(),
            is_unregistering: self.is_unregistering(),
        };
        if now != self.known {
            self.version += 1;
            self.news.add(&self.known, &now, self.version);
            self.known = now;
        }
    }
}

/// What becomes of a request whose answer does not come any more.
fn outcome_of_a_loss(kind: MessageKind, reason: &LostReason) -> Outcome {
    match kind {
        // What was to be undone is undone with the connection.
        MessageKind::UnregisterRequest | MessageKind::UnsubscribeRequest => Ok(()),
        _ => Err(Error::ConnectionLost(reason.clone())),
    }
}

/// The error of a request that cannot be sent.
pub(crate) fn unsent(reason: &LostReason) -> Error {
    match reason {
        LostReason::Closed => Error::ShutDown,
        reason => Error::NotSent(reason.clone()),
    }
}
