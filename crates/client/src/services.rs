//! Services of this process: what serves a name, and for how many at a time.

use std::any::Any;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, stream};
use gsb_proto::ServiceId;
use tokio::sync::Notify;

use crate::bus::Scope;
use crate::error::Failure;

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

/// What runs for each call of a service.
pub(crate) enum Handler {
    Reply(Box<dyn Fn(Call) -> BoxFuture<'static, Result<Bytes, Failure>> + Send + Sync>),
    Stream(Box<dyn Fn(Call) -> BoxStream<'static, Result<Bytes, Failure>> + Send + Sync>),
    Push(Box<dyn Fn(Call) -> BoxFuture<'static, ()> + Send + Sync>),
}

impl Handler {
    /// Takes a call that wants no reply, whatever the handler would reply.
    pub(crate) async fn push(&self, call: Call) {
        match self {
            Handler::Push(handler) => handler(call).await,
            Handler::Reply(handler) => drop(handler(call).await),
            Handler::Stream(handler) => {
                let mut replies = handler(call);
                while let Some(Ok(_)) = replies.next().await {}
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
    /// Calls that are being handled.
    running: AtomicUsize,
    limit: usize,
    handling: Arc<Handling>,
}

impl fmt::Debug for ServiceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ServiceEntry {
    /// `limit` is how many calls may run at the same time.
    pub(crate) fn new(
        id: ServiceId,
        handler: Handler,
        typed: Option<Box<dyn Any + Send + Sync>>,
        scope: Scope,
        limit: usize,
        handling: Arc<Handling>,
    ) -> Self {
        ServiceEntry { id, handler, typed, scope, running: AtomicUsize::new(0), limit, handling }
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

    /// What a call is told for which there is no room.
    pub(crate) fn busy_message(&self) -> String {
        format!("{} calls are running; try again later", self.limit)
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
    /// Somebody waits for the end of all of it. Who ends something and who waits for it must not both
    /// miss what the other does, hence the one order of all these operations.
    is_awaited: AtomicBool,
    ended: Notify,
}

impl Handling {
    fn begin(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
    }

    fn end(&self) {
        let running = self.running.fetch_sub(1, Ordering::SeqCst) - 1;
        if running == 0 && self.is_awaited.load(Ordering::SeqCst) {
            self.ended.notify_waiters();
        }
    }

    /// How many calls are being handled.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Waits until nothing is being handled.
    pub(crate) async fn wait(&self) {
        self.is_awaited.store(true, Ordering::SeqCst);
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.running() == 0 {
                return;
            }
            ended.await;
        }
    }
}
