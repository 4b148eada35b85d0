//! The replies of a call, as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::api::bus::Bus;
use crate::engine::Engine;
use crate::engine::in_process::Replies;
use crate::engine::queue::Queue;
use crate::error::Error;
use crate::failure::Failure;
use crate::headers::Headers;
use crate::reply::Reply;
use crate::timeouts::ItemTimeout;

/// Cancels a call when it is dropped, unless the call has ended.
#[derive(Debug)]
pub(crate) struct CallGuard {
    pub(crate) engine: Arc<Engine>,
    pub(crate) number: u64,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.engine.cancel_call_in_destructor(self.number);
    }
}

/// The replies of a call, in order.
///
/// A complete stream ends with `None` after the last reply of the service. A stream that is cut ends with an error as
/// its last item: the failure of the service, [`Error::Timeout`] if the next reply does not arrive in time,
/// [`Error::ConnectionLost`].
///
/// The service is ahead of the reader by no more than the [window](crate::Endpoint::window) of the stream, and waits
/// for a slow reader. Only a service of level 0 of the protocol, or one behind a router of level 0, goes on: then a reader
/// that is so slow that its [buffer](crate::BusBuilder::buffer_limit) is full gets [`Error::Overflow`].
#[derive(Debug)]
pub struct ReplyStream {
    /// The first reply, if [`Endpoint::stream`](crate::Endpoint::stream) has waited for it.
    pub(crate) first: Option<Reply>,
    /// Those of the reply that was read last.
    pub(crate) headers: Headers,
    /// `None` after the end, so that the handler is free even if the reader keeps the stream.
    source: Option<Source>,
    timeout: ItemTimeout,
}

/// The source of the replies.
#[derive(Debug)]
pub(crate) enum Source {
    Router {
        queue: Arc<Queue<Reply>>,
        open: CallGuard,
        /// Sends the body of the request.
        _body: Option<AbortOnDropHandle<()>>,
        /// Keeps the bus alive while the stream is in use.
        _bus: Bus,
    },
    InProcess {
        replies: Replies<Result<Reply, Failure>>,
        /// Ends the body of the request when it is dropped.
        _caller: Option<oneshot::Sender<()>>,
    },
}

impl ReplyStream {
    pub(crate) fn new(source: Source, timeout: ItemTimeout) -> Self {
        ReplyStream { first: None, headers: Headers::new(), source: Some(source), timeout }
    }

    /// The headers of the reply that was read last. None before the first one.
    ///
    /// ```
    /// # use futures::StreamExt;
    /// # use gsb_client::{Bus, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let mut parts = bus.stream("/file", "").await?;
    /// while let Some(part) = parts.next().await {
    ///     println!("{} bytes, {:?}", part?.len(), parts.headers());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Sets the headers to those of a reply that is read now, and returns its payload.
    fn take_headers(&mut self, reply: Reply) -> Bytes {
        self.headers = reply.headers;
        reply.data
    }
}

impl Stream for ReplyStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(this.take_headers(first))));
        }
        let polled = match &mut this.source {
            None => return Poll::Ready(None),
            Some(Source::Router { queue, open, .. }) => {
                let (polled, grant) = queue.poll_next_granting(cx);
                if grant > 0 {
                    open.engine.grant(open.number, grant);
                }
                polled
            }
            Some(Source::InProcess { replies, .. }) => {
                let target = this.timeout.target();
                replies.poll_next_unpin(cx).map(|next| {
                    next.map(|reply| reply?.map_err(|failure| failure.into_error(target)))
                })
            }
        };
        let next = ready!(this.timeout.poll(polled, cx));
        if !matches!(next, Some(Ok(_))) {
            this.source = None;
        }
        Poll::Ready(next.map(|reply| reply.map(|reply| this.take_headers(reply))))
    }
}
