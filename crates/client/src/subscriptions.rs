//! Subscriptions of this process, and how broadcasts reach them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{FutureExt as _, Stream};
use gsb_proto::messages::BroadcastRequest;
use gsb_proto::{Topic, TopicId, TopicMap};

use crate::bus::{Bus, Scope, WeakBus};
use crate::error::Error;
use crate::panics::discard;
use crate::queue::Queue;
use crate::status::{Announcement, NameKind};

/// An event that was announced.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broadcast {
    /// The topic it was sent to, which is a pattern if the sender used one.
    pub topic: String,
    /// Who announces, as the sender states it. Nobody has checked it.
    pub caller: String,
    /// The payload.
    pub data: Bytes,
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("topic", &self.topic)
            .field("caller", &self.caller)
            .field("length", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// The subscriptions of one bus.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    topics: TopicMap<u64>,
    /// Ordered, so that what happens to all of them happens in the same order each time.
    subscribers: BTreeMap<u64, Subscriber>,
    /// How many subscribe to a topic that the router is to know: it is told of each topic once.
    announced: HashMap<Topic, usize>,
    last_key: u64,
    /// Reused by each broadcast.
    found: Vec<u64>,
}

#[derive(Debug)]
struct Subscriber {
    queue: Arc<Queue<Broadcast>>,
    scope: Scope,
    /// Its place in `topics`.
    topic: Option<TopicId>,
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The router.
    Router,
    /// This bus.
    Here,
    /// This bus, and it comes back from the router for those whose topics the router knows.
    HereAndRouter,
}

impl Subscriptions {
    /// Adds one; returns its key.
    pub(crate) fn add(&mut self, topic: &Topic, queue: Arc<Queue<Broadcast>>, scope: Scope) -> u64 {
        self.last_key += 1;
        let key = self.last_key;
        let place = self.topics.subscribe(topic, key);
        self.subscribers.insert(key, Subscriber { queue, scope, topic: place });
        if scope == Scope::Everywhere {
            *self.announced.entry(topic.clone()).or_default() += 1;
        }
        key
    }

    /// Removes one; `true` if it was the last that the router had to know its topic for.
    pub(crate) fn remove(&mut self, topic: &Topic, key: u64) -> bool {
        let subscriber = self.subscribers.remove(&key);
        if let Some(place) = subscriber.as_ref().and_then(|subscriber| subscriber.topic) {
            self.topics.unsubscribe(place, key);
        }
        if subscriber.is_none_or(|subscriber| subscriber.scope == Scope::InProcess) {
            return false;
        }
        let Some(count) = self.announced.get_mut(topic) else {
            return false;
        };
        *count -= 1;
        let was_last = *count == 0;
        if was_last {
            self.announced.remove(topic);
        }
        was_last
    }

    /// Whose subscriptions meet the topic of an event.
    pub(crate) fn find(
        &mut self,
        topic: &Topic,
        origin: Origin,
    ) -> impl Iterator<Item = &Arc<Queue<Broadcast>>> {
        self.topics.find(topic, &mut self.found);
        let subscribers = self.found.iter().filter_map(|key| self.subscribers.get(key));
        subscribers.filter(move |subscriber| subscriber.hears(origin)).map(|found| &found.queue)
    }

    /// Those whose topics the router is to know.
    pub(crate) fn announced(&self) -> impl Iterator<Item = &Arc<Queue<Broadcast>>> {
        let subscribers = self.subscribers.values();
        subscribers.filter(|found| found.scope == Scope::Everywhere).map(|found| &found.queue)
    }

    /// All of them, for the last time.
    pub(crate) fn into_queues(self) -> impl Iterator<Item = Arc<Queue<Broadcast>>> {
        self.subscribers.into_values().map(|subscriber| subscriber.queue)
    }
}

impl Subscriber {
    fn hears(&self, origin: Origin) -> bool {
        match origin {
            Origin::Here => true,
            Origin::Router => self.scope == Scope::Everywhere,
            Origin::HereAndRouter => self.scope == Scope::InProcess,
        }
    }
}

impl Broadcast {
    /// What it costs a queue, in bytes.
    pub(crate) fn length(&self) -> usize {
        self.topic.len() + self.caller.len() + self.data.len()
    }
}

impl From<BroadcastRequest> for Broadcast {
    fn from(event: BroadcastRequest) -> Self {
        let BroadcastRequest { topic, caller, data, .. } = event;
        Broadcast { topic, caller, data }
    }
}

/// The events of a topic or pattern, as a stream. Dropping it unsubscribes.
///
/// Only `None` is the end, and comes after the bus has ended. An error is a gap, and stands in the place
/// of the events that are missing: [`Error::Overflow`] where the consumer was slower than the events
/// for so long that the buffer was full, [`Error::ConnectionLost`] where the connection to the router was
/// lost. The stream goes on when it is made again.
#[derive(Debug)]
#[must_use = "dropping it unsubscribes, and so does `let _ =`"]
pub struct Subscription {
    bus: Bus,
    topic: Topic,
    key: u64,
    queue: Arc<Queue<Broadcast>>,
    active: bool,
}

impl Subscription {
    pub(crate) fn new(bus: Bus, topic: Topic, key: u64, queue: Arc<Queue<Broadcast>>) -> Self {
        Subscription { bus, topic, key, queue, active: true }
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// What is subscribed.
    pub fn topic(&self) -> &str {
        self.topic.as_str()
    }

    /// Whether the router knows of it.
    pub fn announcement(&self) -> Announcement {
        match self.bus.scope() {
            Scope::InProcess => Announcement::InProcess,
            Scope::Everywhere => self.bus.shared().announcement(NameKind::Topic, self.topic()),
        }
    }

    /// Ends the subscription and waits until the router has confirmed it, if it has to be told.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::ConnectionLost`].
    pub async fn unsubscribe(mut self) -> Result<(), Error> {
        self.active = false;
        self.bus.shared().unsubscribe(&self.topic, self.key).await
    }

    /// Hands each event to `handler`, one after the other, for as long as the bus lives, and without
    /// keeping it. The task that does so belongs to the current runtime. A handler that panics has
    /// handled its event.
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
                    log::error!("the handler of the topic {} has panicked", detached.topic);
                }
            }
        });
        self.active = false;
    }
}

/// Ends a subscription when nobody handles its events any more.
struct Detached {
    bus: WeakBus,
    topic: Topic,
    key: u64,
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            // Nobody waits for the router to confirm it.
            drop(bus.shared().unsubscribe(&self.topic, self.key));
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
        if self.active {
            // Nobody waits for the router to confirm it.
            drop(self.bus.shared().unsubscribe(&self.topic, self.key));
        }
    }
}
