//! Calls that do not leave the process. A handler runs as a part of whoever calls it: nothing is
//! copied, queued or handed to another task, and dropping the call drops the handler.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::future::{BoxFuture, Either};
use futures::stream::BoxStream;
use futures::{FutureExt as _, SinkExt as _, Stream, StreamExt as _};
use tokio::runtime::Handle;
use tokio::task::coop;
use tokio::time::Sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Failure};
use crate::intake::too_many_calls;
use crate::nesting::{BusId, MAX_DEPTH, Nested, depth};
use crate::panics::discard;
use crate::services::{Call, Handler, Running, ServiceEntry, only_pushes};
use crate::start_queue::StartQueue;
use crate::typed::Message;

/// Whether a handler should get a task of its own, where there can be one.
fn is_deep() -> bool {
    depth() >= MAX_DEPTH && Handle::try_current().is_ok()
}

/// What is called; becomes an address when somebody wants to read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    address: &'a str,
    /// The last segment of the address, if it is not in there.
    message: Option<&'static str>,
}

impl<'a> Target<'a> {
    /// A message to a service.
    pub(crate) fn message<M: Message>(service_id: &'a str) -> Self {
        Target { address: service_id, message: Some(M::ID) }
    }
}

impl<'a> From<&'a str> for Target<'a> {
    fn from(address: &'a str) -> Self {
        Target { address, message: None }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.address)?;
        match self.message {
            None => Ok(()),
            Some(message) => write!(f, "/{message}"),
        }
    }
}

/// The handler has panicked. What it was working on is dropped with it, so nobody sees anything half
/// done.
struct Panicked;

impl Panicked {
    fn with(payload: Box<dyn Any + Send>) -> Self {
        discard(payload);
        Panicked
    }

    /// The error of a call to `target`.
    fn into_error(self, service: &ServiceEntry, target: impl ToString) -> Error {
        log::error!("the handler of {} has panicked", service.id);
        Failure::panicked().into_error(&target.to_string())
    }
}

/// Begins a call to `target`.
pub(crate) fn enter(service: Arc<ServiceEntry>, target: Target<'_>) -> Result<Running, Error> {
    service.enter().map_err(|service| Error::Busy {
        address: target.to_string(),
        message: too_many_calls(service.limit()),
    })
}

/// Lets a handler begin with a call to `target`.
pub(crate) fn begin<T>(
    running: &Running,
    target: Target<'_>,
    handler: impl FnOnce() -> T,
) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(handler))
        .map_err(|payload| Panicked::with(payload).into_error(running.service(), target))
}

/// Waits for what a handler does, but no longer than a call may take. It is one flat future, because
/// it is all that there is between a caller and a handler.
pub(crate) struct Handled<'a, T> {
    handler: BoxFuture<'static, T>,
    running: Running,
    target: Target<'a>,
    timeout: Option<Duration>,
    /// Made when the handler has to wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a, T: Send + 'static> Handled<'a, T> {
    pub(crate) fn new(
        running: Running,
        target: Target<'a>,
        timeout: Option<Duration>,
        handler: BoxFuture<'static, T>,
    ) -> Self {
        let handler = if is_deep() { elsewhere(handler).boxed() } else { handler };
        Handled { handler, running, target, timeout, timer: None }
    }
}

/// Lets a task of its own do it. It ends with this future.
async fn elsewhere<T: Send + 'static>(future: BoxFuture<'static, T>) -> T {
    match AbortOnDropHandle::new(tokio::spawn(future)).await {
        Ok(result) => result,
        // A panic is passed on; and if its runtime shuts down, it will not have a result either.
        Err(error) => resume_unwind(error.try_into_panic().unwrap_or_else(|error| Box::new(error))),
    }
}

impl<T> Future for Handled<'_, T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Whoever always has something to call must not keep everybody else from running.
        let budget = ready!(coop::poll_proceed(cx));
        let this = self.get_mut();
        let polled = {
            let _nested = Nested::enter(this.running.bus());
            catch_unwind(AssertUnwindSafe(|| this.handler.poll_unpin(cx)))
        };
        match polled {
            Ok(Poll::Ready(result)) => {
                budget.made_progress();
                return Poll::Ready(Ok(result));
            }
            Ok(Poll::Pending) => {}
            Err(payload) => {
                let error = Panicked::with(payload).into_error(this.running.service(), this.target);
                return Poll::Ready(Err(error));
            }
        }
        let Some(after) = this.timeout else {
            return Poll::Pending;
        };
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(Error::Timeout { target: this.target.to_string(), after }))
    }
}

/// Calls a service of bytes and waits for its reply.
pub(crate) async fn call(
    service: Arc<ServiceEntry>,
    address: &str,
    timeout: Option<Duration>,
    call: Call,
) -> Result<Bytes, Error> {
    let target = Target::from(address);
    let running = enter(service, target)?;
    let reply = match &running.service().handler {
        Handler::Reply(handler) => {
            let handled = begin(&running, target, || handler(call))?;
            Handled::new(running, target, timeout, handled).await?
        }
        Handler::Push(_) => Err(only_pushes()),
        Handler::Stream(handler) => {
            let mut replies = begin(&running, target, || handler(call))?;
            let first = async move { replies.next().await }.boxed();
            match Handled::new(running, target, timeout, first).await? {
                Some(Ok(_)) => return Err(Error::IsStream { address: address.to_owned() }),
                Some(Err(failure)) => Err(failure),
                None => Ok(Bytes::new()),
            }
        }
    };
    reply.map_err(|failure| failure.into_error(address))
}

/// Calls a service of bytes for a stream of replies.
pub(crate) fn stream(
    service: Arc<ServiceEntry>,
    address: &str,
    call: Call,
) -> Result<Replies<Result<Bytes, Failure>>, Error> {
    let target = Target::from(address);
    let running = enter(service, target)?;
    match begin(&running, target, || running.service().handler.replies(call))? {
        Ok(replies) => Ok(Replies::new(running, target, replies)),
        Err(failure) => Err(failure.into_error(address)),
    }
}

/// Hands a call that wants no reply to a task that starts after those of the pushes before.
pub(crate) fn push(
    queue: &Arc<StartQueue>,
    service: Arc<ServiceEntry>,
    address: &str,
    call: Call,
) -> Result<(), Error> {
    let running = enter(service, Target::from(address))?;
    let service = running.service().clone();
    start_push(queue, running, move || service.handler.push(call));
    Ok(())
}

/// Lets a task do what follows from a push, when the tasks of the pushes before have started.
pub(crate) fn start_push(
    queue: &Arc<StartQueue>,
    running: Running,
    begin: impl FnOnce() -> BoxFuture<'static, ()> + Send + 'static,
) {
    let bus = running.bus();
    // What takes turns queues for its turn now, so that no call that comes later is before it.
    let begun = match running.service().is_serial() {
        true => Either::Left(begin()),
        false => Either::Right(begin),
    };
    let task = async move {
        let handled = async move {
            match begun {
                Either::Left(handled) => handled.await,
                Either::Right(begin) => begin().await,
            }
        };
        if let Err(payload) = AssertUnwindSafe(handled).catch_unwind().await {
            discard(payload);
            log::error!("the handler of {} has panicked", running.service().id);
        }
    };
    queue.push(Nested::future(bus, task).boxed());
}

/// What a handler answers, as it is made: nothing is made before it is asked for.
pub(crate) struct Replies<T> {
    items: BoxStream<'static, Result<T, Panicked>>,
    running: Option<Running>,
    address: String,
    /// Makes the items if it was called too deeply; ends with this.
    _task: Option<AbortOnDropHandle<()>>,
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Replies<T> {
    pub(crate) fn new(
        running: Running,
        target: Target<'_>,
        items: impl Stream<Item = T> + Send + 'static,
    ) -> Self {
        let items = AssertUnwindSafe(items).catch_unwind().boxed();
        let guarded = Guarded { items: Some(items), bus: running.bus() };
        let (items, task) = match is_deep() {
            false => (guarded.boxed(), None),
            true => {
                let (mut sender, receiver) = mpsc::channel(0);
                let forward = async move {
                    let mut items = guarded.map(Ok);
                    // An error means that nobody is there any more.
                    let _ = sender.send_all(&mut items).await;
                };
                (receiver.boxed(), Some(AbortOnDropHandle::new(tokio::spawn(forward))))
            }
        };
        Replies { items, running: Some(running), address: target.to_string(), _task: task }
    }
}

/// Items, each made while it is known how deep they are, up to a panic.
struct Guarded<T> {
    items: Option<BoxStream<'static, Result<T, Box<dyn Any + Send>>>>,
    bus: BusId,
}

impl<T> Stream for Guarded<T> {
    type Item = Result<T, Panicked>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let bus = self.bus;
        let Some(items) = &mut self.items else {
            return Poll::Ready(None);
        };
        let item = {
            let _nested = Nested::enter(bus);
            ready!(items.poll_next_unpin(cx))
        };
        if !matches!(item, Some(Ok(_))) {
            self.items = None;
        }
        Poll::Ready(item.map(|item| item.map_err(Panicked::with)))
    }
}

impl<T> Stream for Replies<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let budget = ready!(coop::poll_proceed(cx));
        let item = ready!(self.items.poll_next_unpin(cx));
        budget.made_progress();
        let result = match item {
            Some(Ok(item)) => return Poll::Ready(Some(Ok(item))),
            // The last item, also if the stream is kept: the service is free.
            None => None,
            Some(Err(panicked)) => {
                let running = self.running.as_ref();
                running.map(|running| Err(panicked.into_error(running.service(), &self.address)))
            }
        };
        self.running = None;
        Poll::Ready(result)
    }
}

#[cfg(test)]
#[path = "in_process_tests.rs"]
mod tests;
