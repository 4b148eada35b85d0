//! Calling services with typed messages.

use std::fmt;
use std::future::ready as done;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};

use crate::bus::Bus;
use crate::encoding::{Encoding, decode, encode};
use crate::endpoint::{Endpoint, ReplyStream};
use crate::error::Error;
use crate::in_process::{self, Replies};
use crate::services::ServiceEntry;
use crate::timeouts::{Patience, in_time};
use crate::typed::{Answer, Message, ReplyHandler, StreamHandler, address};

/// A service to send typed messages to. Made by [`Bus::service`].
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
    /// The name of the service.
    pub fn service_id(&self) -> &str {
        self.endpoint.address()
    }

    /// Who calls, for the service to read. The name of the [`Bus`] by default.
    #[must_use]
    pub fn caller(self, caller: impl Into<String>) -> Self {
        Service { endpoint: self.endpoint.caller(caller) }
    }

    /// How long to wait for the reply, or for each reply of a stream. `None` is for ever.
    #[must_use]
    pub fn timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Service { endpoint: self.endpoint.timeout(timeout) }
    }

    /// How long to wait for a connection to the router if there is none, within the timeout. See
    /// [`BusBuilder::wait_for_router`](crate::BusBuilder::wait_for_router) for the default.
    #[must_use]
    pub fn wait_for_router(self, patience: Duration) -> Self {
        Service { endpoint: self.endpoint.wait_for_router(patience) }
    }

    /// Sends a message and waits for the answer. Within the process neither is encoded.
    ///
    /// # Errors
    /// Those of [`Endpoint::call`], [`Error::Encoding`], [`Error::Decoding`]. What the service itself
    /// answers, its own errors included, is the inner result.
    pub async fn call<M: Message>(&self, message: M) -> Result<Answer<M>, Error> {
        let address = address::<M>(self.service_id());
        let service = self.find(&address)?;
        if let Some((service, handler)) = typed::<ReplyHandler<M>>(service.as_ref()) {
            let caller = self.endpoint.caller_name();
            let answered = async {
                let running = in_process::enter(service, &address)?;
                let answer = in_process::begin(&running, &address, || handler(caller, message))?;
                in_process::run(running, &address, answer).await
            };
            return in_time(self.endpoint.patience(), &address, answered).await;
        }
        let data = self.encoded(&message)?;
        drop(message);
        let reply = self.endpoint.at(address).call(data).await?;
        self.decoded::<M>(&reply)
    }

    /// [`Service::call`] in the name of `caller`.
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

    /// Sends a message and returns the items of the answer as they come. Within the process nothing is
    /// encoded.
    ///
    /// # Errors
    /// Those of [`Endpoint::stream`], and [`Error::Encoding`].
    pub async fn stream<M: Message>(&self, message: M) -> Result<AnswerStream<M>, Error> {
        let address = address::<M>(self.service_id());
        let service = self.find(&address)?;
        let patience = Patience::new(&address, self.endpoint.patience());
        let caller = self.endpoint.caller_name();
        if let Some((service, handler)) = typed::<StreamHandler<M>>(service.as_ref()) {
            let running = in_process::enter(service, &address)?;
            let items = in_process::begin(&running, &address, || handler(caller, message))?;
            let answers = Replies::new(running, &address, items);
            return Ok(AnswerStream { source: Source::InProcess(answers, patience, false) });
        }
        if let Some((service, handler)) = typed::<ReplyHandler<M>>(service.as_ref()) {
            let running = in_process::enter(service, &address)?;
            let answer = in_process::begin(&running, &address, || handler(caller, message))?;
            let answers = Replies::new(running, &address, stream::once(answer));
            return Ok(AnswerStream { source: Source::InProcess(answers, patience, false) });
        }
        let data = self.encoded(&message)?;
        drop(message);
        let replies = self.endpoint.at(address).stream(data).await?;
        Ok(AnswerStream { source: Source::Encoded(replies, self.clone()) })
    }

    /// Sends a message without wanting an answer.
    ///
    /// # Errors
    /// Those of [`Endpoint::push`], and [`Error::Encoding`].
    pub async fn push<M: Message>(&self, message: M) -> Result<(), Error> {
        let address = address::<M>(self.service_id());
        let service = self.find(&address)?;
        let caller = self.endpoint.caller_name().to_owned();
        if let Some((service, handler)) = typed::<ReplyHandler<M>>(service.as_ref()) {
            let (running, handler) = (in_process::enter(service, &address)?, handler.clone());
            in_process::spawn_push(running, async move { drop(handler(&caller, message).await) });
            return Ok(());
        }
        if let Some((service, handler)) = typed::<StreamHandler<M>>(service.as_ref()) {
            let (running, handler) = (in_process::enter(service, &address)?, handler.clone());
            let drain = async move { handler(&caller, message).for_each(|_| done(())).await };
            in_process::spawn_push(running, drain);
            return Ok(());
        }
        let data = self.encoded(&message)?;
        drop(message);
        self.endpoint.at(address).push(data).await
    }

    /// The service of this process that is called; `None` if the call is for the router.
    fn find(&self, address: &str) -> Result<Option<Arc<ServiceEntry>>, Error> {
        self.endpoint.bus().find(address)
    }

    fn encoding(&self) -> &Arc<dyn Encoding> {
        &self.endpoint.bus().shared().options().encoding
    }

    fn encoded<M: Message>(&self, message: &M) -> Result<Vec<u8>, Error> {
        encode(&**self.encoding(), message)
            .map_err(|error| Error::Encoding { what: M::ID.to_owned(), error })
    }

    fn decoded<M: Message>(&self, reply: &[u8]) -> Result<Answer<M>, Error> {
        decode(&**self.encoding(), reply)
            .map_err(|error| Error::Decoding { from: address::<M>(self.service_id()), error })
    }
}

/// A service of this process, and its handler, if that is an `H`.
fn typed<H: 'static>(service: Option<&Arc<ServiceEntry>>) -> Option<(&Arc<ServiceEntry>, &H)> {
    let service = service?;
    Some((service, service.typed()?))
}

/// The items that answer a message, in order; see [`ReplyStream`] for how it ends. An item that does
/// not decode is [`Error::Decoding`], and not the end.
#[must_use = "a stream does nothing unless it is read"]
pub struct AnswerStream<M: Message> {
    source: Source<M>,
}

/// Where answers come from.
enum Source<M: Message> {
    Encoded(ReplyStream, Service),
    /// And whether they have ended.
    InProcess(Replies<Answer<M>>, Patience, bool),
}

impl<M: Message> fmt::Debug for AnswerStream<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnswerStream").field(&M::ID).finish()
    }
}

impl<M: Message> Stream for AnswerStream<M> {
    type Item = Result<Answer<M>, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.get_mut().source {
            Source::Encoded(replies, service) => {
                let reply = ready!(replies.poll_next_unpin(cx));
                Poll::Ready(reply.map(|reply| service.decoded::<M>(&reply?)))
            }
            Source::InProcess(.., true) => Poll::Ready(None),
            Source::InProcess(answers, patience, ended) => {
                let polled = answers.poll_next_unpin(cx);
                let next = ready!(patience.poll(polled, cx));
                *ended = !matches!(next, Some(Ok(_)));
                Poll::Ready(next)
            }
        }
    }
}
