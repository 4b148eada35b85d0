//! Services that handle one call after the other.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio::task::coop::unconstrained;

/// A fair lock that the handlers of serial services hold while they run.
#[derive(Debug, Clone)]
pub(crate) struct Turn(Arc<Semaphore>);

impl Turn {
    pub(crate) fn new() -> Self {
        Turn(Arc::new(Semaphore::new(1)))
    }

    /// Wraps a handler so that it is called and runs in its turn, for which it queues at once.
    pub(crate) fn wrap<A: Send + 'static, T: Send + 'static>(
        self,
        handler: impl Fn(A) -> BoxFuture<'static, T> + Send + Sync + 'static,
    ) -> impl Fn(A) -> BoxFuture<'static, T> + Send + Sync + 'static {
        let handler = Arc::new(handler);
        move |argument| {
            let handler = handler.clone();
            self.run(move || handler(argument))
        }
    }

    /// Wraps a handler so that it is called in its turn, which ends with the stream.
    pub(crate) fn wrap_stream<A: Send + 'static, T: Send + 'static>(
        self,
        handler: impl Fn(A) -> BoxStream<'static, T> + Send + Sync + 'static,
    ) -> impl Fn(A) -> BoxStream<'static, T> + Send + Sync + 'static {
        let handler = Arc::new(handler);
        move |argument| {
            let handler = handler.clone();
            self.stream(move || handler(argument))
        }
    }

    /// Calls `begin` and runs its future in its turn, for which it queues at once.
    fn run<T: Send + 'static>(
        &self,
        begin: impl FnOnce() -> BoxFuture<'static, T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        // Without the budget of the task: if it were used up, later calls would overtake this one in the queue.
        let mut turn = unconstrained(self.0.clone().acquire_owned()).boxed();
        // Queues now, and not when the future is polled.
        let taken = turn.poll_unpin(&mut Context::from_waker(Waker::noop()));
        async move {
            let _turn = match taken {
                Poll::Ready(turn) => turn,
                Poll::Pending => turn.await,
            };
            begin().await
        }
        .boxed()
    }

    /// Calls `begin` in its turn, which ends with the stream. It queues when it is first polled, so that a stream that
    /// is not read does not block others.
    fn stream<T: Send + 'static>(
        &self,
        begin: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) -> BoxStream<'static, T> {
        let turn = self.0.clone().acquire_owned();
        let items = async move {
            let turn = unconstrained(turn).await;
            begin().map(move |item| {
                let _turn = &turn;
                item
            })
        };
        stream::once(items).flatten().boxed()
    }
}
