//! Subscriptions of this process, and how broadcasts reach them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use gsb_proto::messages::BroadcastRequest;
use gsb_proto::{Topic, TopicMap};
use tokio::sync::oneshot;

use crate::bus::Bus;
use crate::control::Outcome;
use crate::error::{Error, LostReason};
use crate::queue::{Queue, detach};

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

/// The subscriptions of one connection. The router knows each topic once, however many subscribe to
/// it here.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    topics: TopicMap<u64>,
    queues: HashMap<u64, Arc<Queue<Broadcast>>>,
    states: HashMap<Topic, TopicState>,
    serial: u64,
    /// Reused by each broadcast.
    found: Vec<u64>,
}

/// A topic with at least one subscription here.
#[derive(Debug)]
struct TopicState {
    /// Tells it from states that the same topic had before.
    serial: u64,
    /// Whose topic it is.
    keys: HashSet<u64>,
    confirmed: bool,
    /// Who waits for the router's answer.
    waiting: Vec<oneshot::Sender<Outcome>>,
}

/// A subscription that was added.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) key: u64,
    /// The state of its topic, if the router has to be asked for it.
    pub(crate) must_ask: Option<u64>,
    /// The router's answer, which may be one that another waits for already.
    pub(crate) answer: oneshot::Receiver<Outcome>,
}

impl Subscriptions {
    pub(crate) fn add(&mut self, topic: &Topic, queue: Arc<Queue<Broadcast>>) -> Added {
        self.serial += 1;
        let key = self.serial;
        self.queues.insert(key, queue);
        self.topics.subscribe(topic.clone(), key);
        let state = self.states.entry(topic.clone()).or_insert_with(|| TopicState {
            serial: key,
            keys: HashSet::new(),
            confirmed: false,
            waiting: Vec::new(),
        });
        state.keys.insert(key);
        let must_ask = (state.keys.len() == 1).then_some(state.serial);
        let (done, answer) = oneshot::channel();
        if state.confirmed {
            let _ = done.send(Ok(()));
        } else {
            state.waiting.push(done);
        }
        Added { key, must_ask, answer }
    }

    /// Removes one; `true` if the router has to be told.
    pub(crate) fn remove(&mut self, topic: &Topic, key: u64) -> bool {
        self.queues.remove(&key);
        self.topics.unsubscribe(topic.as_str(), key);
        let Some(state) = self.states.get_mut(topic) else {
            return false;
        };
        let was_last = state.keys.remove(&key) && state.keys.is_empty();
        if was_last {
            self.states.remove(topic);
        }
        was_last
    }

    /// The router has answered for a state of a topic. Returns who waits for that.
    pub(crate) fn answered(
        &mut self,
        topic: &str,
        serial: u64,
        accepted: bool,
    ) -> Vec<oneshot::Sender<Outcome>> {
        let Some(state) = self.states.get_mut(topic).filter(|state| state.serial == serial) else {
            return Vec::new();
        };
        state.confirmed = accepted;
        let waiting = std::mem::take(&mut state.waiting);
        if !accepted {
            // Whoever comes next asks again.
            self.states.remove(topic);
        }
        waiting
    }

    /// Whose subscriptions meet the topic of an event. They are to be given it when no lock is held.
    pub(crate) fn find(&mut self, topic: &Topic) -> Vec<Arc<Queue<Broadcast>>> {
        self.topics.find(topic, &mut self.found);
        self.found.iter().filter_map(|key| self.queues.get(key).cloned()).collect()
    }

    /// The connection is gone: every subscription ends.
    pub(crate) fn lost(self, reason: &LostReason) {
        let error = || Error::ConnectionLost(reason.clone());
        for queue in self.queues.into_values() {
            queue.end(Some(error()));
        }
        for waiting in self.states.into_values().flat_map(|state| state.waiting) {
            let _ = waiting.send(Err(error()));
        }
    }
}

/// Gives an event to subscribers.
pub(crate) fn deliver(event: BroadcastRequest, subscribers: &[Arc<Queue<Broadcast>>]) {
    let length = event.topic.len() + event.caller.len() + event.data.len();
    let event = Broadcast { topic: event.topic, caller: event.caller, data: detach(event.data) };
    for queue in subscribers {
        queue.push(event.clone(), length);
    }
}

/// The events of a topic or pattern, as a stream. Dropping it unsubscribes.
///
/// Only `None` is the end, and comes after [`Error::ConnectionLost`]. [`Error::Overflow`] is a gap: the
/// consumer was slower than the events for so long that the buffer was full. It stands in the place of
/// the events that are missing, and the stream goes on.
#[derive(Debug)]
#[must_use = "dropping it unsubscribes"]
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

    /// Ends the subscription and waits until the router has confirmed it.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::NotSent`], [`Error::ConnectionLost`].
    pub async fn unsubscribe(mut self) -> Result<(), Error> {
        self.active = false;
        self.bus.shared().unsubscribe(&self.topic, self.key).await
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
