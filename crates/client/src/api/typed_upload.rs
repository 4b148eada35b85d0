//! Uploads of typed parts. Over a router each part is encoded, within the process it is passed as it is.

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};

use crate::api::bind::address;
use crate::api::bus::Bus;
use crate::api::registration::Registering;
use crate::api::service::{AnswerStream, Service, Typed, typed};
use crate::call::Call;
use crate::encoding::offload::{decode_owned, encode_owned};
use crate::engine::in_process::{self, HandlerFuture, Replies, Target};
use crate::error::Error;
use crate::message::{Answer, UploadMessage};
use crate::request_stream::RequestStream;

/// A body that was not encoded.
struct TypedBody<T>(RequestStream<T>);

impl Bus {
    /// Serves a message whose request goes on in typed parts, with one answer. A part that cannot be decoded ends the body
    /// with [`Error::Decoding`]. [`Service::upload`] calls it; see [`Bus::register_upload`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), gsb_client::Error> {
    /// use futures::{TryStreamExt, stream};
    /// use gsb_client::{Bus, Call, Message, RequestStream, UploadMessage};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize, Message)]
    /// #[message(id = "sum", item = i64, error = String)]
    /// struct Sum;
    ///
    /// impl UploadMessage for Sum {
    ///     type Part = i64;
    /// }
    ///
    /// let bus = Bus::local();
    /// let sum = |_: Call<Sum>, numbers: RequestStream<i64>| async move {
    ///     let sum = numbers.try_fold(0, |sum, number| async move { Ok(sum + number) });
    ///     sum.await.map_err(|error| error.to_string())
    /// };
    /// let _sum = bus.bind_upload("/math", sum).await?;
    /// assert_eq!(bus.service("/math").upload(Sum, stream::iter(1..=4)).await?, Ok(10));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_upload<M, F, R>(&self, service_id: &str, handler: F) -> Registering
    where
        M: UploadMessage,
        F: Fn(Call<M>, RequestStream<M::Part>) -> R + Send + Sync + 'static,
        R: Future<Output = Answer<M>> + Send + 'static,
    {
        let parts = self.parts::<M>();
        let handler = move |call: Call<M>| {
            let parts = parts(&call);
            handler(call, parts)
        };
        self.bind_call(service_id, handler).takes_uploads()
    }

    /// [`Bus::bind_upload`] with a stream of answers. [`Service::upload_stream`] calls it.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_upload_stream<M, F, S>(&self, service_id: &str, handler: F) -> Registering
    where
        M: UploadMessage,
        F: Fn(Call<M>, RequestStream<M::Part>) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer<M>> + Send + 'static,
    {
        let parts = self.parts::<M>();
        let handler = move |call: Call<M>| {
            let parts = parts(&call);
            handler(call, parts)
        };
        self.bind_stream_call(service_id, handler).takes_uploads()
    }

    /// Takes the body of a call, which is encoded or typed.
    fn parts<M: UploadMessage>(
        &self,
    ) -> impl Fn(&Call<M>) -> RequestStream<M::Part> + Send + Sync + use<M> {
        let encoding = self.engine().options().encoding.clone();
        move |call| {
            let Some(body) = call.context.control.take_body() else {
                return RequestStream::empty();
            };
            let body = match body.downcast::<TypedBody<M::Part>>() {
                Ok(body) => return body.0,
                Err(body) => body.downcast::<RequestStream>(),
            };
            let (encoding, from) = (encoding.clone(), call.address.clone());
            body.map_or_else(
                |_| RequestStream::empty(),
                |body| {
                    let decode = move |part: Result<Bytes, Error>| {
                        let (encoding, from) = (encoding.clone(), from.clone());
                        async move {
                            let part = decode_owned(&encoding, part?).await;
                            part.map_err(|error| Error::Decoding { from, error })
                        }
                    };
                    RequestStream::new(body.then(decode))
                },
            )
        }
    }
}

impl Service {
    /// Sends a message whose request goes on in `parts`, and waits for the answer. Within the process nothing is encoded.
    /// See [`Endpoint::upload`](crate::Endpoint::upload).
    ///
    /// # Errors
    /// Those of [`Endpoint::upload`](crate::Endpoint::upload), [`Error::Encoding`], [`Error::Decoding`].
    pub async fn upload<M: UploadMessage>(
        &self,
        message: M,
        parts: impl Stream<Item = M::Part> + Send + 'static,
    ) -> Result<Answer<M>, Error> {
        let endpoint = self.endpoint().at(address::<M>(self.service_id()));
        if let Some(running) = endpoint.find_for_upload().await?
            && let Some(Typed::Reply(handler)) = typed::<M>(running.service())
        {
            let target = Target::message::<M>(self.service_id());
            let call = self.call_here(message, false);
            let control = call.context.control.clone();
            let (parts, _caller) =
                RequestStream::of_caller(endpoint.address().to_owned(), parts.map(Ok));
            control.set_body(TypedBody(parts));
            let answer = in_process::begin(&running, target, || handler.handle(call))?;
            let limit = endpoint.time_limit();
            return HandlerFuture::new(running, Some(control), target, limit, answer).await;
        }
        let data = self.encoded(message).await?;
        let reply = endpoint.upload_parts(data.into(), self.encoded_parts::<M>(parts)).await?;
        let answer = decode_owned(self.encoding(), reply.data).await;
        answer.map_err(|error| self.not_decoded::<M>(error))
    }

    /// Sends a message whose request goes on in `parts`, and returns the items of the answer as they arrive. See
    /// [`Endpoint::upload_stream`](crate::Endpoint::upload_stream).
    ///
    /// # Errors
    /// Those of [`Endpoint::upload_stream`](crate::Endpoint::upload_stream), and [`Error::Encoding`].
    pub async fn upload_stream<M: UploadMessage>(
        &self,
        message: M,
        parts: impl Stream<Item = M::Part> + Send + 'static,
    ) -> Result<AnswerStream<M>, Error> {
        let endpoint = self.endpoint().at(address::<M>(self.service_id()));
        if let Some(running) = endpoint.find_for_upload().await?
            && let Some(handler) = typed::<M>(running.service())
        {
            let target = Target::message::<M>(self.service_id());
            let mut call = self.call_here(message, false);
            // The timeout is one for each item.
            call.context.deadline = endpoint.final_deadline();
            let control = call.context.control.clone();
            let (parts, caller) =
                RequestStream::of_caller(endpoint.address().to_owned(), parts.map(Ok));
            control.set_body(TypedBody(parts));
            let answers = in_process::begin(&running, target, || match handler {
                Typed::Reply(handler) => stream::once(handler.handle(call)).boxed(),
                Typed::Stream(handler) => handler.handle(call),
            })?;
            let answers = Replies::new(running, Some(control), target, answers);
            let timeout = endpoint.item_timeout(target);
            return Ok(AnswerStream::in_process(answers, timeout, Some(caller)));
        }
        let data = self.encoded(message).await?;
        let parts = self.encoded_parts::<M>(parts);
        let replies = endpoint.upload_parts_for_stream(data.into(), parts).await?;
        Ok(AnswerStream::encoded(replies, self.clone()))
    }

    fn encoded_parts<M: UploadMessage>(
        &self,
        parts: impl Stream<Item = M::Part> + Send + 'static,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        let encoding = self.encoding().clone();
        parts.then(move |part| {
            let encoding = encoding.clone();
            async move {
                let part = encode_owned(&encoding, part).await;
                let what = || M::ID.to_owned();
                part.map(Bytes::from).map_err(|error| Error::Encoding { what: what(), error })
            }
        })
    }
}
