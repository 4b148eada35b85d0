//! The engine of a bus: its state, its connection to the router, and the calls within the process.
//!
//! The handles in [`api`](crate::api) share one [`Engine`]; nothing in here knows them.

pub(crate) mod announcements;
pub(crate) mod backoff;
pub(crate) mod call_control;
pub(crate) mod changes;
pub(crate) mod closing;
pub(crate) mod connection;
pub(crate) mod credit;
pub(crate) mod deferred;
pub(crate) mod farewell;
pub(crate) mod in_process;
pub(crate) mod incoming;
pub(crate) mod intake;
pub(crate) mod leaving;
pub(crate) mod limits;
pub(crate) mod names;
pub(crate) mod nesting;
pub(crate) mod outgoing;
pub(crate) mod owners;
pub(crate) mod pending_calls;
pub(crate) mod pending_requests;
pub(crate) mod queue;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod responder;
pub(crate) mod running_calls;
pub(crate) mod scope;
pub(crate) mod serial;
pub(crate) mod service_entry;
pub(crate) mod service_wait;
pub(crate) mod session;
pub(crate) mod start_queue;
pub(crate) mod state;
pub(crate) mod subscriptions;
pub(crate) mod terms;
pub(crate) mod unanswered;
pub(crate) mod upload;
pub(crate) mod upload_reader;
pub(crate) mod upload_sender;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use gsb_net::{Link, LogLimit};
use gsb_proto::LEVEL;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;
use uuid::Uuid;

use crate::engine::changes::{ChangeNotifier, Changes, wait_until};
use crate::engine::deferred::Deferred;
use crate::engine::farewell::{MOMENT, Sending};
use crate::engine::intake::CallIntake;
use crate::engine::refusal::too_many_calls;
use crate::engine::running_calls::RunningCalls;
use crate::engine::scope::Scope;
use crate::engine::service_entry::RunningCall;
use crate::engine::session::Session;
use crate::engine::start_queue::StartQueue;
use crate::engine::state::{Phase, State};
use crate::error::{Error, LostReason};
use crate::options::Options;
use crate::status::{Connection, RouterInfo, Status};

/// What all handles and tasks of a bus share: the state behind its lock, and what wakes the tasks.
///
/// No code of users runs while the state is locked: [`Deferred`] wakes tasks and drops handlers after the lock is
/// released, because both may call the bus.
pub(crate) struct Engine {
    options: Options,
    has_router: bool,
    instance_id: Uuid,
    /// Makes the request ids of this client unique among all clients, so that routers need not replace them.
    id_prefix: String,
    last_call: AtomicU64,
    /// Largest message that the router accepts, in bytes. The [`Session`] has the same value; this one is read
    /// without the lock.
    max_frame: AtomicUsize,
    /// The level of the protocol extensions that the router of the last connection supports, as in the [`Session`].
    level: AtomicU32,
    state: Mutex<State>,
    changes: ChangeNotifier,
    /// The state holds changes that [`notify_batched`](Engine::notify_batched) has to report.
    has_batched_changes: AtomicBool,
    /// The router has said that the connection is going to end.
    has_farewell: AtomicBool,
    /// How many callers wait for a connection.
    connection_waiters: AtomicUsize,
    /// A caller has begun to wait for a connection.
    connection_wanted: Notify,
    /// The last handle was dropped, or the bus has ended.
    finish: Notify,
    /// The time of the next retry of a refused name has changed.
    retry: Notify,
    /// A destructor has queued a frame, which the connection's task writes.
    flush_wanted: Notify,
    /// A service was registered here, or the bus has ended.
    services_changed: Notify,
    /// Counts the calls whose handlers run.
    running_calls: Arc<RunningCalls>,
    /// Starts the handlers of pushes in order.
    start_queue: Arc<StartQueue>,
    /// For names that the router refuses.
    refusal_log: LogLimit,
    /// For events that the router has dropped.
    missed_log: LogLimit,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bus").field(&self.state.lock().connection).finish()
    }
}

/// Counts a caller that waits for a connection, until it is dropped.
struct ConnectionWaiter<'a>(&'a Engine);

impl<'a> ConnectionWaiter<'a> {
    fn new(engine: &'a Engine) -> Self {
        engine.connection_waiters.fetch_add(1, Ordering::SeqCst);
        engine.connection_wanted.notify_waiters();
        ConnectionWaiter(engine)
    }
}

impl Drop for ConnectionWaiter<'_> {
    fn drop(&mut self) {
        self.0.connection_waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Engine {
    /// An engine that is not connected yet, or has no router at all.
    pub(crate) fn new(options: Options, has_router: bool) -> Self {
        let instance_id = Uuid::new_v4();
        let id_prefix = instance_id.simple().to_string()[..8].to_owned();
        let state = State::new(has_router, options.reconnect.clone().unwrap_or_default());
        Engine {
            has_router,
            instance_id,
            id_prefix,
            last_call: AtomicU64::new(0),
            max_frame: AtomicUsize::new(options.max_frame),
            level: AtomicU32::new(LEVEL),
            options,
            state: Mutex::new(state),
            changes: ChangeNotifier::default(),
            has_batched_changes: AtomicBool::new(false),
            has_farewell: AtomicBool::new(false),
            connection_waiters: AtomicUsize::new(0),
            connection_wanted: Notify::new(),
            finish: Notify::new(),
            retry: Notify::new(),
            flush_wanted: Notify::new(),
            services_changed: Notify::new(),
            running_calls: Arc::default(),
            start_queue: Arc::default(),
            refusal_log: LogLimit::default(),
            missed_log: LogLimit::default(),
        }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn has_router(&self) -> bool {
        self.has_router
    }

    pub(crate) fn running_calls(&self) -> &Arc<RunningCalls> {
        &self.running_calls
    }

    pub(crate) fn start_queue(&self) -> &Arc<StartQueue> {
        &self.start_queue
    }

    /// Waits until a service is registered here, or the bus ends.
    pub(crate) fn services_changed(&self) -> Notified<'_> {
        self.services_changed.notified()
    }

    /// Changes the state, and does the deferred work after the lock is released.
    fn change<R>(&self, change: impl FnOnce(&mut State, &mut Deferred) -> R) -> R {
        let mut deferred = Deferred::default();
        let (result, changes) = self.change_locked(&mut deferred, change);
        if deferred.retry_changed {
            self.retry.notify_one();
        }
        for refused in std::mem::take(&mut deferred.refused) {
            self.log_refusal(&refused);
        }
        deferred.run();
        self.changes.notify(changes);
        self.look_again();
        result
    }

    /// [`change`](Engine::change) for destructors, which do no I/O: the connection's task writes what was queued.
    /// It also closes the connection if the bus has ended.
    fn change_in_destructor<R>(&self, change: impl FnOnce(&mut State, &mut Deferred) -> R) -> R {
        let mut deferred = Deferred::default();
        let (result, changes) = self.change_locked(&mut deferred, change);
        if deferred.flush.take().is_some() {
            self.flush_soon();
        }
        deferred.close = None;
        deferred.run();
        self.changes.notify(changes);
        self.look_again();
        result
    }

    /// Changes the state. Returns also what tasks are to be notified of.
    fn change_locked<R>(
        &self,
        deferred: &mut Deferred,
        change: impl FnOnce(&mut State, &mut Deferred) -> R,
    ) -> (R, Option<Changes>) {
        let mut state = self.state.lock();
        let result = change(&mut state, deferred);
        if !deferred.status_changed {
            return (result, None);
        }
        state.note_changes();
        if deferred.notify_later {
            self.has_batched_changes.store(true, Ordering::Relaxed);
            return (result, None);
        }
        (result, Some(std::mem::take(&mut state.unreported)))
    }

    /// Notifies the tasks that wait for changes which were [left for later](Deferred::notify_later).
    fn notify_batched(&self) {
        if self.has_batched_changes.load(Ordering::Relaxed) {
            self.has_batched_changes.store(false, Ordering::Relaxed);
            let changes = std::mem::take(&mut self.state.lock().unreported);
            self.changes.notify(Some(changes));
        }
    }

    /// Makes the connection's task write queued frames.
    fn flush_soon(&self) {
        self.flush_wanted.notify_one();
    }

    /// Notifies the tasks that wait for a change of the bus.
    pub(crate) fn changes(&self) -> &ChangeNotifier {
        &self.changes
    }

    pub(crate) fn status(&self) -> Status {
        self.state.lock().status()
    }

    /// The status and its version. Versions grow.
    pub(crate) fn versioned_status(&self) -> (u64, Status) {
        let state = self.state.lock();
        (state.version, state.status())
    }

    /// The version of the status, and whether the bus has ended, so that no later version follows.
    pub(crate) fn status_version(&self) -> (u64, bool) {
        let state = self.state.lock();
        (state.version, state.has_ended())
    }

    /// Waits until the router has answered for every name, or the bus has ended. Returns the connection then.
    pub(crate) async fn settled(&self) -> Connection {
        let is_settled = || {
            let state = self.state.lock();
            (state.has_ended() || state.is_settled()).then(|| state.connection.clone())
        };
        wait_until(&self.changes.names, is_settled).await
    }

    /// Waits until the bus has ended. Returns why.
    pub(crate) async fn ended(&self) -> LostReason {
        let reason = || match &self.state.lock().phase {
            Phase::Ended(reason) => Some(reason.clone()),
            _ => None,
        };
        wait_until(&self.changes.connection, reason).await
    }

    /// Whether the bus has ended for good.
    fn has_ended(&self) -> bool {
        self.state.lock().has_ended()
    }

    /// The error of a request that could not be sent within `after`.
    pub(crate) fn not_sent(&self, sending: Sending, after: Duration) -> Error {
        match self.state.lock().link_for(sending, self.running_calls.bus()) {
            Ok(_) => Error::NotSent(LostReason::NothingTaken(after)),
            Err(error) => error,
        }
    }

    /// The link to the router. Without a connection, waits for one until `deadline`.
    pub(crate) async fn link(
        &self,
        sending: &mut Sending,
        deadline: Option<Instant>,
    ) -> Result<Arc<Link>, Error> {
        let bus = self.running_calls.bus();
        let link = |sending| self.state.lock().link_for(sending, bus).cloned();
        let is_call = *sending != Sending::Other;
        let Some(deadline) = deadline else {
            if is_call {
                *sending = Sending::DelayedCall;
            }
            return link(*sending);
        };
        if is_call {
            *sending = Sending::Call;
        }
        let first = *sending;
        let mut connected = pin!(wait_until(&self.changes.connection, || {
            let link = link(first);
            let is_awaited = matches!(link, Err(Error::NotSent(_))) && !self.has_ended();
            (!is_awaited).then_some(link)
        }));
        let _waiter = ConnectionWaiter::new(self);
        if is_call && self.has_farewell.load(Ordering::SeqCst) {
            let moment = deadline.min(Instant::now() + MOMENT);
            if let Ok(connected) = tokio::time::timeout_at(moment, &mut connected).await {
                return connected;
            }
            if let Ok(link) = link(Sending::DelayedCall) {
                *sending = Sending::DelayedCall;
                return Ok(link);
            }
        }
        let connected = tokio::time::timeout_at(deadline, connected).await;
        connected.unwrap_or_else(|_| link(first))
    }

    /// Waits until a caller waits for a connection.
    async fn connection_wanted(&self) {
        loop {
            let mut wanted = pin!(self.connection_wanted.notified());
            wanted.as_mut().enable();
            if self.connection_waiters.load(Ordering::SeqCst) > 0 {
                return;
            }
            wanted.await;
        }
    }

    /// A connection is being made.
    fn connecting(&self, failures: u32) {
        self.change(|state, deferred| state.connecting(failures, deferred));
    }

    /// A connection was made. `false` if the bus has ended.
    fn connected(&self, link: &Arc<Link>, router: RouterInfo) -> bool {
        let max_frame = router
            .max_frame
            .map_or(self.options.max_frame, |limit| limit.min(self.options.max_frame));
        self.max_frame.store(max_frame, Ordering::Relaxed);
        self.level.store(router.level, Ordering::Relaxed);
        self.has_farewell.store(false, Ordering::SeqCst);
        let session = Session::new(link.clone(), self.options.framing, &router, max_frame);
        self.change(|state, deferred| state.connected(session, router, deferred))
    }

    /// The calls that come over the connection are admitted by `intake`.
    fn takes_calls(&self, intake: &Arc<CallIntake>) {
        self.state.lock().with_session(|session| session.intake = Arc::downgrade(intake));
    }

    /// The connection is lost, or could not be made. The next attempt follows after `retry_in`.
    fn disconnected(&self, reason: &LostReason, retry_in: Duration) {
        self.change(|state, deferred| state.disconnected(reason, retry_in, deferred));
    }

    /// How far a call of this scope may go.
    fn reach(&self, scope: Scope) -> Scope {
        if self.has_router { scope } else { Scope::InProcess }
    }

    /// Begins a call to the service of this process that serves an address. `None` if the call goes to the router.
    pub(crate) fn find(
        &self,
        address: &str,
        scope: Scope,
        affinity: &str,
    ) -> Result<Option<RunningCall>, Error> {
        let reach = self.reach(scope);
        let state = self.state.lock();
        if let Some(owners) = state.services.lookup(address) {
            let Some(service) = owners.choose(reach, affinity) else {
                return Ok(None);
            };
            return match service.clone().enter() {
                Ok(running) => Ok(Some(running)),
                // Another task was faster. An owner in another process may have room.
                Err(_) if owners.may_be_elsewhere(reach) => Ok(None),
                Err(service) => Err(Error::Busy {
                    address: address.to_owned(),
                    message: too_many_calls(service.limit()),
                }),
            };
        }
        state.check()?;
        if reach == Scope::Everywhere {
            return Ok(None);
        }
        let message = "no service in this process has this name".to_owned();
        Err(Error::NoSuchService { address: address.to_owned(), message })
    }

    /// Whether a call that was [not found](Engine::find) a service for ends here now: a service of this process gets
    /// it, or the bus has ended.
    pub(crate) fn is_decided_here(&self, address: &str, scope: Scope, affinity: &str) -> bool {
        let state = self.state.lock();
        match state.services.lookup(address) {
            Some(owners) => owners.choose(self.reach(scope), affinity).is_some(),
            None => state.has_ended(),
        }
    }
}

#[cfg(test)]
#[path = "engine/destructor_tests.rs"]
mod destructor_tests;
