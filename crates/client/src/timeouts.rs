//! Timeouts of calls, requests and streams.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use crate::error::Error;

/// The longest time that is waited: 100 years. It can be added to any instant.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Waits for `future`, no longer than `timeout`. `target` names what was called, for the error.
pub(crate) async fn with_timeout<T>(
    timeout: Option<Duration>,
    target: &str,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut future = pin!(future);
    // A result that is there at once needs no timer.
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

/// The timeout for each item of a stream.
#[derive(Debug)]
pub(crate) struct ItemTimeout {
    /// The address of the call, for the error.
    target: String,
    timeout: Option<Duration>,
    /// Runs while the consumer waits for an item.
    timer: Option<Pin<Box<Sleep>>>,
}

impl ItemTimeout {
    pub(crate) fn new(target: impl ToString, timeout: Option<Duration>) -> Self {
        ItemTimeout { target: target.to_string(), timeout, timer: None }
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Passes `polled` on, or ends with [`Error::Timeout`] if the item has not come in time.
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
