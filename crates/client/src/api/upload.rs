//! Uploads: calls whose requests have a body, which is a stream.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _};
use gsb_proto::messages::CallRequest;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::api::bus::Bus;
use crate::api::endpoint::Endpoint;
use crate::api::registration::Registering;
use crate::api::reply_stream::{ReplyStream, Source};
use crate::call::Call;
use crate::engine::credit::{Credit, FIRST_CREDIT};
use crate::engine::in_process;
use crate::engine::pending_calls::ReplyTo;
use crate::engine::refusal::NO_UPLOADS;
use crate::engine::service_entry::RunningCall;
use crate::engine::upload_sender::send_body;
use crate::error::{Error, LostReason};
use crate::failure::Failure;
use crate::panics::discard;
use crate::reply::Reply;
use crate::request_stream::RequestStream;
use crate::timeouts::with_timeout;

impl Bus {
    /// Registers a service that takes uploads, and answers each with one reply. [`Endpoint::upload`] calls it. An
    /// ordinary call has an empty body.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), gsb_client::Error> {
    /// use futures::{StreamExt, TryStreamExt, stream};
    /// use gsb_client::{Bus, Bytes, Call, RequestStream};
    ///
    /// let bus = Bus::local();
    /// let _put = bus
    ///     .register_upload("/put", |call: Call, mut body: RequestStream| async move {
    ///         let mut length = 0;
    ///         while let Some(part) = body.try_next().await? {
    ///             length += part.len();
    ///         }
    ///         Ok(format!("{:?} has {length} bytes", call.data))
    ///     })
    ///     .await?;
    ///
    /// let body = stream::iter(["one", "two"]).map(Bytes::from);
    /// let reply = bus.endpoint("/put").upload("a file", body).await?;
    /// assert_eq!(reply, "b\"a file\" has 6 bytes");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn register_upload<F, R, B>(&self, service_id: &str, handler: F) -> Registering
    where
        F: Fn(Call, RequestStream) -> R + Send + Sync + 'static,
        R: Future<Output = Result<B, Failure>> + Send + 'static,
        B: Into<Reply>,
    {
        let handler = move |call: Call| {
            let body = body(&call);
            handler(call, body)
        };
        self.register(service_id, handler).takes_uploads()
    }

    /// Registers a service that takes uploads, and answers each with a stream of replies. It may reply before the body has
    /// ended. [`Endpoint::upload_stream`] calls it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), gsb_client::Error> {
    /// use futures::{StreamExt, TryStreamExt, stream};
    /// use gsb_client::{Bus, Bytes, Call, Failure, RequestStream};
    ///
    /// let bus = Bus::local();
    /// let upper = |_: Call, body: RequestStream| {
    ///     body.map(|part| Ok(part?.to_ascii_uppercase()))
    /// };
    /// let _upper = bus.register_upload_stream("/upper", upper).await?;
    ///
    /// let body = stream::iter(["one", "two"]).map(Bytes::from);
    /// let replies = bus.endpoint("/upper").upload_stream("", body).await?;
    /// assert_eq!(replies.try_collect::<Vec<_>>().await?, ["ONE", "TWO"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn register_upload_stream<F, S, B>(&self, service_id: &str, handler: F) -> Registering
    where
        F: Fn(Call, RequestStream) -> S + Send + Sync + 'static,
        S: Stream<Item = Result<B, Failure>> + Send + 'static,
        B: Into<Reply>,
    {
        let handler = move |call: Call| {
            let body = body(&call);
            handler(call, body)
        };
        self.register_stream(service_id, handler).takes_uploads()
    }
}

/// The body of a call, or an empty one.
fn body(call: &Call) -> RequestStream {
    let body = call.context.control.take_body();
    let body = body.and_then(|body| body.downcast().ok());
    body.map_or_else(RequestStream::empty, |body| *body)
}

impl Endpoint {
    /// Calls a service with a request that goes on in `body`, and waits for its reply. The service has to be registered
    /// with [`Bus::register_upload`] or [`Bus::register_upload_stream`].
    ///
    /// The service gets the parts of the body as they are, in order, and sets the pace: over a router the caller is at
    /// most 1 MiB ahead of the handler (see [`RequestStream`]), within the process the handler reads the body directly.
    /// When the service answers before the end of the body, the body is dropped. Dropping the future cancels the call and
    /// drops the body, too.
    ///
    /// The [timeout](Endpoint::timeout) holds for the whole of the call.
    /// [`wait_for_service`](Endpoint::wait_for_service) waits for services of this process only, because a body cannot be
    /// sent twice.
    ///
    /// ```
    /// # use futures::{StreamExt, stream};
    /// # use gsb_client::{Bus, Bytes, Error};
    /// # async fn example(bus: Bus) -> Result<Bytes, Error> {
    /// let parts = stream::iter(0..1000).map(|number| Bytes::from(format!("line {number}\n")));
    /// bus.endpoint("/put").timeout(None).upload("lines.txt", parts).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Endpoint::call`]; [`Error::Unsupported`] if the service takes no uploads, or the router or the service is
    /// of level 0 of the protocol; [`Error::TooLarge`] if a part is larger than the router accepts.
    pub async fn upload(
        &self,
        data: impl Into<Bytes>,
        body: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Bytes, Error> {
        Ok(self.upload_parts(data.into(), body.map(Ok)).await?.data)
    }

    /// [`upload`](Endpoint::upload) of a body that may fail.
    pub(crate) async fn upload_parts(
        &self,
        data: Bytes,
        body: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Result<Reply, Error> {
        match self.find_for_upload().await? {
            Some(running) => {
                let call = self.call_here(self.address().to_owned(), data, false);
                let (body, _caller) = RequestStream::of_caller(self.address().to_owned(), body);
                call.context.control.set_body(body);
                in_process::call(running, self.address(), self.time_limit(), call).await
            }
            None => {
                let uploaded = self.upload_over_router(data, body);
                with_timeout(self.time_limit(), self.address(), uploaded).await
            }
        }
    }

    /// Calls a service with a request that goes on in `body`, and returns its replies as they arrive. Both may go on at
    /// the same time: over a router a task sends the body. Dropping the stream cancels the call and drops the body. See
    /// [`upload`](Endpoint::upload).
    ///
    /// # Errors
    /// Those of [`Endpoint::stream`]; those of [`Endpoint::upload`] are returned here, or as the last item of the stream.
    pub async fn upload_stream(
        &self,
        data: impl Into<Bytes>,
        body: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<ReplyStream, Error> {
        self.upload_parts_for_stream(data.into(), body.map(Ok)).await
    }

    /// [`upload_stream`](Endpoint::upload_stream) of a body that may fail.
    pub(crate) async fn upload_parts_for_stream(
        &self,
        data: Bytes,
        body: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Result<ReplyStream, Error> {
        if let Some(running) = self.find_for_upload().await? {
            let (body, caller) = RequestStream::of_caller(self.address().to_owned(), body);
            return self.stream_here(running, data, Some((body, caller)));
        }
        let credit = Arc::new(Credit::new(FIRST_CREDIT as u64));
        let (queue, open) = self.open_stream(data, Some(credit.clone())).await?;
        let (engine, number, replies) = (open.engine.clone(), open.number, queue.clone());
        let address = self.address().to_owned();
        let sending = async move {
            let sent = AssertUnwindSafe(send_body(engine.clone(), number, credit, body));
            let error = match sent.catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                // Within the process the handler panics with it, and the caller gets this error, too.
                Err(payload) => {
                    discard(payload);
                    Failure::new("the body of its request panicked").into_error(&address)
                }
            };
            replies.end(Some(error));
            engine.cancel_call(number);
        };
        let body = Some(AbortOnDropHandle::new(tokio::spawn(sending)));
        Ok(self.replies(Source::Router { queue, open, _body: body, _bus: self.bus().clone() }))
    }

    /// Finds the service of this process. Fails if it takes no uploads.
    pub(crate) async fn find_for_upload(&self) -> Result<Option<RunningCall>, Error> {
        let found = match self.find() {
            Err(_) if self.waits_for_service() => self.service_wait().found().await,
            found => found,
        };
        match found? {
            Some(running) if !running.service().takes_uploads() => {
                let (target, message) = (self.address().to_owned(), NO_UPLOADS.to_owned());
                Err(Error::Unsupported { target, message })
            }
            found => Ok(found),
        }
    }

    async fn upload_over_router(
        &self,
        data: Bytes,
        body: impl Stream<Item = Result<Bytes, Error>>,
    ) -> Result<Reply, Error> {
        let credit = Arc::new(Credit::new(FIRST_CREDIT as u64));
        let (sender, mut reply) = oneshot::channel();
        let request: CallRequest = self.timed_request(data);
        let open = self.open_in_time(request, ReplyTo::Once(sender), Some(credit.clone())).await?;
        let sending = send_body(open.engine.clone(), open.number, credit, body);
        let reply = tokio::select! {
            biased;
            reply = &mut reply => reply,
            // The body is dropped, and the reply is still to come.
            sent = sending => {
                sent?;
                reply.await
            }
        };
        // The sender was dropped without a reply, so the connection has ended.
        reply.unwrap_or(Err(Error::ConnectionLost(LostReason::Closed)))
    }
}
