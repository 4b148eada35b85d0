//! How long a caller waits.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use crate::error::Error;

/// Waits for `future`, which is about `target`, but no longer than `timeout`.
pub(crate) async fn in_time<T>(
    timeout: Option<Duration>,
    target: &str,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut future = pin!(future);
    // What is there at once needs no timer.
    if let Poll::Ready(result) = futures::poll!(&mut future) {
        return result;
    }
    let Some(after) = timeout else {
        return future.await;
    };
    tokio::time::timeout(after, future)
        .await
        .unwrap_or_else(|_| Err(Error::Timeout { target: target.to_owned(), after }))
}

/// Ends a stream whose next item does not come in time.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Whose item it is.
    target: String,
    timeout: Option<Duration>,
    /// Runs while the next item is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(crate) fn new(target: impl ToString, timeout: Option<Duration>) -> Self {
        Patience { target: target.to_string(), timeout, timer: None }
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Passes on what came, or says that it did not come in time.
    pub(crate) fn poll<T>(
        &mut self,
        polled: Poll<Option<Result<T, Error>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, Error>>> {
        if polled.is_ready() {
            self.timer = None;
            return polled;
        }
        let Some(after) = self.timeout else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::Timeout { target: self.target.clone(), after })))
    }
}
