//! Timeouts of calls, requests and streams.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

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

/// The timeout for each item of a stream, and the deadline for the whole of it.
#[derive(Debug)]
pub(crate) struct ItemTimeout {
    /// The address of the call, for the error.
    target: String,
    timeout: Option<Duration>,
    /// When the stream began, and when it ends.
    deadline: Option<(Instant, Instant)>,
    /// Runs while the consumer waits for an item.
    timer: Option<Pin<Box<Sleep>>>,
}

impl ItemTimeout {
    pub(crate) fn new(
        target: impl ToString,
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Self {
        let deadline = deadline.map(|deadline| (Instant::now(), deadline));
        ItemTimeout { target: target.to_string(), timeout, deadline, timer: None }
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Passes `polled` on, or ends with [`Error::Timeout`] if the item has not come in time, or the deadline is over.
    pub(crate) fn poll<T>(
        &mut self,
        polled: Poll<Option<Result<T, Error>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, Error>>> {
        if let Some((start, deadline)) = self.deadline
            && matches!(polled, Poll::Ready(Some(Ok(_))))
            && Instant::now() >= deadline
        {
            return self.timed_out(deadline - start);
        }
        if polled.is_ready() {
            self.timer = None;
            return polled;
        }
        if self.timer.is_none() {
            let left = |(_, deadline): (_, Instant)| deadline - Instant::now();
            let after = self.timeout.into_iter().chain(self.deadline.map(left)).min();
            self.timer = after.map(|after| Box::pin(tokio::time::sleep(after)));
        }
        let Some(timer) = &mut self.timer else {
            return Poll::Pending;
        };
        ready!(timer.as_mut().poll(cx));
        match (self.deadline, self.timeout) {
            (Some((start, deadline)), _) if deadline <= Instant::now() => {
                self.timed_out(deadline - start)
            }
            (_, after) => self.timed_out(after.unwrap_or_default()),
        }
    }

    fn timed_out<T>(&self, after: Duration) -> Poll<Option<Result<T, Error>>> {
        Poll::Ready(Some(Err(Error::Timeout { target: self.target.clone(), after })))
    }
}
