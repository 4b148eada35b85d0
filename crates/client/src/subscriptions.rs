//! Subscriptions of this process, and how broadcasts reach them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use gsb_proto::messages::{BroadcastRequest, SubscribeReply, SubscribeReplyCode};
use gsb_proto::{MessageKind, Topic, TopicMap};
use tokio::sync::oneshot;

use crate::bus::Bus;
use crate::control::Answer;
use crate::error::{Error, LostReason};
use crate::queue::{Queue, detach};

/// An event that was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// The topic it was sent to, which is a pattern if the sender used one.
    pub topic: String,
    /// Who announces, as the sender states it. Nobody has checked it.
    pub caller: String,
    /// The payload.
    pub data: Bytes,
}

/// The subscriptions of one connection. The router knows each topic once, however many subscribe to
/// it here.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    topics: TopicMap<u64>,
    queues: HashMap<u64, Arc<Queue<Broadcast>>>,
    states: HashMap<Topic, TopicState>,
    /// Topics that the router was asked for and has not answered, oldest first, with the serials of
    /// their states.
    asked: VecDeque<(Topic, u64)>,
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
    waiting: Vec<oneshot::Sender<Result<(), Error>>>,
}

/// A subscription that was added.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) key: u64,
    /// The router has to be asked, under the same lock.
    pub(crate) must_ask: bool,
    /// Its answer, which may be one that another waits for already.
    pub(crate) answer: Answer,
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
        let must_ask = state.keys.len() == 1;
        if must_ask {
            self.asked.push_back((topic.clone(), state.serial));
        }
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

    /// The router has answered the oldest request.
    pub(crate) fn answered(&mut self, reply: SubscribeReply) -> Result<(), LostReason> {
        let name = MessageKind::SubscribeReply.name();
        let (topic, serial) = self.asked.pop_front().ok_or(LostReason::UnexpectedReply(name))?;
        let Some(state) = self.states.get_mut(&topic) else {
            return Ok(());
        };
        if state.serial != serial {
            return Ok(());
        }
        state.confirmed = reply.code == SubscribeReplyCode::SubscribedOk as i32;
        let result = if state.confirmed {
            Ok(())
        } else {
            Err(Error::BadRequest { target: topic.to_string(), message: reply.message })
        };
        for waiting in state.waiting.drain(..) {
            // Whoever asked may not wait any more.
            let _ = waiting.send(result.clone());
        }
        if result.is_err() {
            // Whoever comes next asks again.
            self.states.remove(&topic);
        }
        Ok(())
    }

    /// Hands an event to each subscription that meets its topic.
    pub(crate) fn deliver(&mut self, event: BroadcastRequest) {
        // A router of another make may let through what is no topic; nobody can have subscribed to it.
        let Ok(topic) = Topic::new(&event.topic) else {
            log::debug!("a broadcast to {:?}, which is no topic, is dropped", event.topic);
            return;
        };
        let length = event.data.len();
        let event =
            Broadcast { topic: event.topic, caller: event.caller, data: detach(event.data) };
        self.topics.find(&topic, &mut self.found);
        for key in &self.found {
            if let Some(queue) = self.queues.get(key) {
                queue.push(event.clone(), length);
            }
        }
    }

    /// The connection is gone: every subscription ends.
    pub(crate) fn lost(&mut self, reason: &LostReason) {
        let error = || Error::ConnectionLost(reason.clone());
        for queue in self.queues.values() {
            queue.end(Some(error()));
        }
        for state in self.states.values_mut() {
            for waiting in state.waiting.drain(..) {
                let _ = waiting.send(Err(error()));
            }
        }
    }
}

/// The events of a topic or pattern, as a stream. Dropping it unsubscribes.
///
/// The stream never ends by itself. If the consumer is slower than the events for so long that the
/// buffer is full, it gets [`Error::Overflow`] with the number of events that are missing, in their
/// place, and goes on. When the connection is lost it gets [`Error::ConnectionLost`], and that is the
/// end.
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

    /// What is subscribed.
    pub fn topic(&self) -> &str {
        self.topic.as_str()
    }

    /// Ends the subscription and waits until the router has confirmed it.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`].
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
