//! Calls with types: messages, their replies and their errors.
//!
//! On the wire a message is a call to `{service id}/{ID}` with the encoded message, and each reply is
//! the encoded `Result<Item, Error>`, as with `ya-service-bus`. Within a process the message and its answer
//! are handed over as they are.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bus::Bus;
use crate::encoding::{Encoding, EncodingError, decode};
use crate::error::Failure;
use crate::offload::{decode_owned, encode_owned, is_large};
use crate::registration::{Binding, Registering};
use crate::services::{Call, Handler};

/// What may be sent to a service, and what comes back. There is a
/// [derive macro](derive@crate::Message) for it, too.
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
    /// What the service says when it cannot. For `bus` trouble there is [`Error`](crate::Error).
    type Error: Serialize + DeserializeOwned + Send + 'static;
}

/// The result of a typed call: the service's answer, or its own error.
pub type Answer<M> = Result<<M as Message>::Item, <M as Message>::Error>;

/// What answers a message once. Is told who calls.
pub(crate) type ReplyHandler<M> =
    Arc<dyn Fn(&str, M) -> BoxFuture<'static, Answer<M>> + Send + Sync>;

/// What answers a message with a stream. Is told who calls.
pub(crate) type StreamHandler<M> =
    Arc<dyn Fn(&str, M) -> BoxStream<'static, Answer<M>> + Send + Sync>;

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
    pub fn bind<M, F, R>(&self, service_id: &str, handler: F) -> Registering
    where
        M: Message,
        F: Fn(M) -> R + Send + Sync + 'static,
        R: Future<Output = Answer<M>> + Send + 'static,
    {
        let handler = move |_: &str, message| handler(message).boxed();
        Registering::one(self, self.reply_binding(service_id, Arc::new(handler)))
    }

    /// [`Bus::bind`] with a handler that is also told who calls, as the caller states it.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_with_caller<M, F, R>(&self, service_id: &str, handler: F) -> Registering
    where
        M: Message,
        F: Fn(String, M) -> R + Send + Sync + 'static,
        R: Future<Output = Answer<M>> + Send + 'static,
    {
        let handler = move |caller: &str, message| handler(caller.to_owned(), message).boxed();
        Registering::one(self, self.reply_binding(service_id, Arc::new(handler)))
    }

    /// Serves a message with a stream of items. An item that is an error does not end the stream.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_stream<M, F, S>(&self, service_id: &str, handler: F) -> Registering
    where
        M: Message,
        F: Fn(M) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer<M>> + Send + 'static,
    {
        let handler = move |_: &str, message| handler(message).boxed();
        Registering::one(self, self.stream_binding(service_id, Arc::new(handler)))
    }

    /// [`Bus::bind_stream`] with a handler that is also told who calls, as the caller states it.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_stream_with_caller<M, F, S>(&self, service_id: &str, handler: F) -> Registering
    where
        M: Message,
        F: Fn(String, M) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer<M>> + Send + 'static,
    {
        let handler = move |caller: &str, message| handler(caller.to_owned(), message).boxed();
        Registering::one(self, self.stream_binding(service_id, Arc::new(handler)))
    }

    /// What serves a message with one answer.
    pub(crate) fn reply_binding<M: Message>(
        &self,
        service_id: &str,
        typed: ReplyHandler<M>,
    ) -> Binding {
        let typed = match self.turn().cloned() {
            None => typed,
            Some(turn) => {
                let handler = move |(caller, message): (String, M)| typed(&caller, message);
                let handler = turn.wrap(handler);
                Arc::new(move |caller: &str, message| handler((caller.to_owned(), message)))
            }
        };
        let encoding = self.shared().options().encoding.clone();
        let for_bytes = typed.clone();
        let is_serial = self.turn().is_some();
        let handler = move |call: Call| {
            let encoding = encoding.clone();
            // What begins in the order in which it came is decoded at once.
            if is_large(&call.data) && call.wants_reply() && !is_serial {
                let for_bytes = for_bytes.clone();
                let answer = async move {
                    let message = decode_owned(&encoding, call.data).await;
                    let message = message.map_err(not_a_message::<M>)?;
                    write::<M>(&encoding, for_bytes(&call.caller, message).await).await
                };
                return answer.boxed();
            }
            let answer =
                read::<M>(&*encoding, &call).map(|message| for_bytes(&call.caller, message));
            async move { write::<M>(&encoding, answer?.await).await }.boxed()
        };
        let handler = Handler::Reply(Box::new(handler));
        Binding { address: address::<M>(service_id), handler, typed: Some(Box::new(typed)) }
    }

    /// What serves a message with a stream of answers.
    pub(crate) fn stream_binding<M: Message>(
        &self,
        service_id: &str,
        typed: StreamHandler<M>,
    ) -> Binding {
        let typed = match self.turn().cloned() {
            None => typed,
            Some(turn) => {
                let handler = move |(caller, message): (String, M)| typed(&caller, message);
                let handler = turn.wrap_stream(handler);
                Arc::new(move |caller: &str, message| handler((caller.to_owned(), message)))
            }
        };
        let encoding = self.shared().options().encoding.clone();
        let for_bytes = typed.clone();
        let handler = move |call: Call| {
            let encoding = encoding.clone();
            match read::<M>(&*encoding, &call) {
                Ok(message) => for_bytes(&call.caller, message)
                    .then(move |answer| {
                        let encoding = encoding.clone();
                        async move { write::<M>(&encoding, answer).await }
                    })
                    .boxed(),
                Err(failure) => stream::iter([Err(failure)]).boxed(),
            }
        };
        let handler = Handler::Stream(Box::new(handler));
        Binding { address: address::<M>(service_id), handler, typed: Some(Box::new(typed)) }
    }
}

/// Where a message goes.
pub(crate) fn address<M: Message>(service_id: &str) -> String {
    [service_id, "/", M::ID].concat()
}

/// The message of a call.
fn read<M: Message>(encoding: &dyn Encoding, call: &Call) -> Result<M, Failure> {
    decode(encoding, &call.data).map_err(not_a_message::<M>)
}

fn not_a_message<M: Message>(error: EncodingError) -> Failure {
    Failure::bad_request(format!("the message {:?} does not decode: {error}", M::ID))
}

/// The reply that brings an answer.
async fn write<M: Message>(
    encoding: &Arc<dyn Encoding>,
    answer: Answer<M>,
) -> Result<Bytes, Failure> {
    encode_owned(encoding, answer).await.map(Bytes::from).map_err(|error| {
        Failure::new(format!("the answer to {:?} cannot be encoded: {error}", M::ID))
    })
}
