//! What the handles of a bus and its tasks share.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use gsb_net::{Link, LogLimit};
use gsb_proto::messages::BroadcastRequest;
use gsb_proto::{Frame, Topic};
use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use crate::builder::BusBuilder;
use crate::bus::Scope;
use crate::changes::{Changes, News, when};
use crate::control::{Outcome, Request, Then};
use crate::error::{Error, LostReason};
use crate::limits::{check_size, check_text};
use crate::queue::Queue;
use crate::services::{Handling, ServiceEntry};
use crate::session::Session;
use crate::start_queue::StartQueue;
use crate::state::{Afterwards, Phase, State};
use crate::status::{Announcement, Connection, NameKind, RouterInfo, Status};
use crate::subscriptions::{Broadcast, Origin};
use crate::timeouts::in_time;

/// As good as for ever, and small enough to be added to any time.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A bus: what this process serves and listens to, and its connection to the router, if it has one.
///
/// Nothing that others wrote runs while the state is locked: whoever waits is woken afterwards, and
/// handlers are dropped afterwards. Either may call back.
pub(crate) struct Shared {
    options: BusBuilder,
    has_router: bool,
    instance_id: Uuid,
    /// Makes request ids differ from those of other clients, so that routers need not replace them.
    pub(crate) id_prefix: String,
    pub(crate) last_call: AtomicU64,
    /// Largest message that the router may be sent, in bytes: as in [`Session`], for who has not locked the state.
    max_frame: AtomicUsize,
    pub(crate) state: Mutex<State>,
    changes: Changes,
    /// Watchers of the status are to be told by [`publish`](Shared::publish).
    has_news: AtomicBool,
    /// How many wait for a connection.
    waiting: AtomicUsize,
    /// Somebody has begun to wait for a connection.
    awaited: Notify,
    /// The last handle was dropped, or the bus has ended.
    finish: Notify,
    /// There is something new to be asked for again later.
    pub(crate) retry: Notify,
    /// A service was registered here, or the bus has ended.
    services_changed: Notify,
    /// Counts the calls that are being handled.
    handling: Arc<Handling>,
    /// Starts the handlers of pushes in order.
    start_queue: Arc<StartQueue>,
    /// For names that the router refuses.
    pub(crate) refusal_log: LogLimit,
    /// For events that the router has dropped.
    pub(crate) missed_log: LogLimit,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bus").field(&self.state.lock().connection).finish()
    }
}

/// Somebody waits for a connection.
struct Waits<'a>(&'a Shared);

impl<'a> Waits<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::SeqCst);
        shared.awaited.notify_waiters();
        Waits(shared)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends the bus when dropped: a shutdown that is given up is none that can be taken back.
struct EndsBus<'a>(&'a Shared);

impl Drop for EndsBus<'_> {
    fn drop(&mut self) {
        self.0.end(LostReason::Closed);
    }
}

impl Shared {
    /// A bus that is not connected yet, or has no router at all.
    pub(crate) fn new(options: BusBuilder, has_router: bool) -> Self {
        let instance_id = Uuid::new_v4();
        let id_prefix = instance_id.simple().to_string()[..8].to_owned();
        let state = State::new(has_router);
        Shared {
            has_router,
            instance_id,
            id_prefix,
            last_call: AtomicU64::new(0),
            max_frame: AtomicUsize::new(options.max_frame),
            options,
            state: Mutex::new(state),
            changes: Changes::default(),
            has_news: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            awaited: Notify::new(),
            finish: Notify::new(),
            retry: Notify::new(),
            services_changed: Notify::new(),
            handling: Arc::default(),
            start_queue: Arc::default(),
            refusal_log: LogLimit::default(),
            missed_log: LogLimit::default(),
        }
    }

    pub(crate) fn options(&self) -> &BusBuilder {
        &self.options
    }

    pub(crate) fn instance_id(&self) -> &Uuid {
        &self.instance_id
    }

    pub(crate) fn has_router(&self) -> bool {
        self.has_router
    }

    /// Waits until a service is registered here, or the bus ends.
    pub(crate) fn services_changed(&self) -> Notified<'_> {
        self.services_changed.notified()
    }

    /// What counts the calls that are being handled.
    pub(crate) fn handling(&self) -> &Arc<Handling> {
        &self.handling
    }

    /// What starts the handlers of pushes in order.
    pub(crate) fn start_queue(&self) -> &Arc<StartQueue> {
        &self.start_queue
    }

    /// Changes the state, and does what follows from it after the lock is released.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut State, &mut Afterwards) -> R) -> R {
        let mut after = Afterwards::default();
        let mut state = self.state.lock();
        let result = change(&mut state, &mut after);
        let news = after.status_changed.then(|| {
            state.note_news();
            if after.is_told_later {
                self.has_news.store(true, Ordering::Relaxed);
                return News::default();
            }
            std::mem::take(&mut state.news)
        });
        drop(state);
        after.run();
        if let Some(news) = news {
            self.changes.tell(news);
        }
        result
    }

    /// Tells what was to be [told later](Afterwards::is_told_later).
    pub(crate) fn publish(&self) {
        if self.has_news.load(Ordering::Relaxed) {
            self.has_news.store(false, Ordering::Relaxed);
            let news = std::mem::take(&mut self.state.lock().news);
            self.changes.tell(news);
        }
    }

    /// What wakes the tasks that wait for a change.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// How the bus stands with its router.
    pub(crate) fn status(&self) -> Status {
        self.state.lock().status()
    }

    /// The status, with a number that is larger than those of all other ones before it.
    pub(crate) fn numbered_status(&self) -> (u64, Status) {
        let state = self.state.lock();
        (state.version, state.status())
    }

    /// The number of the status, and whether it is the last one.
    pub(crate) fn status_number(&self) -> (u64, bool) {
        let state = self.state.lock();
        (state.version, matches!(state.phase, Phase::Ended(_)))
    }

    /// Waits until the router has answered for every name; returns the connection then, which may have ended.
    pub(crate) async fn settled(&self) -> Connection {
        let is_settled = || {
            let state = self.state.lock();
            let is_over = matches!(state.phase, Phase::Ended(_));
            (is_over || state.is_settled()).then(|| state.connection.clone())
        };
        when(&self.changes.names, is_settled).await
    }

    /// Waits until the bus has ended; returns why.
    pub(crate) async fn ended(&self) -> LostReason {
        let reason = || match &self.state.lock().phase {
            Phase::Ended(reason) => Some(reason.clone()),
            _ => None,
        };
        when(&self.changes.connection, reason).await
    }

    /// The error of what could not be sent in time.
    pub(crate) fn unsent(&self, after: Duration) -> Error {
        match self.state.lock().link() {
            Ok(_) => Error::NotSent(LostReason::NothingTaken(after)),
            Err(error) => error,
        }
    }

    /// The link of the connection, when there is one; waits for it no longer than until `deadline`.
    pub(crate) async fn link(&self, deadline: Option<Instant>) -> Result<Arc<Link>, Error> {
        let Some(deadline) = deadline else {
            return self.state.lock().link();
        };
        let decided = when(&self.changes.connection, || {
            let state = self.state.lock();
            (!matches!(state.phase, Phase::Down(_))).then(|| state.link())
        });
        let _waits = Waits::new(self);
        let decided = tokio::time::timeout_at(deadline, decided).await;
        decided.unwrap_or_else(|_| self.state.lock().link())
    }

    /// Waits until somebody waits for the router.
    pub(crate) async fn is_awaited(&self) {
        loop {
            let mut awaited = pin!(self.awaited.notified());
            awaited.as_mut().enable();
            if self.waiting.load(Ordering::SeqCst) > 0 {
                return;
            }
            awaited.await;
        }
    }

    /// Nobody holds the bus any more. What was sent has some time to leave.
    pub(crate) fn finish(&self) {
        match self.has_router {
            true => self.finish.notify_one(),
            false => self.end(LostReason::Closed),
        }
    }

    /// Waits until the bus is [finished](Shared::finish), or has ended.
    pub(crate) async fn finished(&self) {
        self.finish.notified().await;
    }

    /// Whether the bus has ended for good.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Ended(_))
    }

    // The connection comes and goes.

    /// A connection is being made.
    pub(crate) fn connecting(&self, failures: u32) {
        self.change(|state, after| state.connecting(failures, after));
    }

    /// There is a connection. `false` if the bus has ended.
    pub(crate) fn connected(&self, link: &Arc<Link>, router: RouterInfo) -> bool {
        let max_frame = router
            .max_frame
            .map_or(self.options.max_frame, |limit| limit.min(self.options.max_frame));
        self.max_frame.store(max_frame, Ordering::Relaxed);
        let session = Session::new(link.clone(), self.options.framing, &router, max_frame);
        self.change(|state, after| state.connected(session, router, after))
    }

    /// The connection is lost, or could not be made, and is tried again.
    pub(crate) fn disconnected(&self, reason: &LostReason, retry_in: Duration) {
        self.change(|state, after| state.disconnected(reason, retry_in, after));
    }

    /// The bus has ended.
    pub(crate) fn end(&self, reason: LostReason) {
        self.change(|state, after| state.end(&reason, after));
        self.services_changed.notify_waiters();
        self.finish.notify_one();
    }

    // Services and subscriptions.

    /// The service of this process that an address belongs to; `None` if it is for the router to find.
    pub(crate) fn find(
        &self,
        address: &str,
        scope: Scope,
    ) -> Result<Option<Arc<ServiceEntry>>, Error> {
        let state = self.state.lock();
        if let Some(service) = state.services.lookup(address) {
            return Ok(Some(service.clone()));
        }
        state.check()?;
        if scope == Scope::Everywhere && !matches!(state.phase, Phase::InProcess) {
            return Ok(None);
        }
        let message = "nobody in this process serves it".to_owned();
        Err(Error::NoSuchService { address: address.to_owned(), message })
    }

    /// Whether the router accepts the frame.
    pub(crate) fn check_size(&self, frame: &Frame) -> Result<(), Error> {
        check_size(frame, self.max_frame.load(Ordering::Relaxed))
    }

    /// Makes a service known here and to the router. Calls may come before this returns. Without a
    /// connection it returns at once; the router is told later.
    pub(crate) async fn register(&self, service: &Arc<ServiceEntry>) -> Outcome {
        let service_id = service.id.as_str();
        let answer = self.change(|state, after| {
            state.check_new()?;
            if state.services.insert(service.id.clone(), service.clone()).is_err() {
                let message = format!("this process has registered {service_id:?} already");
                let service_id = service_id.to_owned();
                return Err(Error::AlreadyRegistered { service_id, message });
            }
            Ok(match (service.scope, &state.phase) {
                (Scope::InProcess, _) | (_, Phase::InProcess) => None,
                _ => Some(state.add_name(NameKind::Service, service_id, after)),
            })
        });
        let answer = answer?;
        self.services_changed.notify_waiters();
        let Some(answer) = answer else {
            return Ok(());
        };
        let outcome = self.answered(answer, service_id).await;
        // A router that is only late may still register it: then whoever drops the registration has
        // to take it back.
        if !matches!(outcome, Ok(()) | Err(Error::Timeout { .. })) {
            self.change(|state, after| state.remove_service(service, after));
        }
        outcome
    }

    /// Takes a service back, here and at the router. Done when this returns; the future only waits
    /// for the router to confirm it.
    pub(crate) fn unregister<'a>(
        &'a self,
        service: &'a Arc<ServiceEntry>,
    ) -> impl Future<Output = Outcome> + use<'a> {
        let id = service.id.as_str();
        let answer = self.change(|state, after| {
            let must_tell =
                state.remove_service(service, after) && service.scope == Scope::Everywhere;
            must_tell.then(|| state.remove_name(NameKind::Service, id, after))
        });
        async move {
            match answer {
                Some(answer) => self.answered(answer, id).await,
                None => Ok(()),
            }
        }
    }

    /// Whether the router knows a name.
    pub(crate) fn announcement(&self, kind: NameKind, name: &str) -> Announcement {
        let state = self.state.lock();
        match state.phase {
            Phase::InProcess => Announcement::InProcess,
            _ => state.announcements.announcement(kind, name),
        }
    }

    /// Adds a subscription. It is there from now on; the future waits until the router knows of it, if
    /// there is a connection.
    pub(crate) fn subscribe<'a>(
        &'a self,
        topic: &'a Topic,
        queue: Arc<Queue<Broadcast>>,
        scope: Scope,
    ) -> Result<(u64, impl Future<Output = Outcome> + use<'a>), Error> {
        let (key, answer) = self.change(|state, after| {
            state.check_new()?;
            let key = state.subscriptions.add(topic, queue, scope);
            let answer = match (scope, &state.phase) {
                (Scope::InProcess, _) | (_, Phase::InProcess) => None,
                _ => Some(state.add_name(NameKind::Topic, topic.as_str(), after)),
            };
            Ok::<_, Error>((key, answer))
        })?;
        let confirmed = async move {
            match answer {
                Some(answer) => self.answered(answer, topic.as_str()).await,
                None => Ok(()),
            }
        };
        Ok((key, confirmed))
    }

    /// Ends a subscription, here and at the router if it has to be told. Done when this returns; the
    /// future only waits for the router to confirm it.
    pub(crate) fn unsubscribe<'a>(
        &'a self,
        topic: &'a Topic,
        key: u64,
    ) -> impl Future<Output = Outcome> + use<'a> {
        let answer = self.change(|state, after| {
            let was_last = state.subscriptions.remove(topic, key);
            was_last.then(|| state.remove_name(NameKind::Topic, topic.as_str(), after))
        });
        async move {
            match answer {
                Some(answer) => self.answered(answer, topic.as_str()).await,
                None => Ok(()),
            }
        }
    }

    /// Asks again for what was refused, as far as it is time. Returns when there is more.
    fn ask_again(&self) -> Option<Instant> {
        self.change(|state, after| {
            for ask in state.announcements.due(Instant::now()) {
                state.announce(ask, after);
            }
            state.announcements.next_retry()
        })
    }

    /// Asks again for what was refused, whenever it is time, for as long as it is polled.
    pub(crate) async fn keep_asking(&self) {
        loop {
            let changed = self.retry.notified();
            match self.ask_again() {
                Some(next) => {
                    let _ = tokio::time::timeout_at(next, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Announces an event here and to the router, and waits for the router to take it. One publisher's
    /// events have one order for all subscribers, because both happen under one lock.
    pub(crate) async fn broadcast(
        &self,
        topic: &Topic,
        event: &Broadcast,
        scope: Scope,
    ) -> Outcome {
        if scope == Scope::InProcess || !self.has_router {
            tokio::task::coop::consume_budget().await;
            return self.change(|state, after| {
                state.check()?;
                state.deliver(event, topic, Origin::Here, after);
                Ok(())
            });
        }
        let Broadcast { topic: name, caller, data } = event.clone();
        check_text([&caller, &name])?;
        let frame = BroadcastRequest { caller, data, topic: name, missed: 0 }.into_frame();
        let sent = |state: &mut State, after: &mut Afterwards| {
            let (waiting, answer) = oneshot::channel();
            let mut origin = Origin::Here;
            state.with_session(|session| {
                let (target, then) = (topic.to_string(), Then::Tell(waiting));
                session.control.asked(Request { kind: frame.kind, target, then });
                if session.echoes {
                    origin = Origin::HereAndRouter;
                }
            });
            state.deliver(event, topic, origin, after);
            answer
        };
        let patience = self.options.request_timeout;
        let answer = self.send(&frame, self.options.wait_for_router, None, sent);
        let answer = in_time(Some(patience.max(self.options.wait_for_router)), "", answer).await;
        let answer = answer.map_err(|error| match error {
            Error::Timeout { after, .. } => self.unsent(after),
            error => error,
        })?;
        self.answered(answer, topic.as_str()).await
    }

    /// Waits for the router's answer to a request about `target`.
    async fn answered(&self, answer: oneshot::Receiver<Outcome>, target: &str) -> Outcome {
        let outcome = async {
            // Whoever would have told was dropped with the request, which was taken back.
            answer.await.unwrap_or(Err(Error::ConnectionLost(LostReason::Closed)))
        };
        in_time(Some(self.options.request_timeout), target, outcome).await
    }

    /// Asks the router for a sign of life; nobody waits for it.
    pub(crate) fn ping(&self) {
        self.change(|state, after| drop(state.ping(after)));
    }

    /// Waits until the router has handled all that was sent before.
    pub(crate) async fn flush(&self) -> Outcome {
        if !self.has_router {
            return self.state.lock().check();
        }
        let answer = self.change(State::flush)?;
        self.answered(answer, "the router").await
    }

    /// Sends a small frame over a connection at once.
    pub(crate) fn send_urgent(&self, link: &Link, frame: &Frame) {
        if link.push_urgent(self.options.framing, frame) {
            link.flush();
        }
    }

    // The end.

    /// Gives all names back, lets what is being handled finish, and sends what is queued, all of it no
    /// longer than until the deadline; then ends the bus.
    pub(crate) async fn shut_down(&self, patience: Duration) -> Outcome {
        let work = async {
            self.change(|state, after| {
                state.is_stopping = true;
                for id in state.announcements.names(NameKind::Service) {
                    drop(state.remove_name(NameKind::Service, &id, after));
                }
            });
            // Until the router has confirmed it, calls may come that it has accepted: they are served.
            // That goes for names that others have given back, too.
            let is_unknown = || (!self.state.lock().is_unregistering()).then_some(());
            when(&self.changes.names, is_unknown).await;
            self.handling.wait().await;
            self.leave().await;
            Ok(())
        };
        let ends_bus = EndsBus(self);
        let is_done = in_time(Some(patience), "", work).await.is_ok();
        let running = self.handling.running();
        drop(ends_bus);
        if is_done { Ok(()) } else { Err(Error::Unfinished { running, after: patience }) }
    }

    /// Waits until what was sent has left, but no longer than a request may take; then ends the bus.
    pub(crate) async fn close(&self) {
        let _ends_bus = EndsBus(self);
        // What a router does not read in this time, it never will.
        let _ = tokio::time::timeout(self.options.request_timeout, self.leave()).await;
    }

    /// Sends what is queued, and nothing more, and waits until the router has seen the end of it. Closing
    /// a connection before would take back what the router has not read.
    async fn leave(&self) {
        let Ok(link) = self.state.lock().link() else {
            return;
        };
        link.drained().await;
        self.change(|state, _| state.is_leaving = true);
        link.finish();
        let is_over = || (!self.state.lock().is_connected_over(&link)).then_some(());
        when(&self.changes.connection, is_over).await;
    }

    /// Writes what is queued for the router, as far as it takes it within `time`, without a runtime.
    pub(crate) fn write_last(&self, time: Duration) {
        let link = self.state.lock().link();
        if let Ok(link) = link {
            link.write_within(time);
        }
    }

    /// Whether a connection that is lost now is one that was finished here.
    pub(crate) fn is_leaving(&self) -> bool {
        self.state.lock().is_leaving
    }
}
