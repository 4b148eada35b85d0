//! Subscribing to events.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{FutureExt as _, Stream};
use gsb_proto::Topic;

use crate::api::bus::{Bus, WeakBus};
use crate::engine::queue::{Queue, WhenFull};
use crate::engine::scope::Scope;
use crate::error::Error;
use crate::event::Broadcast;
use crate::panics::discard;
use crate::status::{Announcement, NameKind};

impl Bus {
    /// Subscribes to a topic, or to all topics that match a pattern: the segment `*` matches one segment, `**` any
    /// number of segments. The subscription receives all events that are announced after this returns.
    ///
    /// Without a connection this returns at once. The subscription receives the events of this process, and the
    /// router is told when there is a connection.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::NameRefused`] if the router refuses it, [`Error::TooLarge`], [`Error::Timeout`],
    /// [`Error::ShutDown`], [`Error::ConnectionLost`].
    pub async fn subscribe(&self, topic: &str) -> Result<Subscription, Error> {
        let topic = Topic::new(topic)?;
        let engine = self.engine();
        let queue = Arc::new(Queue::new(engine.options().buffer_limit, WhenFull::Drop));
        let (key, confirmed) = engine.subscribe(&topic, queue.clone(), self.scope())?;
        // Made before the router has answered. Dropping it undoes the subscription, if the router refuses it or this
        // future is dropped.
        let subscription = Subscription::new(self.clone(), topic.clone(), key, queue);
        confirmed.await?;
        Ok(subscription)
    }
}

/// The events of a topic or pattern, as a stream. Dropping it unsubscribes.
///
/// The stream ends, with `None`, when the bus has ended. An error is a gap in the stream and not its end. It stands in
/// the place of the missing events: [`Error::Overflow`] if the consumer was so slow that the buffer was full,
/// [`Error::Missed`] if the router has dropped events, [`Error::ConnectionLost`] if the connection to the router was
/// lost, [`Error::NameRefused`] if the router has taken the topic away. The stream goes on when the connection is made
/// again, or the router gives the topic back.
#[derive(Debug)]
#[must_use = "dropping it unsubscribes, and so does `let _ =`"]
pub struct Subscription {
    bus: Bus,
    topic: Topic,
    key: u64,
    queue: Arc<Queue<Broadcast>>,
    /// Whether dropping it unsubscribes.
    is_active: bool,
}

impl Subscription {
    pub(crate) fn new(bus: Bus, topic: Topic, key: u64, queue: Arc<Queue<Broadcast>>) -> Self {
        Subscription { bus, topic, key, queue, is_active: true }
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The topic or pattern.
    pub fn topic(&self) -> &str {
        self.topic.as_str()
    }

    /// Whether the router knows the subscription.
    pub fn announcement(&self) -> Announcement {
        match self.bus.scope() {
            Scope::InProcess => Announcement::InProcess,
            Scope::Everywhere => self.bus.engine().announcement(NameKind::Topic, self.topic()),
        }
    }

    /// Ends the subscription and waits until the router has confirmed it, if it has to be told.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::ConnectionLost`].
    pub async fn unsubscribe(mut self) -> Result<(), Error> {
        self.is_active = false;
        self.bus.engine().unsubscribe(&self.topic, self.key).await
    }

    /// Passes the events to `handler`, one after the other, for as long as the bus lives. It does not keep the bus
    /// alive. The handler runs in a task of the current runtime. After a panic of the handler it gets the next event.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn detach<F, R>(mut self, mut handler: F)
    where
        F: FnMut(Result<Broadcast, Error>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let queue = self.queue.clone();
        let detached =
            Detached { bus: self.bus.downgrade(), topic: self.topic.clone(), key: self.key };
        tokio::spawn(async move {
            let detached = detached;
            while let Some(event) = poll_fn(|cx| queue.poll_next(cx)).await {
                let handled = AssertUnwindSafe(async { handler(event).await }).catch_unwind();
                if let Err(payload) = handled.await {
                    discard(payload);
                    log::error!(
                        "the handler of the topic {:?} panicked; it gets the next event",
                        detached.topic
                    );
                }
            }
        });
        self.is_active = false;
    }
}

/// Ends a subscription when the task that handles its events ends.
struct Detached {
    bus: WeakBus,
    topic: Topic,
    key: u64,
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.engine().unsubscribe_in_destructor(&self.topic, self.key);
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Broadcast, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll_next(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.is_active {
            self.bus.engine().unsubscribe_in_destructor(&self.topic, self.key);
        }
    }
}
