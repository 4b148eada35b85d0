//! Calling services with typed messages.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::bind::{MessageHandler, ReplyHandler, StreamHandler, address};
use crate::api::bus::Bus;
use crate::api::endpoint::Endpoint;
use crate::api::reply_stream::ReplyStream;
use crate::call::{Call, CallContext};
use crate::encoding::offload::{decode_elsewhere, decode_owned, encode_owned};
use crate::encoding::{Encoding, EncodingError, decode};
use crate::engine::in_process::{self, HandlerFuture, Replies, Target};
use crate::engine::service_entry::{RunningCall, ServiceEntry, run_to_end};
use crate::error::Error;
use crate::message::{Answer, Message};
use crate::timeouts::{ItemTimeout, with_timeout};

/// Calls a service with typed messages. Made by [`Bus::service`].
#[derive(Debug, Clone)]
pub struct Service {
    endpoint: Endpoint,
}

impl Bus {
    /// A service to send typed messages to.
    pub fn service(&self, service_id: impl Into<String>) -> Service {
        Service { endpoint: self.endpoint(service_id) }
    }
}

impl Service {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The name of the service.
    pub fn service_id(&self) -> &str {
        self.endpoint.address()
    }

    /// The name of the caller, which the service can read. Default: the [name](crate::BusBuilder::name) of the bus.
    #[must_use]
    pub fn caller(self, caller: impl Into<String>) -> Self {
        Service { endpoint: self.endpoint.caller(caller) }
    }

    /// How long to wait for the reply, or for each reply of a stream. `None` waits without a limit; see
    /// [`Endpoint::timeout`].
    #[must_use]
    pub fn timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Service { endpoint: self.endpoint.timeout(timeout) }
    }

    /// The time at which a call ends if its reply, or all replies of its stream, have not arrived; see
    /// [`Endpoint::deadline`].
    #[must_use]
    pub fn deadline(self, deadline: impl Into<Option<Instant>>) -> Self {
        Service { endpoint: self.endpoint.deadline(deadline) }
    }

    /// Makes the calls as a part of handling another call; see [`Endpoint::on_behalf_of`].
    #[must_use]
    pub fn on_behalf_of(self, call: impl AsRef<CallContext>) -> Self {
        Service { endpoint: self.endpoint.on_behalf_of(call) }
    }

    /// Sets a header of the calls; see [`Endpoint::header`].
    #[must_use]
    pub fn header(self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Service { endpoint: self.endpoint.header(name, value) }
    }

    /// How long a call waits for a connection to the router. The wait counts towards the timeout; see
    /// [`Endpoint::wait_for_router`].
    #[must_use]
    pub fn wait_for_router(self, timeout: Duration) -> Self {
        Service { endpoint: self.endpoint.wait_for_router(timeout) }
    }

    /// How long a call waits until the service is registered. The wait counts towards the timeout; see
    /// [`Endpoint::wait_for_service`]. A message is encoded once, however often it is sent.
    #[must_use]
    pub fn wait_for_service(self, timeout: Duration) -> Self {
        Service { endpoint: self.endpoint.wait_for_service(timeout) }
    }

    /// Makes all calls with the same text go to the same owner of a shared name; see [`Endpoint::affinity`].
    #[must_use]
    pub fn affinity(self, text: impl Into<String>) -> Self {
        Service { endpoint: self.endpoint.affinity(text) }
    }

    /// How many bytes of encoded items the service may be ahead of the reader of a stream; see [`Endpoint::window`].
    #[must_use]
    pub fn window(self, bytes: usize) -> Self {
        Service { endpoint: self.endpoint.window(bytes) }
    }

    /// Sends a message and waits for the answer. Within the process neither is encoded.
    ///
    /// # Errors
    /// Those of [`Endpoint::call`], [`Error::Encoding`], [`Error::Decoding`]. The inner result is the answer of the
    /// service, including its own error.
    pub async fn call<M: Message>(&self, message: M) -> Result<Answer<M>, Error> {
        let (found, message) = match self.find::<M>() {
            Ok(Some(running)) => match self.handle(running, message) {
                Ok(answer) => return answer?.await,
                Err((running, message)) => (Some(running), message),
            },
            // Boxed, so that calls within the process stay small.
            Err(_) if self.endpoint.waits_for_service() => {
                return Box::pin(self.call_when_served(message)).await;
            }
            found => (found?, message),
        };
        Box::pin(self.call_encoded(found, message)).await
    }

    /// Starts a handler of this process with a message. Returns both if it is a handler of bytes.
    #[expect(clippy::type_complexity, reason = "it is used once or twice")]
    fn handle<M: Message>(
        &self,
        running: RunningCall,
        message: M,
    ) -> Result<Result<HandlerFuture<'_, Answer<M>>, Error>, (RunningCall, M)> {
        let Some(Typed::Reply(handler)) = typed::<M>(running.service()) else {
            return Err((running, message));
        };
        let target = Target::message::<M>(self.service_id());
        let begun = match handler {
            MessageHandler::Message(handler) if !self.endpoint.wants_span() => {
                in_process::begin(&running, target, || handler(message))
                    .map(|answer| (answer, None))
            }
            _ => {
                let call = self.call_here(message, false);
                let control = call.context.control.clone();
                let answer = in_process::begin(&running, target, || handler.handle(call));
                answer.map(|answer| (answer, Some(control)))
            }
        };
        let limit = self.endpoint.time_limit();
        Ok(begun
            .map(|(answer, control)| HandlerFuture::new(running, control, target, limit, answer)))
    }

    /// A call to a handler of this process.
    pub(crate) fn call_here<M: Message>(&self, message: M, no_reply: bool) -> Call<M> {
        self.endpoint.call_here(address::<M>(self.service_id()), message, no_reply)
    }

    /// A call that waits for a service. The message is encoded only if the service is not in this process.
    async fn call_when_served<M: Message>(&self, message: M) -> Result<Answer<M>, Error> {
        let address = address::<M>(self.service_id());
        let answered = async {
            let (found, message) = match self.wait::<M>().await? {
                Some(running) => match self.handle(running, message) {
                    Ok(answer) => return answer?.await,
                    Err((running, message)) => (Some(running), message),
                },
                None => (None, message),
            };
            self.call_encoded(found, message).await
        };
        with_timeout(self.endpoint.time_limit(), &address, answered).await
    }

    /// A call with an encoded message: to another process, or to a service of bytes.
    async fn call_encoded<M: Message>(
        &self,
        found: Option<RunningCall>,
        message: M,
    ) -> Result<Answer<M>, Error> {
        let data = self.encoded(message).await?;
        let endpoint = self.endpoint.at(address::<M>(self.service_id()));
        let reply = endpoint.call_found(Ok(found), data.into()).await?;
        let answer = decode_owned(self.encoding(), reply.data).await;
        answer.map_err(|error| self.not_decoded::<M>(error))
    }

    /// [`Service::call`] with the caller name `caller`.
    ///
    /// # Errors
    /// Those of [`Service::call`].
    pub async fn call_as<M: Message>(
        &self,
        caller: impl Into<String>,
        message: M,
    ) -> Result<Answer<M>, Error> {
        self.clone().caller(caller).call(message).await
    }

    /// Sends a message and returns the items of the answer as they arrive. Within the process nothing is encoded.
    ///
    /// # Errors
    /// Those of [`Endpoint::stream`], and [`Error::Encoding`].
    pub async fn stream<M: Message>(&self, message: M) -> Result<AnswerStream<M>, Error> {
        let target = Target::message::<M>(self.service_id());
        let mut found = match self.find::<M>() {
            Err(_) if self.endpoint.waits_for_service() => Box::pin(self.wait::<M>()).await?,
            found => found?,
        };
        if let Some(running) = found.take_if(|found| typed::<M>(found.service()).is_some())
            && let Some(typed) = typed::<M>(running.service())
        {
            let mut call = self.call_here(message, false);
            // The timeout is one for each item.
            call.context.deadline = self.endpoint.final_deadline();
            let control = call.context.control.clone();
            let answers = in_process::begin(&running, target, || match typed {
                Typed::Reply(handler) => stream::once(handler.handle(call)).boxed(),
                Typed::Stream(handler) => handler.handle(call),
            })?;
            let answers = Replies::new(running, Some(control), target, answers);
            let timeout = self.endpoint.item_timeout(target);
            return Ok(AnswerStream::in_process(answers, timeout, None));
        }
        let data = self.encoded(message).await?;
        let endpoint = self.endpoint.at(address::<M>(self.service_id()));
        let replies = endpoint.stream_found(found, data.into()).await?;
        Ok(AnswerStream::encoded(replies, self.clone()))
    }

    /// Sends a message without an answer.
    ///
    /// # Errors
    /// Those of [`Endpoint::push`], and [`Error::Encoding`].
    pub async fn push<M: Message>(&self, message: M) -> Result<(), Error> {
        let mut found = match self.find::<M>() {
            Err(_) if self.endpoint.waits_for_service() => Box::pin(self.wait::<M>()).await?,
            found => found?,
        };
        if let Some(running) = found.take_if(|found| typed::<M>(found.service()).is_some())
            && let Some(typed) = typed::<M>(running.service())
        {
            tokio::task::coop::consume_budget().await;
            let call = self.call_here(message, true);
            let control = call.context.control.clone();
            let queue = self.endpoint.bus().engine().start_queue();
            match typed {
                Typed::Reply(handler) => {
                    let handler = handler.clone();
                    let begin = move || handler.handle(call).map(drop).boxed();
                    in_process::start_push(queue, running, control, begin);
                }
                Typed::Stream(handler) => {
                    let handler = handler.clone();
                    let begin = move || run_to_end(handler.handle(call)).boxed();
                    in_process::start_push(queue, running, control, begin);
                }
            }
            return Ok(());
        }
        let data = self.encoded(message).await?;
        let endpoint = self.endpoint.at(address::<M>(self.service_id()));
        endpoint.push_found(found, data.into()).await
    }

    /// Begins a call to the service of this process that serves the message. `None` if the call goes to the router.
    fn find<M: Message>(&self) -> Result<Option<RunningCall>, Error> {
        thread_local! {
            /// The address to look up. Kept so that a call does not allocate.
            static ADDRESS: RefCell<String> = const { RefCell::new(String::new()) };
        }
        ADDRESS.with_borrow_mut(|address| {
            address.clear();
            address.push_str(self.service_id());
            address.push('/');
            address.push_str(M::ID);
            self.endpoint.find_at(address)
        })
    }

    /// Waits until [`find`](Service::find) finds a service.
    async fn wait<M: Message>(&self) -> Result<Option<RunningCall>, Error> {
        let endpoint = self.endpoint.at(address::<M>(self.service_id()));
        endpoint.service_wait().found().await
    }

    pub(crate) fn encoding(&self) -> &Arc<dyn Encoding> {
        &self.endpoint.bus().engine().options().encoding
    }

    pub(crate) async fn encoded<M: Message>(&self, message: M) -> Result<Vec<u8>, Error> {
        encode_owned(self.encoding(), message)
            .await
            .map_err(|error| Error::Encoding { what: M::ID.to_owned(), error })
    }

    pub(crate) fn not_decoded<M: Message>(&self, error: EncodingError) -> Error {
        Error::Decoding { from: address::<M>(self.service_id()), error }
    }
}

/// The typed handler of a message.
pub(crate) enum Typed<'a, M: Message> {
    Reply(&'a ReplyHandler<M>),
    Stream(&'a StreamHandler<M>),
}

pub(crate) fn typed<M: Message>(service: &ServiceEntry) -> Option<Typed<'_, M>> {
    let reply = service.typed().map(Typed::Reply);
    reply.or_else(|| service.typed().map(Typed::Stream))
}

/// The items that answer a message, in order. It ends as a [`ReplyStream`] does. An item that cannot be decoded is
/// [`Error::Decoding`], after which the stream goes on.
#[must_use = "a stream does nothing unless it is read"]
pub struct AnswerStream<M: Message> {
    /// `None` after the end, so that the handler is free even if the reader keeps the stream.
    source: Option<Source<M>>,
}

/// The source of the answers.
enum Source<M: Message> {
    Encoded(Box<Items<M>>),
    InProcess {
        answers: Replies<Answer<M>>,
        timeout: ItemTimeout,
        /// Ends the body of the request when it is dropped.
        _caller: Option<oneshot::Sender<()>>,
    },
}

/// Answers that arrive encoded.
struct Items<M: Message> {
    replies: ReplyStream,
    service: Service,
    /// Set while a large item is decoded on another thread.
    decoding: Option<JoinHandle<Result<Answer<M>, EncodingError>>>,
}

impl<M: Message> Items<M> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Answer<M>, Error>>> {
        if self.decoding.is_none() {
            let reply = match ready!(self.replies.poll_next_unpin(cx)) {
                Some(Ok(reply)) => reply,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            self.decoding = decode_elsewhere(self.service.encoding(), &reply);
            if self.decoding.is_none() {
                let answer = decode(&**self.service.encoding(), &reply);
                return Poll::Ready(Some(answer.map_err(|e| self.service.not_decoded::<M>(e))));
            }
        }
        let Some(decoding) = &mut self.decoding else {
            return Poll::Pending;
        };
        let answer = ready!(decoding.poll_unpin(cx));
        self.decoding = None;
        let answer = answer.unwrap_or_else(|error| Err(EncodingError::new(error)));
        Poll::Ready(Some(answer.map_err(|error| self.service.not_decoded::<M>(error))))
    }
}

impl<M: Message> AnswerStream<M> {
    /// `caller` ends the body of the request, if it has one.
    pub(crate) fn in_process(
        answers: Replies<Answer<M>>,
        timeout: ItemTimeout,
        caller: Option<oneshot::Sender<()>>,
    ) -> Self {
        let source = Source::InProcess { answers, timeout, _caller: caller };
        AnswerStream { source: Some(source) }
    }

    pub(crate) fn encoded(replies: ReplyStream, service: Service) -> Self {
        let items = Items { replies, service, decoding: None };
        AnswerStream { source: Some(Source::Encoded(Box::new(items))) }
    }
}

impl<M: Message> fmt::Debug for AnswerStream<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnswerStream").field(&M::ID).finish()
    }
}

impl<M: Message> Stream for AnswerStream<M> {
    type Item = Result<Answer<M>, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let source = &mut self.get_mut().source;
        let next = match source {
            None => return Poll::Ready(None),
            Some(Source::Encoded(items)) => return items.poll_next(cx),
            Some(Source::InProcess { answers, timeout, .. }) => {
                let polled = answers.poll_next_unpin(cx);
                ready!(timeout.poll(polled, cx))
            }
        };
        if !matches!(next, Some(Ok(_))) {
            *source = None;
        }
        Poll::Ready(next)
    }
}
