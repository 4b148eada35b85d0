//! Calls that do not leave the process. A handler runs as a part of whoever calls it: nothing is
//! copied, queued or handed to another task, and dropping the call drops the handler.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::channel::mpsc;
use futures::stream::BoxStream;
use futures::{FutureExt as _, SinkExt as _, Stream, StreamExt as _};
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Failure};
use crate::services::{Call, Handler, Running, ServiceEntry, only_pushes};

/// How many handlers may call each other in one task. One that is called more deeply gets a task of
/// its own: whoever sends the calls must not be able to use up the stack.
const MAX_DEPTH: usize = 16;

thread_local! {
    /// How many handlers are being polled within each other on this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A handler is being polled.
struct Deeper;

impl Deeper {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Deeper
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

fn is_deep() -> bool {
    DEPTH.get() >= MAX_DEPTH
}

/// The handler has panicked.
struct Panicked;

impl Panicked {
    /// The error of a call to `address`.
    fn into_error(self, service: &ServiceEntry, address: &str) -> Error {
        log::error!("the handler of {} has panicked", service.id);
        Failure::panicked().into_error(address)
    }
}

/// Begins a call to `address`.
pub(crate) fn enter(service: &Arc<ServiceEntry>, address: &str) -> Result<Running, Error> {
    service
        .enter()
        .ok_or_else(|| Error::Busy { address: address.to_owned(), message: service.busy_message() })
}

/// Lets a handler begin with a call to `address`.
pub(crate) fn begin<T>(
    running: &Running,
    address: &str,
    handler: impl FnOnce() -> T,
) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(handler))
        .map_err(|_| Panicked.into_error(running.service(), address))
}

/// Waits for what a handler does for a call to `address`.
pub(crate) async fn run<F>(running: Running, address: &str, handled: F) -> Result<F::Output, Error>
where
    F: Future<Output: Send> + Send + 'static,
{
    let outcome = match is_deep() {
        false => guard(handled).await,
        true => match AbortOnDropHandle::new(tokio::spawn(guard(handled))).await {
            Ok(outcome) => outcome,
            // Nobody else has the handle, so its runtime is shutting down.
            Err(_) => Err(Panicked),
        },
    };
    outcome.map_err(|panicked| panicked.into_error(running.service(), address))
}

async fn guard<F: Future>(future: F) -> Result<F::Output, Panicked> {
    // What the handler was working on is dropped with it, so nobody sees anything half done.
    let mut future = pin!(AssertUnwindSafe(future).catch_unwind());
    poll_fn(|cx| {
        let _deeper = Deeper::enter();
        future.as_mut().poll(cx)
    })
    .await
    .map_err(|_| Panicked)
}

/// Calls a service of bytes and waits for its reply.
pub(crate) async fn call(
    service: Arc<ServiceEntry>,
    address: &str,
    call: Call,
) -> Result<Bytes, Error> {
    let running = enter(&service, address)?;
    let handled = async move {
        match &service.handler {
            Handler::Reply(handler) => handler(call).await.map(Some),
            Handler::Push(_) => Err(only_pushes()),
            Handler::Stream(handler) => match handler(call).next().await {
                Some(Ok(_)) => Ok(None),
                Some(Err(failure)) => Err(failure),
                None => Ok(Some(Bytes::new())),
            },
        }
    };
    match run(running, address, handled).await? {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => Err(Error::IsStream { address: address.to_owned() }),
        Err(failure) => Err(failure.into_error(address)),
    }
}

/// Calls a service of bytes for a stream of replies.
pub(crate) fn stream(
    service: &Arc<ServiceEntry>,
    address: &str,
    call: Call,
) -> Result<Replies<Result<Bytes, Failure>>, Error> {
    let running = enter(service, address)?;
    match begin(&running, address, || service.handler.replies(call))? {
        Ok(replies) => Ok(Replies::new(running, address, replies)),
        Err(failure) => Err(failure.into_error(address)),
    }
}

/// Hands a call that wants no reply to a task of its own.
pub(crate) fn push(service: Arc<ServiceEntry>, address: &str, call: Call) -> Result<(), Error> {
    let running = enter(&service, address)?;
    spawn_push(running, async move { service.handler.push(call).await });
    Ok(())
}

/// Lets a task of its own do what follows from a push.
pub(crate) fn spawn_push(running: Running, handled: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        if guard(handled).await.is_err() {
            log::error!("the handler of {} has panicked", running.service().id);
        }
    });
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
        address: &str,
        items: impl Stream<Item = T> + Send + 'static,
    ) -> Self {
        let guarded = Guarded(Some(AssertUnwindSafe(items).catch_unwind().boxed()));
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
        Replies { items, running: Some(running), address: address.to_owned(), _task: task }
    }
}

/// Knows how deep it is.
struct Guarded<S>(Option<S>);

impl<T, E, S: Stream<Item = Result<T, E>> + Unpin> Stream for Guarded<S> {
    type Item = Result<T, Panicked>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let item = {
            let _deeper = Deeper::enter();
            ready!(stream.poll_next_unpin(cx))
        };
        if !matches!(item, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(item.map(|item| item.map_err(|_| Panicked)))
    }
}

impl<T> Stream for Replies<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.items.poll_next_unpin(cx));
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
