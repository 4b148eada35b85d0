//! A registered service: its handler, and the limit on its concurrent calls.

use std::any::Any;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use gsb_net::LogLimit;
use gsb_proto::ServiceId;

use crate::call::Call;
use crate::engine::call_control::CallControl;
use crate::engine::nesting::BusId;
use crate::engine::running_calls::RunningCalls;
use crate::engine::scope::Scope;
use crate::engine::terms::Terms;
use crate::failure::Failure;
use crate::panics::contain;
use crate::reply::Reply;

/// A handler that answers a call once.
pub(crate) type ReplyFn =
    Box<dyn Fn(Call) -> BoxFuture<'static, Result<Reply, Failure>> + Send + Sync>;

/// A handler that answers a call with a stream.
pub(crate) type StreamFn =
    Box<dyn Fn(Call) -> BoxStream<'static, Result<Reply, Failure>> + Send + Sync>;

/// A handler that answers nothing.
pub(crate) type PushFn = Box<dyn Fn(Call) -> BoxFuture<'static, ()> + Send + Sync>;

/// The handler of a service, which runs for each call.
pub(crate) enum Handler {
    Reply(ReplyFn),
    Stream(StreamFn),
    Push(PushFn),
}

impl Handler {
    /// The same handler, which runs in a span for each call.
    pub(crate) fn in_spans(self) -> Self {
        match self {
            Handler::Reply(handler) => Handler::Reply(Box::new(move |call| call.in_span(&handler))),
            Handler::Stream(handler) => {
                Handler::Stream(Box::new(move |call| call.in_span(&handler)))
            }
            Handler::Push(handler) => Handler::Push(Box::new(move |call| call.in_span(&handler))),
        }
    }

    /// Handles a push. A reply of the handler is dropped.
    pub(crate) fn push(&self, call: Call) -> BoxFuture<'static, ()> {
        match self {
            Handler::Push(handler) => handler(call),
            Handler::Reply(handler) => handler(call).map(drop).boxed(),
            Handler::Stream(handler) => {
                let is_ok = |reply: &Result<Reply, Failure>| std::future::ready(reply.is_ok());
                run_to_end(handler(call).take_while(is_ok)).boxed()
            }
        }
    }

    /// The replies to a call, as a stream. A handler that answers once gives one reply, or none if its reply is empty,
    /// as it would over a router.
    pub(crate) fn replies(
        &self,
        call: Call,
    ) -> Result<impl Stream<Item = Result<Reply, Failure>> + Send + use<>, Failure> {
        match self {
            Handler::Push(_) => Err(only_pushes()),
            Handler::Stream(handler) => Ok(handler(call)),
            Handler::Reply(handler) => {
                let is_something = |reply: &Result<Reply, Failure>| {
                    std::future::ready(!matches!(reply, Ok(reply) if reply.is_empty()))
                };
                Ok(stream::once(handler(call)).filter(is_something).boxed())
            }
        }
    }
}

/// Runs a stream whose items go nowhere. It does not keep other tasks from running, also if all items are ready.
pub(crate) async fn run_to_end(mut items: impl Stream + Unpin) {
    while items.next().await.is_some() {
        tokio::task::coop::consume_budget().await;
    }
}

/// The refusal of a call by a service that only takes pushes.
pub(crate) fn only_pushes() -> Failure {
    Failure::bad_request("the service takes pushes only; use `push`")
}

/// A service that is registered, or on the way.
pub(crate) struct ServiceEntry {
    pub(crate) id: ServiceId,
    pub(crate) handler: Handler,
    /// The handler of messages of one type, which takes them without encoding. Only the typed API knows its type.
    typed: Option<Box<dyn Any + Send + Sync>>,
    pub(crate) scope: Scope,
    terms: Terms,
    /// Differs from those of all other services of this process.
    serial: u64,
    /// Whether it handles one call after the other, so that its calls have to begin in order.
    is_serial: bool,
    /// Whether its handler takes the body of a request.
    takes_uploads: bool,
    /// How many calls are running.
    running: AtomicUsize,
    limit: usize,
    running_calls: Arc<RunningCalls>,
    /// Pushes that were dropped because too many calls were running.
    dropped_pushes: AtomicU64,
    drop_log: LogLimit,
}

impl fmt::Debug for ServiceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ServiceEntry {
    /// `max_running` is how many calls may run, or wait for their turn, at the same time, unless the capacity is lower.
    #[expect(clippy::too_many_arguments, reason = "it is called in one place")]
    pub(crate) fn new(
        id: ServiceId,
        handler: Handler,
        typed: Option<Box<dyn Any + Send + Sync>>,
        scope: Scope,
        terms: Terms,
        is_serial: bool,
        max_running: usize,
        running_calls: Arc<RunningCalls>,
    ) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let capacity = usize::try_from(terms.capacity).ok().filter(|&capacity| capacity > 0);
        let limit = capacity.map_or(max_running, |capacity| capacity.min(max_running));
        ServiceEntry {
            id,
            handler,
            typed,
            scope,
            terms,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            is_serial,
            takes_uploads: false,
            running: AtomicUsize::new(0),
            limit,
            running_calls,
            dropped_pushes: AtomicU64::new(0),
            drop_log: LogLimit::default(),
        }
    }

    /// Lets requests have a body.
    pub(crate) fn allow_uploads(&mut self) {
        self.takes_uploads = true;
    }

    /// Whether its handler takes the body of a request.
    pub(crate) fn takes_uploads(&self) -> bool {
        self.takes_uploads
    }

    /// Whether its calls have to begin in order.
    pub(crate) fn is_serial(&self) -> bool {
        self.is_serial
    }

    pub(crate) fn terms(&self) -> Terms {
        self.terms
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// How many calls are running.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Whether another call may run.
    pub(crate) fn has_room(&self) -> bool {
        self.running() < self.limit
    }

    /// How many calls may run at the same time.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The typed handler, if it is a `T`.
    pub(crate) fn typed<T: 'static>(&self) -> Option<&T> {
        self.typed.as_ref()?.downcast_ref()
    }

    /// Begins a call, which ends when the returned value is dropped. Returns the service if too many calls are
    /// running.
    pub(crate) fn enter(self: Arc<Self>) -> Result<RunningCall, Arc<Self>> {
        let enter = |running| (running < self.limit).then_some(running + 1);
        if self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_err() {
            return Err(self);
        }
        self.running_calls.begin();
        Ok(RunningCall { service: self, is_held: false })
    }

    /// How many pushes were [dropped](ServiceEntry::drop_push).
    pub(crate) fn dropped_pushes(&self) -> u64 {
        self.dropped_pushes.load(Ordering::Relaxed)
    }

    /// Counts a push from another process that is dropped. Its sender does not learn of it.
    pub(crate) fn drop_push(&self, why: &str) {
        let dropped = self.dropped_pushes.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(left_out) = self.drop_log.allow() {
            let id = &self.id;
            log::warn!("dropped a push to {id} ({dropped} so far): {why}{left_out}");
        }
    }
}

impl Drop for ServiceEntry {
    /// The destructors of handlers are code of users, and may run in the task of the connection.
    fn drop(&mut self) {
        let nothing = Handler::Push(Box::new(|_| Box::pin(async {})));
        let (handler, typed) = (mem::replace(&mut self.handler, nothing), self.typed.take());
        contain("the destructor of a handler", || drop(handler));
        contain("the destructor of a handler", || drop(typed));
    }
}

/// A call whose handler runs.
#[derive(Debug)]
pub(crate) struct RunningCall {
    service: Arc<ServiceEntry>,
    /// It runs only while its reader polls it.
    is_held: bool,
}

impl RunningCall {
    pub(crate) fn service(&self) -> &Arc<ServiceEntry> {
        &self.service
    }

    /// The calls that the bus of the service is handling.
    pub(crate) fn running_calls(&self) -> &Arc<RunningCalls> {
        &self.service.running_calls
    }

    /// From now on the handler runs only while a reader polls it.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
        self.running_calls().hold();
    }

    /// From now on the handler runs by itself.
    pub(crate) fn release(&mut self) {
        if mem::take(&mut self.is_held) {
            self.running_calls().release();
        }
    }

    /// Waits until the handler has to be dropped, because the bus shuts down.
    pub(crate) async fn stopped(&self, control: &CallControl) {
        self.running_calls().stopped().await;
        control.cancel();
        control.handler_ends().await;
    }

    /// The bus that the service is registered with.
    pub(crate) fn bus(&self) -> BusId {
        self.service.running_calls.bus()
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.release();
        self.service.running.fetch_sub(1, Ordering::Relaxed);
        self.service.running_calls.end();
    }
}
