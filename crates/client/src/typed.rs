//! Calls with types: messages, their replies and their errors.
//!
//! On the wire a message is a call to `{service id}/{ID}` with the encoded message, and each reply is
//! the encoded `Result<Item, Error>`, as with `ya-service-bus`.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use futures::{Stream, StreamExt as _, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bus::Bus;
use crate::encoding::{Encoding, decode, encode};
use crate::endpoint::{Endpoint, ReplyStream};
use crate::error::{Error, Failure};
use crate::services::{Call, Registration};

/// What may be sent to a service, and what comes back.
///
/// ```
/// use gsb_client::Message;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Divide(f64, f64);
///
/// impl Message for Divide {
///     const ID: &'static str = "divide";
///     type Item = f64;
///     type Error = String;
/// }
/// ```
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Tells the messages of a service apart; the last segment of the address.
    const ID: &'static str;
    /// What a call is answered with, or each item of a stream.
    type Item: Serialize + DeserializeOwned + Send + 'static;
    /// What the service says when it cannot. For `bus` trouble there is [`Error`].
    type Error: Serialize + DeserializeOwned + Send + 'static;
}

/// The result of a typed call: the service's answer, or its own error.
pub type Answer<M> = Result<<M as Message>::Item, <M as Message>::Error>;

/// A service to send typed messages to. Made by [`Bus::service`].
#[derive(Debug, Clone)]
pub struct Service {
    endpoint: Endpoint,
}

impl Bus {
    /// Serves a message: registers `{service_id}/{ID}` with a handler of the message.
    ///
    /// ```
    /// # use gsb_client::{Bus, Error, Message};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Divide(f64, f64);
    /// # impl Message for Divide {
    /// #     const ID: &'static str = "divide";
    /// #     type Item = f64;
    /// #     type Error = String;
    /// # }
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let _division = bus
    ///     .bind("/math", |Divide(a, b)| async move {
    ///         if b == 0.0 { Err("division by zero".to_owned()) } else { Ok(a / b) }
    ///     })
    ///     .await?;
    /// let half = bus.service("/math").call(Divide(1.0, 2.0)).await?;
    /// assert_eq!(half, Ok(0.5));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub async fn bind<M, F, R>(&self, service_id: &str, handler: F) -> Result<Registration, Error>
    where
        M: Message,
        F: Fn(M) -> R + Send + Sync + 'static,
        R: Future<Output = Answer<M>> + Send + 'static,
    {
        self.bind_with_caller(service_id, move |_, message| handler(message)).await
    }

    /// [`Bus::bind`] with a handler that is also told who calls, as the caller states it.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub async fn bind_with_caller<M, F, R>(
        &self,
        service_id: &str,
        handler: F,
    ) -> Result<Registration, Error>
    where
        M: Message,
        F: Fn(String, M) -> R + Send + Sync + 'static,
        R: Future<Output = Answer<M>> + Send + 'static,
    {
        let encoding = self.shared().options().encoding.clone();
        let handler = move |call: Call| {
            let encoding = encoding.clone();
            let answer = read::<M>(&*encoding, &call).map(|message| handler(call.caller, message));
            async move { write::<M>(&*encoding, &answer?.await) }
        };
        self.register(&address::<M>(service_id), handler).await
    }

    /// Serves a message with a stream of items. An item that is an error does not end the stream.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub async fn bind_stream<M, F, S>(
        &self,
        service_id: &str,
        handler: F,
    ) -> Result<Registration, Error>
    where
        M: Message,
        F: Fn(M) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer<M>> + Send + 'static,
    {
        self.bind_stream_with_caller(service_id, move |_, message| handler(message)).await
    }

    /// [`Bus::bind_stream`] with a handler that is also told who calls, as the caller states it.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub async fn bind_stream_with_caller<M, F, S>(
        &self,
        service_id: &str,
        handler: F,
    ) -> Result<Registration, Error>
    where
        M: Message,
        F: Fn(String, M) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer<M>> + Send + 'static,
    {
        let encoding = self.shared().options().encoding.clone();
        let handler = move |call: Call| {
            let encoding = encoding.clone();
            match read::<M>(&*encoding, &call) {
                Ok(message) => Either::Left(
                    handler(call.caller, message)
                        .map(move |answer| write::<M>(&*encoding, &answer)),
                ),
                Err(failure) => Either::Right(stream::iter([Err(failure)])),
            }
        };
        self.register_stream(&address::<M>(service_id), handler).await
    }

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

    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    /// Those of [`Endpoint::call`], [`Error::Encoding`], [`Error::Decoding`]. What the service itself
    /// answers, its own errors included, is the inner result.
    pub async fn call<M: Message>(&self, message: M) -> Result<Answer<M>, Error> {
        let endpoint = self.endpoint_of::<M>();
        let data = self.encoded(&message)?;
        drop(message);
        let reply = endpoint.call(data).await?;
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

    /// Sends a message and returns the items of the answer as they come.
    ///
    /// # Errors
    /// Those of [`Endpoint::stream`], and [`Error::Encoding`].
    pub async fn stream<M: Message>(&self, message: M) -> Result<AnswerStream<M>, Error> {
        let data = self.encoded(&message)?;
        drop(message);
        let replies = self.endpoint_of::<M>().stream(data).await?;
        Ok(AnswerStream { service: self.clone(), replies, message: PhantomData })
    }

    /// Sends a message without wanting an answer.
    ///
    /// # Errors
    /// Those of [`Endpoint::push`], and [`Error::Encoding`].
    pub async fn push<M: Message>(&self, message: M) -> Result<(), Error> {
        let data = self.encoded(&message)?;
        drop(message);
        self.endpoint_of::<M>().push(data).await
    }

    fn endpoint_of<M: Message>(&self) -> Endpoint {
        self.endpoint.at(address::<M>(self.service_id()))
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

/// Where a message goes.
fn address<M: Message>(service_id: &str) -> String {
    format!("{service_id}/{}", M::ID)
}

/// The message of a call.
fn read<M: Message>(encoding: &dyn Encoding, call: &Call) -> Result<M, Failure> {
    decode(encoding, &call.data).map_err(|error| {
        Failure::bad_request(format!("the message {:?} does not decode: {error}", M::ID))
    })
}

/// The reply that brings an answer.
fn write<M: Message>(encoding: &dyn Encoding, answer: &Answer<M>) -> Result<Bytes, Failure> {
    encode(encoding, answer).map(Bytes::from).map_err(|error| {
        Failure::new(format!("the answer to {:?} cannot be encoded: {error}", M::ID))
    })
}

/// The items that answer a message, in order; see [`ReplyStream`] for how it ends. An item that does
/// not decode is [`Error::Decoding`], and not the end.
#[must_use = "a stream does nothing unless it is read"]
pub struct AnswerStream<M> {
    service: Service,
    replies: ReplyStream,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> fmt::Debug for AnswerStream<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnswerStream").field(&M::ID).finish()
    }
}

impl<M: Message> Stream for AnswerStream<M> {
    type Item = Result<Answer<M>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let reply = std::task::ready!(self.replies.poll_next_unpin(cx));
        Poll::Ready(reply.map(|reply| self.service.decoded::<M>(&reply?)))
    }
}
