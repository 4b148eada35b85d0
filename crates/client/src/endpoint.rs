//! Where calls go, and how.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use gsb_proto::messages::CallRequest;
use tokio::sync::oneshot;

use crate::bus::Bus;
use crate::calls::Waiting;
use crate::error::{Error, Failure, LostReason};
use crate::in_process::{self, Replies};
use crate::queue::{Queue, WhenFull};
use crate::service_wait::{self, ServiceWait};
use crate::services::{Call, ServiceEntry};
use crate::shared::Shared;
use crate::timeouts::{Patience, in_time};

/// An address to call, with the options of the calls to it. Made by [`Bus::endpoint`].
#[derive(Debug, Clone)]
pub struct Endpoint {
    bus: Bus,
    address: String,
    /// Who calls, if not the bus itself.
    caller: Option<String>,
    timeout: Option<Duration>,
    wait_for_router: Duration,
    wait_for_service: Duration,
}

impl Endpoint {
    pub(crate) fn new(bus: Bus, address: String) -> Self {
        let options = bus.shared().options();
        let (timeout, wait_for_router) = (options.call_timeout, options.wait_for_router);
        let wait_for_service = Duration::ZERO;
        Endpoint { bus, address, caller: None, timeout, wait_for_router, wait_for_service }
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    pub(crate) fn caller_name(&self) -> &str {
        self.caller.as_deref().unwrap_or(&self.bus.shared().options().name)
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
        self.caller = Some(caller.into());
        self
    }

    /// How long to wait for the reply, or for each reply of a stream. `None` is for ever. The time that
    /// sending takes counts too.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// How long to wait for a connection to the router if there is none, within the timeout. See
    /// [`BusBuilder::wait_for_router`](crate::BusBuilder::wait_for_router) for the default.
    #[must_use]
    pub fn wait_for_router(mut self, patience: Duration) -> Self {
        self.wait_for_router = patience;
        self
    }

    /// How long to wait for a service if there is none, within the timeout. By default calls do not wait, and
    /// end with [`Error::NoSuchService`]; when this time is over, they end with it, too.
    ///
    /// A call is made again only while no service has seen it, so that it is handled once. A service that is
    /// registered in this process gets it at once. A router is asked again after random pauses, which grow from
    /// some milliseconds up to a second. Data is not copied for that.
    ///
    /// [`Endpoint::stream`] returns when the first reply is there. [`Endpoint::push`] waits for services of this
    /// process only: a router tells nobody what became of a push.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), gsb_client::Error> {
    /// use gsb_client::{Bus, Call};
    ///
    /// let bus = Bus::local();
    /// let clock = bus.endpoint("/clock").wait_for_service(Duration::from_secs(5));
    /// let (time, service) = tokio::join!(
    ///     clock.call(""),
    ///     bus.register("/clock", |_: Call| async { Ok("12:00") }),
    /// );
    /// assert_eq!(time?, "12:00");
    /// # drop(service);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// A call that has to wait panics outside of a tokio runtime.
    #[must_use]
    pub fn wait_for_service(mut self, patience: Duration) -> Self {
        self.wait_for_service = patience;
        self
    }

    /// Calls the service and waits for its reply. Dropping the future cancels the call at the router; a service
    /// of another process is not told, a handler of this process is dropped.
    ///
    /// # Errors
    /// [`Error::NoSuchService`], [`Error::BadRequest`], [`Error::Busy`], [`Error::ServiceFailure`],
    /// [`Error::UnknownCode`], [`Error::Timeout`], [`Error::IsStream`], [`Error::TooLarge`],
    /// [`Error::TooManyUnanswered`], [`Error::NotSent`], [`Error::ShutDown`], [`Error::ConnectionLost`].
    pub async fn call(&self, data: impl Into<Bytes>) -> Result<Bytes, Error> {
        let data = data.into();
        match self.find() {
            Ok(Some(service)) => {
                let call = self.in_process(data, false);
                in_process::call(service, &self.address, self.timeout, call).await
            }
            Err(error) if !self.waits_for_service() => Err(error),
            // Boxed, so that calls within the process stay small.
            found => Box::pin(self.call_elsewhere(found, data)).await,
        }
    }

    /// Calls a service that is not in this process, or not yet; `found` is what was found there.
    async fn call_elsewhere(
        &self,
        mut found: Result<Option<Arc<ServiceEntry>>, Error>,
        data: Bytes,
    ) -> Result<Bytes, Error> {
        let answered = async {
            if !self.waits_for_service() && self.wait_for_router.is_zero() {
                return self.call_router(data).await;
            }
            let mut wait = ServiceWait::new(self);
            loop {
                let result = match found {
                    Ok(Some(service)) => {
                        let call = self.in_process(data, false);
                        return in_process::call(service, &self.address, self.timeout, call).await;
                    }
                    Ok(None) => self.call_router(data.clone()).await,
                    Err(error) => Err(error),
                };
                match result {
                    Err(error) if wait.again(&error).await => found = self.find(),
                    result => return result,
                }
            }
        };
        in_time(self.timeout, &self.address, answered).await
    }

    /// Sends a call to the router, and waits for the reply.
    async fn call_router(&self, data: Bytes) -> Result<Bytes, Error> {
        let (waiting, reply) = oneshot::channel();
        let _open = self.open_in_time(data, Waiting::Once(waiting)).await?;
        match reply.await {
            Ok(result) => result,
            // The sender is kept until the call ends, so it has ended with the connection.
            Err(_) => Err(Error::ConnectionLost(LostReason::Closed)),
        }
    }

    /// Calls the service and returns its replies as they come. A service that answers once gives a
    /// stream of one. Dropping the stream cancels the call at the router; a service of another process is not
    /// told, a handler of this process is dropped.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::TooManyUnanswered`], [`Error::Timeout`], [`Error::NotSent`],
    /// [`Error::ShutDown`]. Everything else that keeps the service from answering may come here, or as an item of the stream.
    pub async fn stream(&self, data: impl Into<Bytes>) -> Result<ReplyStream, Error> {
        let data = data.into();
        if self.waits_for_service() {
            return Box::pin(self.stream_when_served(data)).await;
        }
        match self.find()? {
            Some(service) => self.stream_here(service, data),
            None => self.stream_router(data).await,
        }
    }

    /// The replies of a service as soon as there is one.
    async fn stream_when_served(&self, data: Bytes) -> Result<ReplyStream, Error> {
        let mut wait = ServiceWait::new(self);
        loop {
            let mut replies = match service_wait::found(&mut wait).await? {
                Some(service) => return self.stream_here(service, data),
                None => self.stream_router(data.clone()).await?,
            };
            match replies.next().await.transpose() {
                Err(error) if wait.again(&error).await => {}
                first => {
                    replies.first = first?;
                    return Ok(replies);
                }
            }
        }
    }

    /// The replies of a service of this process.
    fn stream_here(&self, service: Arc<ServiceEntry>, data: Bytes) -> Result<ReplyStream, Error> {
        let call = self.in_process(data, false);
        let replies = in_process::stream(service, &self.address, call)?;
        Ok(self.replies(Source::InProcess(replies)))
    }

    /// Sends a call to the router, for a stream of replies.
    async fn stream_router(&self, data: Bytes) -> Result<ReplyStream, Error> {
        let limit = self.bus.shared().options().buffer_limit;
        let queue = Arc::new(Queue::new(limit, WhenFull::End));
        let open = self.open_in_time(data, Waiting::Stream(queue.clone())).await?;
        Ok(self.replies(Source::Router { queue, _open: open, _bus: self.bus.clone() }))
    }

    fn replies(&self, source: Source) -> ReplyStream {
        let patience = Patience::new(&self.address, self.timeout);
        ReplyStream { first: None, source: Some(source), patience }
    }

    /// Calls the service without wanting a reply. Returns when the call is queued to be sent, or to be
    /// handled in this process; beyond this process nobody tells whether there was a service. A program
    /// that ends now may end before it has left: see [`Bus::flush`].
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NotSent`], [`Error::ShutDown`]; within the process
    /// [`Error::NoSuchService`] and [`Error::Busy`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn push(&self, data: impl Into<Bytes>) -> Result<(), Error> {
        let found = match self.find() {
            Err(_) if self.waits_for_service() => {
                Box::pin(service_wait::found(&mut ServiceWait::new(self))).await
            }
            found => found,
        };
        match found? {
            Some(service) => {
                tokio::task::coop::consume_budget().await;
                let call = self.in_process(data.into(), true);
                in_process::push(self.bus.shared().start_queue(), service, &self.address, call)
            }
            None => {
                let shared = self.bus.shared();
                let pushed = shared.push(self.request(data.into()), self.wait_for_router);
                in_time(self.timeout, &self.address, pushed)
                    .await
                    .map_err(|error| self.unsent(error))
            }
        }
    }

    /// The service of this process that is called; `None` if the call is for the router.
    fn find(&self) -> Result<Option<Arc<ServiceEntry>>, Error> {
        self.bus.find(&self.address)
    }

    /// [`open`](Endpoint::open), no longer than a call may take.
    async fn open_in_time(&self, data: Bytes, waiting: Waiting) -> Result<CallGuard, Error> {
        let open = self.open(data, waiting);
        in_time(self.timeout, &self.address, open).await.map_err(|error| self.unsent(error))
    }

    /// The error of what could not be sent in time: nobody has got it.
    fn unsent(&self, error: Error) -> Error {
        match error {
            Error::Timeout { after, .. } => self.bus.shared().unsent(after),
            error => error,
        }
    }

    /// Sends a call to the router and notes who waits for its replies.
    async fn open(&self, data: Bytes, waiting: Waiting) -> Result<CallGuard, Error> {
        let shared = self.bus.shared();
        let number = shared.open_call(self.request(data), waiting, self.wait_for_router).await?;
        Ok(CallGuard { shared: shared.clone(), number })
    }

    pub(crate) fn waits_for_service(&self) -> bool {
        !self.wait_for_service.is_zero()
    }

    /// How long a service is waited for.
    pub(crate) fn service_patience(&self) -> Duration {
        self.wait_for_service.min(self.timeout.unwrap_or(Duration::MAX))
    }

    /// How long the router is waited for.
    pub(crate) fn router_patience(&self) -> Duration {
        self.wait_for_router.min(self.timeout.unwrap_or(Duration::MAX))
    }

    /// How long a reply is waited for.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.timeout
    }

    fn in_process(&self, data: Bytes, no_reply: bool) -> Call {
        Call {
            caller: self.caller_name().to_owned(),
            address: self.address.clone(),
            data,
            no_reply,
        }
    }

    /// A call to the router, without an id.
    fn request(&self, data: Bytes) -> CallRequest {
        CallRequest {
            caller: self.caller_name().to_owned(),
            address: self.address.clone(),
            data,
            ..CallRequest::default()
        }
    }
}

/// Gives a call up when dropped, unless it has ended.
#[derive(Debug)]
struct CallGuard {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.shared.give_up_call(self.number);
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
    /// The first reply, if it was waited for; comes before those of the source.
    first: Option<Bytes>,
    /// Nothing after the end: what made the replies is free then, whoever keeps this.
    source: Option<Source>,
    patience: Patience,
}

/// Where replies come from.
#[derive(Debug)]
enum Source {
    Router {
        queue: Arc<Queue<Bytes>>,
        _open: CallGuard,
        /// Keeps the connection while the stream is in use.
        _bus: Bus,
    },
    InProcess(Replies<Result<Bytes, Failure>>),
}

impl Stream for ReplyStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let polled = match &mut this.source {
            None => return Poll::Ready(None),
            Some(Source::Router { queue, .. }) => queue.poll_next(cx),
            Some(Source::InProcess(replies)) => {
                let target = this.patience.target();
                replies.poll_next_unpin(cx).map(|next| {
                    next.map(|reply| reply?.map_err(|failure| failure.into_error(target)))
                })
            }
        };
        let next = ready!(this.patience.poll(polled, cx));
        if !matches!(next, Some(Ok(_))) {
            this.source = None;
        }
        Poll::Ready(next)
    }
}
