//! Where calls go, and how.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use gsb_proto::messages::CallRequest;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::bus::Bus;
use crate::calls::Waiting;
use crate::error::Error;
use crate::queue::{Queue, WhenFull};
use crate::shared::Shared;

/// An address to call, with the options of the calls to it. Made by [`Bus::endpoint`].
#[derive(Debug, Clone)]
pub struct Endpoint {
    bus: Bus,
    address: String,
    caller: String,
    timeout: Option<Duration>,
}

impl Endpoint {
    pub(crate) fn new(bus: Bus, address: String) -> Self {
        let options = bus.shared().options();
        let (caller, timeout) = (options.name.clone(), options.call_timeout);
        Endpoint { bus, address, caller, timeout }
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The same options for another address.
    pub(crate) fn at(&self, address: String) -> Endpoint {
        Endpoint { address, ..self.clone() }
    }

    /// The address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Who calls, for the service to read. The name of the [`Bus`] by default.
    #[must_use]
    pub fn caller(mut self, caller: impl Into<String>) -> Self {
        self.caller = caller.into();
        self
    }

    /// How long to wait for the reply, or for each reply of a stream. `None` is for ever. The time that
    /// sending takes counts too.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Calls the service and waits for its reply. Dropping the future forgets the call; the service
    /// is not told.
    ///
    /// # Errors
    /// [`Error::NoSuchService`], [`Error::BadRequest`], [`Error::Busy`], [`Error::ServiceFailure`],
    /// [`Error::UnknownCode`], [`Error::Timeout`], [`Error::IsStream`], [`Error::TooLarge`], [`Error::NotSent`],
    /// [`Error::ConnectionLost`].
    pub async fn call(&self, data: impl Into<Bytes>) -> Result<Bytes, Error> {
        let (waiting, reply) = oneshot::channel();
        let answered = async {
            let _open = self.open(data.into(), Waiting::Once(waiting)).await?;
            match reply.await {
                Ok(result) => result,
                // The sender is kept until the call ends, so it has ended with the connection.
                Err(_) => Err(self.bus.shared().lost_error()),
            }
        };
        self.in_time(answered).await
    }

    /// Calls the service and returns its replies as they come. A service that answers once gives a
    /// stream of one. Dropping the stream forgets the call; the service is not told.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Timeout`], [`Error::NotSent`]; everything else comes as an item
    /// of the stream.
    pub async fn stream(&self, data: impl Into<Bytes>) -> Result<ReplyStream, Error> {
        let limit = self.bus.shared().options().buffer_limit;
        let queue = Arc::new(Queue::new(limit, WhenFull::End));
        let open = self.in_time(self.open(data.into(), Waiting::Stream(queue.clone()))).await?;
        Ok(ReplyStream {
            queue,
            address: self.address.clone(),
            timeout: self.timeout,
            timer: None,
            ended: false,
            _open: open,
            _bus: self.bus.clone(),
        })
    }

    /// Calls the service without wanting a reply. Returns when the call is queued to be sent; nobody
    /// tells whether there was a service. A program that ends now may end before it has left: see
    /// [`Bus::close`].
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NotSent`], [`Error::ConnectionLost`].
    pub async fn push(&self, data: impl Into<Bytes>) -> Result<(), Error> {
        let shared = self.bus.shared();
        let frame =
            CallRequest { no_reply: true, ..self.request(shared.next_request_id(), data.into()) }
                .into_frame();
        shared.check_size(&frame)?;
        shared.check_connection()?;
        match shared.send(&frame).await {
            true => Ok(()),
            false => Err(shared.lost_error()),
        }
    }

    /// Sends a call and notes who waits for its replies.
    async fn open(&self, data: Bytes, waiting: Waiting) -> Result<CallGuard, Error> {
        let shared = self.bus.shared();
        let request_id = shared.next_request_id();
        let frame = self.request(request_id.clone(), data).into_frame();
        shared.check_size(&frame)?;
        shared.open_call(request_id.clone(), self.address.clone(), waiting)?;
        let open = CallGuard { shared: shared.clone(), request_id };
        shared.send(&frame).await;
        Ok(open)
    }

    /// Waits for `future`, but no longer than a call may take.
    async fn in_time<T>(&self, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Some(after) = self.timeout else {
            return future.await;
        };
        tokio::time::timeout(after, future)
            .await
            .unwrap_or_else(|_| Err(Error::Timeout { target: self.address.clone(), after }))
    }

    fn request(&self, request_id: String, data: Bytes) -> CallRequest {
        CallRequest {
            caller: self.caller.clone(),
            address: self.address.clone(),
            request_id,
            data,
            no_reply: false,
        }
    }
}

/// Forgets a call when dropped, whether it has ended or not.
#[derive(Debug)]
struct CallGuard {
    shared: Arc<Shared>,
    request_id: String,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.shared.forget_call(&self.request_id);
    }
}

/// The replies of a call, in order.
///
/// It ends with `None` after the service's last reply, and only then. Whatever else ends it is an error
/// as the last item: the service's failure, [`Error::Timeout`] if the next reply does not come in time,
/// [`Error::ConnectionLost`], or [`Error::Overflow`] if the replies came faster than they were consumed
/// for so long that the buffer is full.
#[derive(Debug)]
pub struct ReplyStream {
    queue: Arc<Queue<Bytes>>,
    address: String,
    timeout: Option<Duration>,
    /// Runs while the next reply is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
    _open: CallGuard,
    /// Keeps the connection while the stream is in use.
    _bus: Bus,
}

impl Stream for ReplyStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(next) = self.queue.poll_next(cx) {
            self.timer = None;
            self.ended = !matches!(next, Some(Ok(_)));
            return Poll::Ready(next);
        }
        let Some(after) = self.timeout else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.ended = true;
        let target = self.address.clone();
        Poll::Ready(Some(Err(Error::Timeout { target, after })))
    }
}
