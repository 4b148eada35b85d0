//! Serving typed messages.
//!
//! On the wire a message is a call to `{service id}/{ID}` with the encoded message, and each reply is the encoded
//! `Result<Item, Error>`, as with `ya-service-bus`. Within a process messages and answers are passed without encoding.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};

use crate::api::bus::Bus;
use crate::api::registration::{Binding, Registering};
use crate::call::Call;
use crate::encoding::offload::{decode_owned, encode_owned, is_large};
use crate::encoding::{Encoding, EncodingError, decode};
use crate::engine::serial::Turn;
use crate::engine::service_entry::Handler;
use crate::failure::Failure;
use crate::message::{Answer, Message};
use crate::reply::Reply;
use crate::trace::InSpan;

/// A handler of a message, which answers with an `R`.
pub(crate) enum MessageHandler<M, R> {
    /// It gets the message only, so that a call within the process has nothing else to make.
    Message(Arc<dyn Fn(M) -> R + Send + Sync>),
    /// It gets the message with its call.
    Call(Arc<dyn Fn(Call<M>) -> R + Send + Sync>),
}

/// A handler that answers a message once.
pub(crate) type ReplyHandler<M> = MessageHandler<M, BoxFuture<'static, Answer<M>>>;

/// A handler that answers a message with a stream.
pub(crate) type StreamHandler<M> = MessageHandler<M, BoxStream<'static, Answer<M>>>;

impl<M, R> Clone for MessageHandler<M, R> {
    fn clone(&self) -> Self {
        match self {
            MessageHandler::Message(handler) => MessageHandler::Message(handler.clone()),
            MessageHandler::Call(handler) => MessageHandler::Call(handler.clone()),
        }
    }
}

impl<M: Message, R: InSpan> MessageHandler<M, R> {
    pub(crate) fn of_message(handler: impl Fn(M) -> R + Send + Sync + 'static) -> Self {
        MessageHandler::Message(Arc::new(handler))
    }

    pub(crate) fn of_call(handler: impl Fn(Call<M>) -> R + Send + Sync + 'static) -> Self {
        MessageHandler::Call(Arc::new(handler))
    }

    pub(crate) fn handle(&self, call: Call<M>) -> R {
        call.in_span(|call| match self {
            MessageHandler::Message(handler) => handler(call.data),
            MessageHandler::Call(handler) => handler(call),
        })
    }
}

impl<M: Message> ReplyHandler<M> {
    fn serial(self, turn: Turn) -> Self {
        match self {
            MessageHandler::Message(handler) => {
                MessageHandler::of_message(turn.wrap(move |message| handler(message)))
            }
            MessageHandler::Call(handler) => {
                MessageHandler::of_call(turn.wrap(move |call| handler(call)))
            }
        }
    }
}

impl<M: Message> StreamHandler<M> {
    fn serial(self, turn: Turn) -> Self {
        match self {
            MessageHandler::Message(handler) => {
                MessageHandler::of_message(turn.wrap_stream(move |message| handler(message)))
            }
            MessageHandler::Call(handler) => {
                MessageHandler::of_call(turn.wrap_stream(move |call| handler(call)))
            }
        }
    }
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
    pub fn bind<M, F, R>(&self, service_id: &str, handler: F) -> Registering
    where
        M: Message,
        F: Fn(M) -> R + Send + Sync + 'static,
        R: Future<Output = Answer<M>> + Send + 'static,
    {
        let handler = ReplyHandler::of_message(move |message| handler(message).boxed());
        Registering::one(self, self.reply_binding(service_id, handler))
    }

    /// [`Bus::bind`] with a handler that gets the message with its [`Call`]: the name of the caller, the deadline, the
    /// headers.
    ///
    /// ```
    /// # use gsb_client::{Bus, Call, Error, Message};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize, Message)]
    /// #[message(id = "search", item = String)]
    /// struct Search(String);
    ///
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let _search = bus
    ///     .bind_call("/library", |call: Call<Search>| async move {
    ///         println!("{} waits for {:?}", call.caller, call.time_left());
    ///         Ok(format!("nothing about {}", call.data.0))
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_call<M, F, R>(&self, service_id: &str, handler: F) -> Registering
    where
        M: Message,
        F: Fn(Call<M>) -> R + Send + Sync + 'static,
        R: Future<Output = Answer<M>> + Send + 'static,
    {
        let handler = ReplyHandler::of_call(move |call| handler(call).boxed());
        Registering::one(self, self.reply_binding(service_id, handler))
    }

    /// [`Bus::bind`] with a handler that also gets the name of the caller, as the caller states it.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_with_caller<M, F, R>(&self, service_id: &str, handler: F) -> Registering
    where
        M: Message,
        F: Fn(String, M) -> R + Send + Sync + 'static,
        R: Future<Output = Answer<M>> + Send + 'static,
    {
        self.bind_call(service_id, move |call: Call<M>| handler(call.caller, call.data))
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
        let handler = StreamHandler::of_message(move |message| handler(message).boxed());
        Registering::one(self, self.stream_binding(service_id, handler))
    }

    /// [`Bus::bind_stream`] with a handler that gets the message with its [`Call`]; see [`Bus::bind_call`].
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_stream_call<M, F, S>(&self, service_id: &str, handler: F) -> Registering
    where
        M: Message,
        F: Fn(Call<M>) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer<M>> + Send + 'static,
    {
        let handler = StreamHandler::of_call(move |call| handler(call).boxed());
        Registering::one(self, self.stream_binding(service_id, handler))
    }

    /// [`Bus::bind_stream`] with a handler that also gets the name of the caller, as the caller states it.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_stream_with_caller<M, F, S>(&self, service_id: &str, handler: F) -> Registering
    where
        M: Message,
        F: Fn(String, M) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer<M>> + Send + 'static,
    {
        self.bind_stream_call(service_id, move |call: Call<M>| handler(call.caller, call.data))
    }

    /// The address and handler that serve a message with one answer.
    pub(crate) fn reply_binding<M: Message>(
        &self,
        service_id: &str,
        typed: ReplyHandler<M>,
    ) -> Binding {
        let typed = match self.turn().cloned() {
            None => typed,
            Some(turn) => typed.serial(turn),
        };
        let encoding = self.engine().options().encoding.clone();
        let handler_of_bytes = typed.clone();
        let is_serial = self.turn().is_some();
        let handler = move |call: Call| {
            let encoding = encoding.clone();
            // Large messages are decoded on another thread, except where handlers have to begin in order.
            if is_large(&call.data) && call.wants_reply() && !is_serial {
                let handler_of_bytes = handler_of_bytes.clone();
                let answer = async move {
                    let message = decode_owned(&encoding, call.data.clone()).await;
                    let call = call.with_data(message.map_err(not_decoded::<M>)?);
                    encode_answer::<M>(&encoding, handler_of_bytes.handle(call).await).await
                };
                return answer.boxed();
            }
            let answer = decode_message::<M>(&*encoding, &call)
                .map(|message| handler_of_bytes.handle(call.with_data(message)));
            async move { encode_answer::<M>(&encoding, answer?.await).await }.boxed()
        };
        let handler = Handler::Reply(Box::new(handler));
        Binding { address: address::<M>(service_id), handler, typed: Some(Box::new(typed)) }
    }

    /// The address and handler that serve a message with a stream of answers.
    pub(crate) fn stream_binding<M: Message>(
        &self,
        service_id: &str,
        typed: StreamHandler<M>,
    ) -> Binding {
        let typed = match self.turn().cloned() {
            None => typed,
            Some(turn) => typed.serial(turn),
        };
        let encoding = self.engine().options().encoding.clone();
        let handler_of_bytes = typed.clone();
        let handler = move |call: Call| {
            let encoding = encoding.clone();
            match decode_message::<M>(&*encoding, &call) {
                Ok(message) => handler_of_bytes
                    .handle(call.with_data(message))
                    .then(move |answer| {
                        let encoding = encoding.clone();
                        async move { encode_answer::<M>(&encoding, answer).await }
                    })
                    .boxed(),
                Err(failure) => stream::iter([Err(failure)]).boxed(),
            }
        };
        let handler = Handler::Stream(Box::new(handler));
        Binding { address: address::<M>(service_id), handler, typed: Some(Box::new(typed)) }
    }
}

/// The address of a message to a service.
pub(crate) fn address<M: Message>(service_id: &str) -> String {
    [service_id, "/", M::ID].concat()
}

/// Decodes the message of a call.
fn decode_message<M: Message>(encoding: &dyn Encoding, call: &Call) -> Result<M, Failure> {
    decode(encoding, &call.data).map_err(not_decoded::<M>)
}

pub(crate) fn not_decoded<M: Message>(error: EncodingError) -> Failure {
    Failure::bad_request(format!("cannot decode the message {:?}: {error}", M::ID))
}

/// Encodes an answer as a reply.
pub(crate) async fn encode_answer<M: Message>(
    encoding: &Arc<dyn Encoding>,
    answer: Answer<M>,
) -> Result<Reply, Failure> {
    encode_owned(encoding, answer)
        .await
        .map(Reply::from)
        .map_err(|error| Failure::new(format!("cannot encode the answer to {:?}: {error}", M::ID)))
}
