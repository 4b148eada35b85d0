//! Calling services: an address with its options.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use gsb_proto::messages::CallRequest;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::api::bus::Bus;
#[cfg(doc)]
use crate::api::registration::Registering;
use crate::api::reply_stream::{CallGuard, ReplyStream, Source};
use crate::call::{Call, CallContext};
use crate::engine::credit::Credit;
use crate::engine::farewell::Sending;
use crate::engine::in_process;
use crate::engine::pending_calls::ReplyTo;
use crate::engine::queue::{Queue, WhenFull};
use crate::engine::service_entry::RunningCall;
use crate::engine::service_wait::{ServiceWait, WaitTarget};
use crate::error::{Error, LostReason};
use crate::headers::Headers;
use crate::reply::Reply;
use crate::request_stream::RequestStream;
use crate::timeouts::{FOREVER, ItemTimeout, with_timeout};
use crate::trace::{is_wanted, outgoing};

impl Bus {
    /// An address to call, with options such as a timeout.
    pub fn endpoint(&self, address: impl Into<String>) -> Endpoint {
        Endpoint::new(self.clone(), address.into())
    }

    /// Calls a service and waits for its reply; see [`Endpoint::call`].
    ///
    /// # Errors
    /// Those of [`Endpoint::call`].
    pub async fn call(&self, address: &str, data: impl Into<Bytes>) -> Result<Bytes, Error> {
        self.endpoint(address).call(data).await
    }

    /// Calls a service and returns its replies as they arrive; see [`Endpoint::stream`].
    ///
    /// # Errors
    /// Those of [`Endpoint::stream`].
    pub async fn stream(
        &self,
        address: &str,
        data: impl Into<Bytes>,
    ) -> Result<ReplyStream, Error> {
        self.endpoint(address).stream(data).await
    }

    /// Calls a service without a reply; see [`Endpoint::push`].
    ///
    /// # Errors
    /// Those of [`Endpoint::push`].
    pub async fn push(&self, address: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        self.endpoint(address).push(data).await
    }
}

/// An address to call, with the options of its calls. Made by [`Bus::endpoint`].
#[derive(Debug, Clone)]
pub struct Endpoint {
    bus: Bus,
    address: String,
    /// The name of the caller, if it is not the name of the bus.
    caller: Option<String>,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    headers: Headers,
    wait_for_router: Duration,
    wait_for_service: Duration,
    affinity: String,
    window: usize,
}

impl Endpoint {
    pub(crate) fn new(bus: Bus, address: String) -> Self {
        let options = bus.engine().options();
        let (timeout, wait_for_router) = (options.call_timeout, options.wait_for_router);
        let wait_for_service = Duration::ZERO;
        let window = options.stream_window;
        Endpoint {
            bus,
            address,
            caller: None,
            timeout,
            deadline: None,
            headers: Headers::new(),
            wait_for_router,
            wait_for_service,
            affinity: String::new(),
            window,
        }
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    pub(crate) fn caller_name(&self) -> &str {
        self.caller.as_deref().unwrap_or(&self.bus.engine().options().name)
    }

    /// The same options for another address.
    pub(crate) fn at(&self, address: String) -> Endpoint {
        Endpoint { address, ..self.clone() }
    }

    /// The address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The name of the caller, which the service can read. Default: the [name](crate::BusBuilder::name) of the bus.
    #[must_use]
    pub fn caller(mut self, caller: impl Into<String>) -> Self {
        self.caller = Some(caller.into());
        self
    }

    /// How long to wait for the reply, or for each reply of a stream, including the time that sending takes. `None`
    /// waits without a limit. Default: [`BusBuilder::call_timeout`](crate::BusBuilder::call_timeout).
    ///
    /// The service sees when the time of a call is over as the [deadline](crate::CallContext::deadline) of the call.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// The time at which a call ends with [`Error::Timeout`] if its reply, or all replies of its stream, have not arrived.
    /// The [timeout](Endpoint::timeout) may end it earlier. The service sees it as the
    /// [deadline](crate::CallContext::deadline) of the call. Default: `None`.
    ///
    /// The router ends a call at its deadline, too, so that nothing of it is left if this process hangs. It measures the
    /// time that is left when the call is sent, to the millisecond.
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Option<Instant>>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// Makes calls as a part of handling another call. They have the earlier of its
    /// [deadline](crate::CallContext::deadline) and the [deadline](Endpoint::deadline) of this endpoint, and its headers of
    /// W3C Trace Context (`traceparent`, `tracestate`). With the feature `tracing` these name the span of the handler.
    ///
    /// ```
    /// use gsb_client::{Bus, Bytes, Call, Failure, WeakBus};
    ///
    /// async fn relay(bus: WeakBus, call: Call) -> Result<Bytes, Failure> {
    ///     let bus = bus.upgrade().ok_or("the bus has ended")?;
    ///     Ok(bus.endpoint("/store").on_behalf_of(&call).call(call.data).await?)
    /// }
    /// ```
    #[must_use]
    pub fn on_behalf_of(mut self, call: impl AsRef<CallContext>) -> Self {
        let context = call.as_ref();
        self.deadline = self.deadline.into_iter().chain(context.deadline()).min();
        self.headers.inherit_trace(context.trace());
        self
    }

    /// Sets a header of the calls; see [`Headers`]. Handlers read it with [`Call::headers`].
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// How long a call waits for a connection to the router. A router that shuts down takes no new calls: they wait for the
    /// next connection. The wait counts towards the timeout. Default:
    /// [`BusBuilder::wait_for_router`](crate::BusBuilder::wait_for_router).
    #[must_use]
    pub fn wait_for_router(mut self, timeout: Duration) -> Self {
        self.wait_for_router = timeout;
        self
    }

    /// How long a call waits until a service is registered at its address. The wait counts towards the timeout. After this
    /// time the call fails with [`Error::NoSuchService`]. Default: zero.
    ///
    /// A call is tried again only as long as no service has received it, so that it is handled once. A service that is
    /// registered in this process receives it at once. A router is asked again after random pauses, which grow from
    /// some milliseconds up to a second. The data is not copied.
    ///
    /// With this option [`Endpoint::stream`] returns when the first reply is there. [`Endpoint::push`] waits for
    /// services of this process only, because a router does not report what became of a push.
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
    /// A call that has to wait, outside of a tokio runtime.
    #[must_use]
    pub fn wait_for_service(mut self, timeout: Duration) -> Self {
        self.wait_for_service = timeout;
        self
    }

    /// Makes all calls with the same text go to the same owner of a [shared](Registering::shared) name, for example those
    /// about one user, whose data an owner then keeps in its memory. Default: none.
    ///
    /// It holds as long as the owners are the same, and also while owners reconnect. When an owner comes or goes, only the
    /// calls whose texts it gets or had go to another owner than before. A call whose owner is full is [`Error::Busy`],
    /// even if another owner has room. With a router, the router chooses the owner, also for a process that is an owner
    /// itself. A router of level 0 ignores the text.
    #[must_use]
    pub fn affinity(mut self, text: impl Into<String>) -> Self {
        self.affinity = text.into();
        self
    }

    /// How many bytes the service of a stream may be ahead of the reader. Default:
    /// [`BusBuilder::stream_window`](crate::BusBuilder::stream_window), which says more.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), gsb_client::Error> {
    /// use futures::{StreamExt, stream};
    /// use gsb_client::{Bus, Call};
    ///
    /// let bus = Bus::local();
    /// let blocks = |_: Call| stream::iter((0..100).map(|_| Ok(vec![0; 1 << 20])));
    /// let _download = bus.register_stream("/download", blocks).await?;
    ///
    /// let mut blocks = bus.endpoint("/download").window(8 << 20).stream("").await?;
    /// while let Some(block) = blocks.next().await {
    ///     assert_eq!(block?.len(), 1 << 20);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn window(mut self, bytes: usize) -> Self {
        self.window = bytes;
        self
    }

    /// Calls the service and waits for its reply. Dropping the future cancels the call, and so does a timeout: the
    /// handler of the service is dropped, in this process or in another one, unless it is
    /// [detached](crate::CallContext::detach). If the router or the service is of an older version, the handler goes on.
    ///
    /// # Errors
    /// [`Error::NoSuchService`], [`Error::BadRequest`], [`Error::Busy`], [`Error::Unsupported`], [`Error::ServiceFailure`],
    /// [`Error::Cancelled`], [`Error::UnknownCode`], [`Error::Timeout`], [`Error::IsStream`], [`Error::TooLarge`],
    /// [`Error::TooManyUnanswered`], [`Error::NotSent`], [`Error::ShutDown`], [`Error::ConnectionLost`].
    pub async fn call(&self, data: impl Into<Bytes>) -> Result<Bytes, Error> {
        Ok(self.call_reply(data).await?.data)
    }

    /// [`Endpoint::call`] that returns the reply with its headers.
    ///
    /// # Errors
    /// Those of [`Endpoint::call`]. The headers of a reply that is an error are not returned.
    pub async fn call_reply(&self, data: impl Into<Bytes>) -> Result<Reply, Error> {
        self.call_found(self.find(), data.into()).await
    }

    /// Makes the call. `found` is the result of the first search.
    pub(crate) async fn call_found(
        &self,
        found: Result<Option<RunningCall>, Error>,
        data: Bytes,
    ) -> Result<Reply, Error> {
        match found {
            Ok(Some(running)) => {
                let call = self.in_process(data, false);
                in_process::call(running, &self.address, self.time_limit(), call).await
            }
            Err(error) if !self.waits_for_service() => Err(error),
            // Boxed, so that calls within the process stay small.
            found => Box::pin(self.call_elsewhere(found, data)).await,
        }
    }

    /// Calls a service that is not in this process, or not yet. `found` is the result of the first search.
    async fn call_elsewhere(
        &self,
        mut found: Result<Option<RunningCall>, Error>,
        data: Bytes,
    ) -> Result<Reply, Error> {
        let answered = async {
            if !self.waits_for_service() && self.wait_for_router.is_zero() {
                return self.call_router(data).await;
            }
            let mut wait = self.service_wait();
            loop {
                let result = match found {
                    Ok(Some(running)) => {
                        let call = self.in_process(data, false);
                        return in_process::call(running, &self.address, None, call).await;
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
        with_timeout(self.time_limit(), &self.address, answered).await
    }

    /// Sends a call to the router, and waits for the reply.
    async fn call_router(&self, data: Bytes) -> Result<Reply, Error> {
        let (sender, reply) = oneshot::channel();
        let request = self.timed_request(data);
        let _open = self.open_in_time(request, ReplyTo::Once(sender), None).await?;
        match reply.await {
            Ok(result) => result,
            // The sender was dropped without a reply, so the connection has ended.
            Err(_) => Err(Error::ConnectionLost(LostReason::Closed)),
        }
    }

    /// Calls the service and returns its replies as they arrive. A service that answers once gives a stream of one
    /// reply. Dropping the stream cancels the call, as dropping the future of [`Endpoint::call`] does.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::TooManyUnanswered`], [`Error::Timeout`], [`Error::NotSent`],
    /// [`Error::ShutDown`]. All other errors of [`Endpoint::call`] are returned here, or as the last item of the stream.
    pub async fn stream(&self, data: impl Into<Bytes>) -> Result<ReplyStream, Error> {
        let data = data.into();
        if self.waits_for_service() {
            return Box::pin(self.stream_when_served(data)).await;
        }
        self.stream_found(self.find()?, data).await
    }

    /// Calls for a stream. `found` is the result of the first search.
    pub(crate) async fn stream_found(
        &self,
        found: Option<RunningCall>,
        data: Bytes,
    ) -> Result<ReplyStream, Error> {
        match found {
            Some(running) => self.stream_here(running, data, None),
            None if self.waits_for_service() => Box::pin(self.stream_when_served(data)).await,
            None => self.stream_router(data).await,
        }
    }

    /// The replies of a service that may not be registered yet.
    async fn stream_when_served(&self, data: Bytes) -> Result<ReplyStream, Error> {
        let mut wait = self.service_wait();
        loop {
            let mut replies = match wait.found().await? {
                Some(running) => return self.stream_here(running, data, None),
                None => self.stream_router(data.clone()).await?,
            };
            match replies.next().await.transpose() {
                Err(error) if wait.again(&error).await => {}
                first => {
                    let headers = std::mem::take(&mut replies.headers);
                    replies.first = first?.map(|data| Reply { data, headers });
                    return Ok(replies);
                }
            }
        }
    }

    /// The replies of a service of this process.
    pub(crate) fn stream_here(
        &self,
        running: RunningCall,
        data: Bytes,
        body: Option<(RequestStream, oneshot::Sender<()>)>,
    ) -> Result<ReplyStream, Error> {
        let mut call = self.in_process(data, false);
        let caller = body.map(|(body, caller)| {
            call.context.control.set_body(body);
            caller
        });
        // The timeout is one for each reply.
        call.context.deadline = self.deadline;
        let replies = in_process::stream(running, &self.address, call)?;
        Ok(self.replies(Source::InProcess { replies, _caller: caller }))
    }

    /// Sends a call to the router, for a stream of replies.
    async fn stream_router(&self, data: Bytes) -> Result<ReplyStream, Error> {
        let (queue, open) = self.open_stream(data, None).await?;
        Ok(self.replies(Source::Router { queue, open, _body: None, _bus: self.bus.clone() }))
    }

    /// Sends a call to the router, whose replies go to a queue. `upload` is the credit for the body of the request.
    pub(crate) async fn open_stream(
        &self,
        data: Bytes,
        upload: Option<Arc<Credit>>,
    ) -> Result<(Arc<Queue<Reply>>, CallGuard), Error> {
        let limit = self.bus.engine().options().buffer_limit;
        let queue = Arc::new(Queue::new(limit, WhenFull::End));
        let window = self.window.max(1);
        queue.set_window(window);
        let (timeout_ms, reply_credit) = (milliseconds(self.time_to_deadline()), window as u64);
        let request = CallRequest { timeout_ms, reply_credit, ..self.request(data) };
        let open = self.open_in_time(request, ReplyTo::Stream(queue.clone()), upload).await?;
        Ok((queue, open))
    }

    pub(crate) fn replies(&self, source: Source) -> ReplyStream {
        ReplyStream::new(source, self.item_timeout(&self.address))
    }

    /// Calls the service without a reply. Returns when the push is queued, for the router or for a handler of this
    /// process. A router does not report whether there was a service. Before the program ends, call [`Bus::flush`].
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
                Box::pin(async { self.service_wait().found().await }).await
            }
            found => found,
        };
        self.push_found(found?, data.into()).await
    }

    /// Makes a push. `found` is the result of the search.
    pub(crate) async fn push_found(
        &self,
        found: Option<RunningCall>,
        data: Bytes,
    ) -> Result<(), Error> {
        match found {
            Some(running) => {
                tokio::task::coop::consume_budget().await;
                let call = self.in_process(data, true);
                in_process::push(self.bus.engine().start_queue(), running, call);
                Ok(())
            }
            None => {
                let engine = self.bus.engine();
                let pushed = engine.push(self.request(data), self.wait_for_router);
                with_timeout(self.time_limit(), &self.address, pushed)
                    .await
                    .map_err(|error| self.not_sent(error))
            }
        }
    }

    /// Begins the call at the service of this process; `None` if the call is for the router.
    pub(crate) fn find(&self) -> Result<Option<RunningCall>, Error> {
        self.find_at(&self.address)
    }

    /// [`find`](Endpoint::find) for an address.
    pub(crate) fn find_at(&self, address: &str) -> Result<Option<RunningCall>, Error> {
        self.bus.engine().find(address, self.bus.scope(), &self.affinity)
    }

    /// [`open`](Endpoint::open) within the timeout.
    pub(crate) async fn open_in_time(
        &self,
        request: CallRequest,
        reply_to: ReplyTo,
        upload: Option<Arc<Credit>>,
    ) -> Result<CallGuard, Error> {
        let open = self.open(request, reply_to, upload);
        with_timeout(self.time_limit(), &self.address, open)
            .await
            .map_err(|error| self.not_sent(error))
    }

    /// The error of a request that was not sent in time, and thus has reached no service.
    fn not_sent(&self, error: Error) -> Error {
        match error {
            Error::Timeout { after, .. } => {
                self.bus.engine().not_sent(Sending::call(&self.address), after)
            }
            error => error,
        }
    }

    /// Sends a call to the router.
    async fn open(
        &self,
        request: CallRequest,
        reply_to: ReplyTo,
        upload: Option<Arc<Credit>>,
    ) -> Result<CallGuard, Error> {
        let engine = self.bus.engine();
        let number = engine.open_call(request, reply_to, upload, self.wait_for_router).await?;
        Ok(CallGuard { engine: engine.clone(), number })
    }

    pub(crate) fn waits_for_service(&self) -> bool {
        !self.wait_for_service.is_zero()
    }

    /// Whether a handler in this process may need the headers of its call for a span.
    pub(crate) fn wants_span(&self) -> bool {
        is_wanted(&self.headers)
    }

    /// A wait for the service of this endpoint.
    pub(crate) fn service_wait(&self) -> ServiceWait<'_> {
        let timeout = self.time_limit().unwrap_or(Duration::MAX);
        ServiceWait::new(WaitTarget {
            engine: self.bus.engine(),
            scope: self.bus.scope(),
            address: &self.address,
            affinity: &self.affinity,
            service_timeout: self.wait_for_service.min(timeout),
            router_timeout: self.wait_for_router.min(timeout),
        })
    }

    /// How long to wait for each reply of a stream.
    pub(crate) fn item_timeout(&self, target: impl ToString) -> ItemTimeout {
        ItemTimeout::new(target, self.timeout, self.deadline)
    }

    pub(crate) fn final_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long to wait for the reply to a call that begins now.
    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.timeout.into_iter().chain(self.time_to_deadline()).min()
    }

    fn time_to_deadline(&self) -> Option<Duration> {
        Some(self.deadline?.saturating_duration_since(Instant::now()))
    }

    fn in_process(&self, data: Bytes, no_reply: bool) -> Call {
        self.call_here(self.address.clone(), data, no_reply)
    }

    /// A call to a handler of this process.
    pub(crate) fn call_here<T>(&self, address: String, data: T, no_reply: bool) -> Call<T> {
        let limit = self.time_limit().filter(|_| !no_reply);
        let context = CallContext {
            deadline: limit.map(|limit| Instant::now() + limit.min(FOREVER)),
            headers: outgoing(&self.headers),
            trace: Headers::new(),
            no_reply,
            control: Arc::default(),
        };
        Call { caller: self.caller_name().to_owned(), address, data, context }
    }

    /// A call to the router for one reply, without its id.
    pub(crate) fn timed_request(&self, data: Bytes) -> CallRequest {
        CallRequest { timeout_ms: milliseconds(self.time_limit()), ..self.request(data) }
    }

    /// A call to the router, without its id.
    fn request(&self, data: Bytes) -> CallRequest {
        CallRequest {
            caller: self.caller_name().to_owned(),
            address: self.address.clone(),
            data,
            affinity: self.affinity.clone(),
            headers: outgoing(&self.headers).to_proto(),
            ..CallRequest::default()
        }
    }
}

/// A time limit as the router is told it. Zero is no limit.
fn milliseconds(limit: Option<Duration>) -> u32 {
    // A call whose time is over still needs a limit. One of more than 49 days needs none.
    limit.map_or(0, |limit| u32::try_from(limit.as_micros().div_ceil(1000).max(1)).unwrap_or(0))
}
