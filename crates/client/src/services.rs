//! Services of this process: what serves a name, and for how many at a time.

use std::any::Any;
use std::fmt;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use gsb_net::LogLimit;
use gsb_proto::ServiceId;
use tokio::sync::Notify;

use crate::bus::Scope;
use crate::error::Failure;
use crate::nesting::{self, BusId};
use crate::panics::{contain, contain_waker};

/// A call, as a handler gets it.
#[non_exhaustive]
pub struct Call {
    /// Who calls, as the caller states it. Nobody has checked it.
    pub caller: String,
    /// The address that was called: the service id, or something below it.
    pub address: String,
    /// The payload.
    pub data: Bytes,
    pub(crate) no_reply: bool,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("caller", &self.caller)
            .field("address", &self.address)
            .field("length", &self.data.len())
            .finish_non_exhaustive()
    }
}

impl Call {
    /// Whether somebody waits for the reply. If not, whatever the handler returns is dropped.
    pub fn wants_reply(&self) -> bool {
        !self.no_reply
    }
}

/// What answers a call once.
pub(crate) type ReplyFn =
    Box<dyn Fn(Call) -> BoxFuture<'static, Result<Bytes, Failure>> + Send + Sync>;

/// What answers a call with a stream.
pub(crate) type StreamFn =
    Box<dyn Fn(Call) -> BoxStream<'static, Result<Bytes, Failure>> + Send + Sync>;

/// What answers nothing.
pub(crate) type PushFn = Box<dyn Fn(Call) -> BoxFuture<'static, ()> + Send + Sync>;

/// What runs for each call of a service.
pub(crate) enum Handler {
    Reply(ReplyFn),
    Stream(StreamFn),
    Push(PushFn),
}

impl Handler {
    /// Takes a call that wants no reply, whatever the handler would reply.
    pub(crate) fn push(&self, call: Call) -> BoxFuture<'static, ()> {
        match self {
            Handler::Push(handler) => handler(call),
            Handler::Reply(handler) => handler(call).map(drop).boxed(),
            Handler::Stream(handler) => {
                let mut replies = handler(call);
                async move { while let Some(Ok(_)) = replies.next().await {} }.boxed()
            }
        }
    }

    /// The replies to a call, as a stream: one, if the handler answers once, or none, if what it answers
    /// is empty, as it would be behind a router.
    pub(crate) fn replies(
        &self,
        call: Call,
    ) -> Result<impl Stream<Item = Result<Bytes, Failure>> + Send + use<>, Failure> {
        match self {
            Handler::Push(_) => Err(only_pushes()),
            Handler::Stream(handler) => Ok(handler(call)),
            Handler::Reply(handler) => {
                let is_something = |reply: &Result<Bytes, Failure>| {
                    std::future::ready(!matches!(reply, Ok(data) if data.is_empty()))
                };
                Ok(stream::once(handler(call)).filter(is_something).boxed())
            }
        }
    }
}

/// The answer to a call of a service that answers nothing.
pub(crate) fn only_pushes() -> Failure {
    Failure::bad_request("this service only takes pushes; it answers nothing")
}

/// A service that is registered, or on the way.
pub(crate) struct ServiceEntry {
    pub(crate) id: ServiceId,
    pub(crate) handler: Handler,
    /// What takes messages of one type as they are, and is of a type that only they know.
    typed: Option<Box<dyn Any + Send + Sync>>,
    pub(crate) scope: Scope,
    /// Whether its handlers take turns, so that all its calls are to begin in order.
    is_serial: bool,
    /// Calls that are being handled.
    running: AtomicUsize,
    limit: usize,
    handling: Arc<Handling>,
    /// Pushes that were dropped for want of room.
    dropped_pushes: AtomicU64,
    drop_log: LogLimit,
}

impl fmt::Debug for ServiceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ServiceEntry {
    /// `limit` is how many calls may run, or wait for their turn, at the same time.
    pub(crate) fn new(
        id: ServiceId,
        handler: Handler,
        typed: Option<Box<dyn Any + Send + Sync>>,
        scope: Scope,
        is_serial: bool,
        limit: usize,
        handling: Arc<Handling>,
    ) -> Self {
        ServiceEntry {
            id,
            handler,
            typed,
            scope,
            is_serial,
            running: AtomicUsize::new(0),
            limit,
            handling,
            dropped_pushes: AtomicU64::new(0),
            drop_log: LogLimit::default(),
        }
    }

    /// Whether all its calls are to begin in order.
    pub(crate) fn is_serial(&self) -> bool {
        self.is_serial
    }

    /// How many calls may run at the same time.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// What takes messages of one type, if the service was bound to `T`.
    pub(crate) fn typed<T: 'static>(&self) -> Option<&T> {
        self.typed.as_ref()?.downcast_ref()
    }

    /// A call begins; it has ended when what this returns is dropped. Gives the service back if too many
    /// are running.
    pub(crate) fn enter(self: Arc<Self>) -> Result<Running, Arc<Self>> {
        let enter = |running| (running < self.limit).then_some(running + 1);
        if self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_err() {
            return Err(self);
        }
        self.handling.begin();
        Ok(Running { service: self })
    }

    /// How many pushes were [dropped](ServiceEntry::drop_push).
    pub(crate) fn dropped_pushes(&self) -> u64 {
        self.dropped_pushes.load(Ordering::Relaxed)
    }

    /// A push from another process is dropped, which its sender does not learn.
    pub(crate) fn drop_push(&self, why: &str) {
        let dropped = self.dropped_pushes.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(left_out) = self.drop_log.allow() {
            let id = &self.id;
            log::warn!("a push to {id} was dropped, {dropped} so far: {why}{left_out}");
        }
    }
}

impl Drop for ServiceEntry {
    /// The destructors of handlers are not ours, and this may run in the task of the connection.
    fn drop(&mut self) {
        let nothing = Handler::Push(Box::new(|_| Box::pin(async {})));
        let (handler, typed) = (mem::replace(&mut self.handler, nothing), self.typed.take());
        contain("the destructor of a handler", || drop(handler));
        contain("the destructor of a handler", || drop(typed));
    }
}

/// A call that is being handled.
#[derive(Debug)]
pub(crate) struct Running {
    service: Arc<ServiceEntry>,
}

impl Running {
    pub(crate) fn service(&self) -> &Arc<ServiceEntry> {
        &self.service
    }

    /// The bus of the service.
    pub(crate) fn bus(&self) -> BusId {
        self.service.handling.bus()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.service.running.fetch_sub(1, Ordering::Relaxed);
        self.service.handling.end();
    }
}

/// Counts what all services of a bus are handling.
#[derive(Debug, Default)]
pub(crate) struct Handling {
    running: AtomicUsize,
    /// The handlers among them that wait for the end of all others.
    asking: AtomicUsize,
    /// Somebody waits for the end of all of it. Who ends something and who waits for it must not both
    /// miss what the other does, hence the one order of all these operations.
    is_awaited: AtomicBool,
    ended: Notify,
}

/// Handlers that wait for the end of all others, until this is dropped.
struct Asking<'a> {
    handling: &'a Handling,
    handlers: usize,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.handling.asking.fetch_sub(self.handlers, Ordering::SeqCst);
    }
}

impl Handling {
    fn begin(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
    }

    fn end(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) {
            self.ended.notify_waiters();
        }
    }

    /// Tells the bus from others.
    fn bus(&self) -> BusId {
        BusId(std::ptr::from_ref(self).addr())
    }

    /// How many calls are being handled, but for the handlers that wait for the others.
    pub(crate) fn running(&self) -> usize {
        let asking = self.asking.load(Ordering::SeqCst);
        self.running.load(Ordering::SeqCst).saturating_sub(asking)
    }

    /// Notes the handlers that the caller is a part of: they wait for the end of all others, and must not
    /// be waited for.
    fn ask(&self) -> Asking<'_> {
        let handlers = nesting::handlers_of(self.bus());
        self.asking.fetch_add(handlers, Ordering::SeqCst);
        self.ended.notify_waiters();
        Asking { handling: self, handlers }
    }

    /// Waits until nothing is being handled but what waits for this itself.
    pub(crate) async fn wait(&self) {
        self.is_awaited.store(true, Ordering::SeqCst);
        let _asking = self.ask();
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.running() == 0 {
                return;
            }
            contain_waker(ended).await;
        }
    }
}
