//! Topics whose events are of one type.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::bus::Bus;
use crate::api::publisher::Publisher;
use crate::api::subscription::Subscription;
use crate::call::CallContext;
use crate::encoding::{Encoding, decode, encode};
use crate::error::Error;
use crate::event::Broadcast;
use crate::headers::Headers;

/// A topic, or a pattern, whose events are of one type. Made by [`Bus::topic`].
pub struct TypedTopic<T> {
    publisher: Publisher,
    body: PhantomData<fn() -> T>,
}

/// An event of a known type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event<T> {
    /// The topic of the event. A pattern if the publisher used one.
    pub topic: String,
    /// The name of the publisher, as the publisher states it. It is not verified.
    pub caller: String,
    /// The value that is announced.
    pub body: T,
    /// The headers.
    pub headers: Headers,
}

/// The events of a [`TypedTopic`]. It ends as a [`Subscription`] does. An event that cannot be decoded is
/// [`Error::Decoding`], after which the stream goes on.
#[must_use = "dropping it unsubscribes"]
pub struct TypedSubscription<T> {
    subscription: Subscription,
    body: PhantomData<fn() -> T>,
}

impl Bus {
    /// A topic, or a pattern, whose events are of one type.
    ///
    /// ```
    /// # use futures::StreamExt;
    /// # use gsb_client::{Bus, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let mut temperatures = bus.topic::<f64>("room/*/temperature").subscribe().await?;
    /// bus.topic("room/7/temperature").broadcast(&21.5).await?;
    /// while let Some(event) = temperatures.next().await {
    ///     let event = event?;
    ///     println!("{}: {}", event.topic, event.body);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn topic<T>(&self, topic: impl Into<String>) -> TypedTopic<T> {
        TypedTopic { publisher: self.publisher(topic), body: PhantomData }
    }
}

impl<T> fmt::Debug for TypedTopic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedTopic").field(&self.publisher.topic()).finish()
    }
}

impl<T: Serialize> TypedTopic<T> {
    /// Sets a header of the events that are announced; see [`Headers`]. Subscribers read it with [`Event::headers`].
    #[must_use]
    pub fn header(self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        TypedTopic { publisher: self.publisher.header(name, value), body: PhantomData }
    }

    /// Announces the events as a part of handling a call; see [`Publisher::on_behalf_of`].
    #[must_use]
    pub fn on_behalf_of(self, call: impl AsRef<CallContext>) -> Self {
        TypedTopic { publisher: self.publisher.on_behalf_of(call), body: PhantomData }
    }

    /// Announces an event. Returns how many receive it; see [`Bus::broadcast`].
    ///
    /// # Errors
    /// Those of [`Bus::broadcast`], and [`Error::Encoding`].
    pub async fn broadcast(&self, body: &T) -> Result<Option<u32>, Error> {
        let encoding = &self.publisher.bus().engine().options().encoding;
        let data = encode(&**encoding, body)
            .map_err(|error| Error::Encoding { what: self.publisher.topic().to_owned(), error })?;
        self.publisher.broadcast(data).await
    }
}

impl<T: DeserializeOwned> TypedTopic<T> {
    /// Subscribes to the events; see [`Bus::subscribe`].
    ///
    /// # Errors
    /// Those of [`Bus::subscribe`].
    pub async fn subscribe(&self) -> Result<TypedSubscription<T>, Error> {
        let subscription = self.publisher.bus().subscribe(self.publisher.topic()).await?;
        Ok(TypedSubscription { subscription, body: PhantomData })
    }
}

impl<T> TypedSubscription<T> {
    /// Passes each event to `handler`; see [`Subscription::detach`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn detach<F, R>(self, mut handler: F)
    where
        T: DeserializeOwned,
        F: FnMut(Result<Event<T>, Error>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let encoding = self.subscription.bus().engine().options().encoding.clone();
        self.subscription.detach(move |event| handler(decode_event(&*encoding, event)));
    }

    /// Ends the subscription; see [`Subscription::unsubscribe`].
    ///
    /// # Errors
    /// Those of [`Subscription::unsubscribe`].
    pub async fn unsubscribe(self) -> Result<(), Error> {
        self.subscription.unsubscribe().await
    }
}

impl<T> fmt::Debug for TypedSubscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedSubscription").field(&self.subscription.topic()).finish()
    }
}

impl<T: DeserializeOwned> Stream for TypedSubscription<T> {
    type Item = Result<Event<T>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = std::task::ready!(self.subscription.poll_next_unpin(cx));
        let encoding = &self.subscription.bus().engine().options().encoding;
        Poll::Ready(event.map(|event| decode_event(&**encoding, event)))
    }
}

/// Decodes an event.
fn decode_event<T: DeserializeOwned>(
    encoding: &dyn Encoding,
    event: Result<Broadcast, Error>,
) -> Result<Event<T>, Error> {
    let Broadcast { topic, caller, data, headers } = event?;
    match decode(encoding, &data) {
        Ok(body) => Ok(Event { topic, caller, body, headers }),
        Err(error) => Err(Error::Decoding { from: topic, error }),
    }
}
