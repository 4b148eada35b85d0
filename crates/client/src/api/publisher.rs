//! Announcing events.

use bytes::Bytes;
use gsb_proto::Topic;

use crate::api::bus::Bus;
use crate::call::CallContext;
use crate::error::Error;
use crate::event::Broadcast;
use crate::headers::Headers;
use crate::trace::outgoing;

/// A topic, or a pattern, to announce events to, with the headers of the events. Made by [`Bus::publisher`].
#[derive(Debug, Clone)]
pub struct Publisher {
    bus: Bus,
    topic: String,
    headers: Headers,
}

impl Bus {
    /// Announces an event to all subscribers of the topic, in this process and at the router. If the topic is a
    /// pattern, the event reaches the subscriptions that have a matching topic in common with it.
    ///
    /// Waits until the router has taken the event, not until the subscribers have received it. An event that cannot be
    /// sent reaches no subscriber, not even in this process; see
    /// [`BusBuilder::wait_for_router`](crate::BusBuilder::wait_for_router) and [`Bus::in_process`].
    ///
    /// Subscribers in this process receive the event once: from this bus, or from the router if it cannot leave out the
    /// publisher. Routers of `ya-service-bus` cannot, and no router can in the classic framing.
    ///
    /// Returns how many receive the event: the subscriptions of this process and the connections of others for which the
    /// event was queued. `None` if the router does not count them: those of `ya-service-bus` do not, and over the classic
    /// framing none is counted.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::TooLarge`], [`Error::Timeout`], [`Error::NotSent`], [`Error::ShutDown`],
    /// [`Error::ConnectionLost`].
    pub async fn broadcast(
        &self,
        topic: &str,
        data: impl Into<Bytes>,
    ) -> Result<Option<u32>, Error> {
        self.announce(topic, data.into(), &Headers::new()).await
    }

    /// A topic to announce events to, with headers.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), gsb_client::Error> {
    /// use futures::StreamExt;
    /// use gsb_client::Bus;
    ///
    /// let bus = Bus::local();
    /// let mut events = bus.subscribe("news").await?;
    /// let news = bus.publisher("news").header("content-type", "text/plain");
    /// news.broadcast("rain").await?;
    /// if let Some(event) = events.next().await {
    ///     assert_eq!(event?.headers.text("content-type"), Some("text/plain"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn publisher(&self, topic: impl Into<String>) -> Publisher {
        Publisher { bus: self.clone(), topic: topic.into(), headers: Headers::new() }
    }

    async fn announce(
        &self,
        topic: &str,
        data: Bytes,
        headers: &Headers,
    ) -> Result<Option<u32>, Error> {
        let topic = Topic::new(topic)?;
        let caller = self.engine().options().name.clone();
        let headers = outgoing(headers);
        let event = Broadcast { topic: topic.to_string(), caller, data, headers };
        self.engine().broadcast(&topic, &event, self.scope()).await
    }
}

impl Publisher {
    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The topic or pattern.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Sets a header of the events; see [`Headers`]. Subscribers read it with [`Broadcast::headers`].
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Announces the events as a part of handling a call: they have its headers of W3C Trace Context (`traceparent`,
    /// `tracestate`).
    #[must_use]
    pub fn on_behalf_of(mut self, call: impl AsRef<CallContext>) -> Self {
        self.headers.inherit_trace(call.as_ref().trace());
        self
    }

    /// Announces an event. Returns how many receive it; see [`Bus::broadcast`].
    ///
    /// # Errors
    /// Those of [`Bus::broadcast`].
    pub async fn broadcast(&self, data: impl Into<Bytes>) -> Result<Option<u32>, Error> {
        self.bus.announce(&self.topic, data.into(), &self.headers).await
    }
}
