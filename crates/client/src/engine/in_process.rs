//! Calls within the process. A handler runs as a part of its caller's future: nothing is copied, queued or passed to
//! another task, and dropping the call drops the handler.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{BoxFuture, Either};
use futures::stream::BoxStream;
use futures::{FutureExt as _, SinkExt as _, Stream, StreamExt as _};
use tokio::runtime::Handle;
use tokio::task::coop;
use tokio::time::Sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::call::Call;
use crate::engine::call_control::CallControl;
use crate::engine::nesting::{BusId, MAX_DEPTH, Nested, depth};
use crate::engine::refusal::DROPPED;
use crate::engine::running_calls::Stopped;
use crate::engine::service_entry::{Handler, RunningCall, ServiceEntry, only_pushes, run_to_end};
use crate::engine::start_queue::StartQueue;
use crate::error::Error;
use crate::failure::Failure;
use crate::message::Message;
use crate::panics::{contain, discard};
use crate::reply::Reply;

/// Whether a handler should run in a task of its own: handlers are nested deeply, and there is a runtime.
fn is_deep() -> bool {
    depth() >= MAX_DEPTH && Handle::try_current().is_ok()
}

/// The target of a call. Its address is formatted only when it is needed, for an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    address: &'a str,
    /// The last segment of the address, if `address` does not include it.
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

/// The handler has panicked. The values that it was working on are dropped with it, so that no code sees them half
/// changed.
struct Panicked;

impl Panicked {
    fn with(payload: Box<dyn Any + Send>) -> Self {
        discard(payload);
        Panicked
    }

    /// The error of a call to `target`.
    fn into_error(self, service: &ServiceEntry, target: impl ToString) -> Error {
        log::error!("the handler of the service {} panicked", service.id);
        Failure::panicked().into_error(&target.to_string())
    }
}

/// Runs a handler function for a call to `target`, and catches its panic.
pub(crate) fn begin<T>(
    running: &RunningCall,
    target: Target<'_>,
    handler: impl FnOnce() -> T,
) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(handler))
        .map_err(|payload| Panicked::with(payload).into_error(running.service(), target))
}

/// The future of a handler, with the timeout of its call. It is the only layer between a caller and a handler, and is
/// written by hand so that it stays small.
pub(crate) struct HandlerFuture<'a, T: Send + 'static> {
    /// `None` after the handler has ended.
    running: Option<RunningHandler<BoxFuture<'static, T>>>,
    target: Target<'a>,
    timeout: Option<Duration>,
    /// Set when the handler has to wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// Set when the handler has to wait. It ends when the bus shuts down.
    stopped: Option<Stopped>,
}

impl<'a, T: Send + 'static> HandlerFuture<'a, T> {
    /// `control` is `None` if the handler knows nothing of its call.
    pub(crate) fn new(
        call: RunningCall,
        control: Option<Arc<CallControl>>,
        target: Target<'a>,
        timeout: Option<Duration>,
        handler: BoxFuture<'static, T>,
    ) -> Self {
        let handler = if is_deep() { in_own_task(handler).boxed() } else { handler };
        let running = Some(RunningHandler { handler, call, control });
        HandlerFuture { running, target, timeout, timer: None, stopped: None }
    }
}

/// A handler that runs as a part of its caller: a future or a stream.
struct RunningHandler<H> {
    handler: H,
    call: RunningCall,
    control: Option<Arc<CallControl>>,
}

impl<H: Send + 'static> RunningHandler<H> {
    fn is_detached(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.is_detached())
    }

    /// The caller has gone: the handler is dropped, unless it is detached. Then a task runs it to its end with `finish`.
    fn abandon<F>(self, finish: impl FnOnce(H) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let is_detached = self.is_detached();
        let RunningHandler { handler, mut call, control } = self;
        if let Some(control) = control {
            control.cancel();
        }
        // Without a runtime nothing can go on.
        if is_detached && let Ok(runtime) = Handle::try_current() {
            call.release();
            let bus = call.bus();
            let finished = finish(handler);
            let task = async move {
                finished.await;
                drop(call);
            };
            runtime.spawn(Nested::future(bus, task));
        } else {
            contain("the destructor of a handler", || drop(handler));
        }
    }

    /// The bus shuts down: tells the handler. Returns whether it has to be dropped.
    fn stop(&self) -> bool {
        if let Some(control) = &self.control {
            control.cancel();
        }
        !self.is_detached()
    }
}

impl<T: Send + 'static> Drop for HandlerFuture<'_, T> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abandon(|handler| handler.map(drop));
        }
    }
}

/// Runs a future in a task of its own, which ends with this future.
async fn in_own_task<T: Send + 'static>(future: BoxFuture<'static, T>) -> T {
    match AbortOnDropHandle::new(tokio::spawn(future)).await {
        Ok(result) => result,
        // Passes a panic on. A runtime that shuts down is treated as a panic, too: there is no result.
        Err(error) => resume_unwind(error.try_into_panic().unwrap_or_else(|error| Box::new(error))),
    }
}

impl<T: Send + 'static> Future for HandlerFuture<'_, T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A task that calls without a pause must not starve the others.
        let budget = ready!(coop::poll_proceed(cx));
        let this = self.get_mut();
        let Some(running) = &mut this.running else {
            return Poll::Pending;
        };
        let polled = {
            let _nested = Nested::enter(running.call.bus());
            catch_unwind(AssertUnwindSafe(|| running.handler.poll_unpin(cx)))
        };
        match polled {
            Ok(Poll::Ready(result)) => {
                budget.made_progress();
                this.running = None;
                return Poll::Ready(Ok(result));
            }
            Ok(Poll::Pending) => {}
            Err(payload) => {
                let error = Panicked::with(payload).into_error(running.call.service(), this.target);
                this.running = None;
                return Poll::Ready(Err(error));
            }
        }
        let stopped = this.stopped.get_or_insert_with(|| running.call.running_calls().stopped());
        if stopped.poll_unpin(cx).is_ready() && running.stop() {
            return Poll::Ready(Err(shut_down(this.target)));
        }
        let Some(after) = this.timeout else {
            return Poll::Pending;
        };
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(Error::Timeout { target: this.target.to_string(), after }))
    }
}

/// The error of a call whose handler was dropped by a shutdown.
fn shut_down(target: impl ToString) -> Error {
    Error::Cancelled { address: target.to_string(), message: DROPPED.to_owned() }
}

/// Calls a service of bytes and waits for its reply.
pub(crate) async fn call(
    running: RunningCall,
    address: &str,
    timeout: Option<Duration>,
    call: Call,
) -> Result<Reply, Error> {
    let target = Target::from(address);
    let control = Some(call.context.control.clone());
    let reply = match &running.service().handler {
        Handler::Reply(handler) => {
            let handled = begin(&running, target, || handler(call))?;
            HandlerFuture::new(running, control, target, timeout, handled).await?
        }
        Handler::Push(_) => Err(only_pushes()),
        Handler::Stream(handler) => {
            let mut replies = begin(&running, target, || handler(call))?;
            let first = async move { replies.next().await }.boxed();
            match HandlerFuture::new(running, control, target, timeout, first).await? {
                Some(Ok(_)) => return Err(Error::IsStream { address: address.to_owned() }),
                Some(Err(failure)) => Err(failure),
                None => Ok(Reply::default()),
            }
        }
    };
    reply.map_err(|failure| failure.into_error(address))
}

/// Calls a service of bytes for a stream of replies.
pub(crate) fn stream(
    running: RunningCall,
    address: &str,
    call: Call,
) -> Result<Replies<Result<Reply, Failure>>, Error> {
    let target = Target::from(address);
    let control = Some(call.context.control.clone());
    match begin(&running, target, || running.service().handler.replies(call))? {
        Ok(replies) => Ok(Replies::new(running, control, target, replies)),
        Err(failure) => Err(failure.into_error(address)),
    }
}

/// Starts the handler of a push, after those of earlier pushes.
pub(crate) fn push(queue: &Arc<StartQueue>, running: RunningCall, call: Call) {
    let (service, control) = (running.service().clone(), call.context.control.clone());
    start_push(queue, running, control, move || service.handler.push(call));
}

/// Runs the future that `begin` returns in a task, which starts after those of earlier pushes.
pub(crate) fn start_push(
    queue: &Arc<StartQueue>,
    running: RunningCall,
    control: Arc<CallControl>,
    begin: impl FnOnce() -> BoxFuture<'static, ()> + Send + 'static,
) {
    let bus = running.bus();
    // The handler of a serial service queues for its turn now, before later calls do.
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
        let handled = tokio::select! {
            biased;
            handled = AssertUnwindSafe(handled).catch_unwind() => handled,
            () = running.stopped(&control) => return,
        };
        if let Err(payload) = handled {
            discard(payload);
            log::error!("the handler of the service {} panicked", running.service().id);
        }
    };
    queue.push(Nested::future(bus, task).boxed());
}

/// The replies of a streaming handler. Each is made when the reader asks for it.
pub(crate) struct Replies<T: Send + 'static> {
    /// `None` after the last item, so that the call no longer counts as running even if the reader keeps the stream.
    running: Option<RunningHandler<BoxStream<'static, Result<T, Panicked>>>>,
    address: String,
    /// Set when the handler has to wait. It ends when the bus shuts down.
    stopped: Option<Stopped>,
    /// Makes the items if handlers are nested deeply. Ends with this stream.
    _task: Option<AbortOnDropHandle<()>>,
}

impl<T: Send + 'static> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Replies<T> {
    /// `control` is `None` if the handler knows nothing of its call.
    pub(crate) fn new(
        mut call: RunningCall,
        control: Option<Arc<CallControl>>,
        target: Target<'_>,
        items: impl Stream<Item = T> + Send + 'static,
    ) -> Self {
        let items = AssertUnwindSafe(items).catch_unwind().boxed();
        let guarded = Guarded { items: Some(items), bus: call.bus() };
        let (handler, task) = match is_deep() {
            false => (guarded.boxed(), None),
            true => {
                let (mut sender, receiver) = mpsc::channel(0);
                let forward = async move {
                    let mut items = guarded.map(Ok);
                    // An error means that the reader is gone.
                    let _ = sender.send_all(&mut items).await;
                };
                (receiver.boxed(), Some(AbortOnDropHandle::new(tokio::spawn(forward))))
            }
        };
        call.hold();
        let running = Some(RunningHandler { handler, call, control });
        Replies { running, address: target.to_string(), stopped: None, _task: task }
    }

    /// Drops the handler, because the bus shuts down.
    fn shut_down(&mut self) -> Error {
        if let Some(running) = self.running.take() {
            running.abandon(|_| async {});
        }
        shut_down(&self.address)
    }
}

impl<T: Send + 'static> Drop for Replies<T> {
    fn drop(&mut self) {
        let task = self._task.take();
        if let Some(running) = self.running.take() {
            running.abandon(|items| async move {
                let _task = task;
                run_to_end(items).await;
            });
        }
    }
}

/// A stream of a handler that ends with its first panic, and counts as a nested handler while it is polled.
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

impl<T: Send + 'static> Stream for Replies<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let budget = ready!(coop::poll_proceed(cx));
        let this = &mut *self;
        let Some(running) = &mut this.running else {
            return Poll::Ready(None);
        };
        // Its items may all be ready.
        if running.call.running_calls().is_stopped() && running.stop() {
            return Poll::Ready(Some(Err(this.shut_down())));
        }
        let result = match running.handler.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(item))) => {
                budget.made_progress();
                return Poll::Ready(Some(Ok(item)));
            }
            Poll::Ready(None) => None,
            Poll::Ready(Some(Err(panicked))) => {
                Some(Err(panicked.into_error(running.call.service(), &this.address)))
            }
            Poll::Pending => {
                let stopped =
                    this.stopped.get_or_insert_with(|| running.call.running_calls().stopped());
                ready!(stopped.poll_unpin(cx));
                return match running.stop() {
                    true => Poll::Ready(Some(Err(this.shut_down()))),
                    false => Poll::Pending,
                };
            }
        };
        budget.made_progress();
        this.running = None;
        Poll::Ready(result)
    }
}

#[cfg(test)]
#[path = "in_process_tests.rs"]
mod tests;
