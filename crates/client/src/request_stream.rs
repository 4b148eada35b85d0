//! The body of an upload, as a handler reads it.

use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::task::{self, Context, Poll};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use tokio::sync::oneshot;

use crate::error::Error;

/// The body of an upload: the parts that the caller sends after its first message, in order. Handlers of
/// [`Bus::register_upload`](crate::Bus::register_upload) get it.
///
/// A complete body ends with `None`. If the caller has gone, or the call is cancelled, the last item is an error. A call
/// without a body has an empty one.
///
/// Over a router the caller may be ahead of the handler by the [window](crate::BusBuilder::stream_window) of the service,
/// or by 64 KiB if the window is smaller, and the last part may exceed it. Each part counts as its length and 64 bytes.
/// These bytes count towards [`max_running_bytes`](crate::BusBuilder::max_running_bytes). Within the process a part is made
/// when the handler asks for it.
pub struct RequestStream<T = Bytes> {
    /// `None` after the end.
    parts: Option<BoxStream<'static, Result<T, Error>>>,
}

impl<T: Send + 'static> RequestStream<T> {
    pub(crate) fn new(parts: impl Stream<Item = Result<T, Error>> + Send + 'static) -> Self {
        RequestStream { parts: Some(parts.boxed()) }
    }

    pub(crate) fn empty() -> Self {
        RequestStream { parts: None }
    }

    /// The parts of a caller of this process. The returned sender is dropped with the call, and ends them.
    pub(crate) fn of_caller(
        address: String,
        parts: impl Stream<Item = Result<T, Error>> + Send + 'static,
    ) -> (Self, oneshot::Sender<()>) {
        let (caller, gone) = oneshot::channel();
        let gone = futures::stream::once(gone).map(move |_| Err(Error::body_cancelled(&address)));
        let complete = futures::stream::once(async { None });
        let parts = parts.map(Some).chain(complete);
        // The caller comes first, so that nothing is read for a call that has ended.
        let parts = futures::stream::select_with_strategy(gone.map(Some), parts, |(): &mut ()| {
            futures::stream::PollNext::Left
        });
        let parts = parts.take_while(|part| ready(part.is_some())).filter_map(ready);
        (RequestStream::new(parts), caller)
    }
}

impl<T> Stream for RequestStream<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(parts) = &mut self.parts else {
            return Poll::Ready(None);
        };
        let next = task::ready!(parts.poll_next_unpin(cx));
        if !matches!(next, Some(Ok(_))) {
            self.parts = None;
        }
        Poll::Ready(next)
    }
}

impl<T> fmt::Debug for RequestStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestStream").finish_non_exhaustive()
    }
}
