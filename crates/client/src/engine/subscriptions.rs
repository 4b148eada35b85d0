//! The subscriptions of this process, and which of them an event matches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gsb_proto::{Topic, TopicId, TopicMap};

use crate::engine::queue::Queue;
use crate::engine::scope::Scope;
use crate::event::Broadcast;

/// The subscriptions of one bus.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    topics: TopicMap<u64>,
    /// Ordered, so that all of them are notified in the same order each time.
    subscribers: BTreeMap<u64, Subscriber>,
    /// The number of subscriptions to each topic that the router is to know. The router is told of a topic once.
    announced: HashMap<Topic, usize>,
    last_key: u64,
    /// The result of the last search. Kept so that a broadcast need not allocate.
    found: Vec<u64>,
}

#[derive(Debug)]
struct Subscriber {
    topic: Topic,
    queue: Arc<Queue<Broadcast>>,
    scope: Scope,
    /// Its entry in `topics`.
    entry: Option<TopicId>,
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The router.
    Router,
    /// This bus.
    Here,
    /// This bus. The router echoes it to the subscriptions that it knows.
    HereAndRouter,
}

impl Subscriptions {
    /// Adds a subscription. Returns its key.
    pub(crate) fn add(&mut self, topic: &Topic, queue: Arc<Queue<Broadcast>>, scope: Scope) -> u64 {
        self.last_key += 1;
        let key = self.last_key;
        let entry = self.topics.subscribe(topic, key);
        let subscriber = Subscriber { topic: topic.clone(), queue, scope, entry };
        self.subscribers.insert(key, subscriber);
        if scope == Scope::Everywhere {
            *self.announced.entry(topic.clone()).or_default() += 1;
        }
        key
    }

    /// Removes a subscription. `true` if the router has to be told, because it was the last one to its topic.
    pub(crate) fn remove(&mut self, topic: &Topic, key: u64) -> bool {
        let subscriber = self.subscribers.remove(&key);
        if let Some(entry) = subscriber.as_ref().and_then(|subscriber| subscriber.entry) {
            self.topics.unsubscribe(entry, key);
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

    /// The subscriptions that match the topic of an event.
    pub(crate) fn find(
        &mut self,
        topic: &Topic,
        origin: Origin,
    ) -> impl Iterator<Item = &Arc<Queue<Broadcast>>> {
        self.topics.find(topic, &mut self.found);
        let subscribers = self.found.iter().filter_map(|key| self.subscribers.get(key));
        subscribers.filter(move |subscriber| subscriber.receives(origin)).map(|found| &found.queue)
    }

    /// The subscriptions whose topics the router is to know.
    pub(crate) fn announced(&self) -> impl Iterator<Item = &Arc<Queue<Broadcast>>> {
        let subscribers = self.subscribers.values();
        subscribers.filter(|found| found.scope == Scope::Everywhere).map(|found| &found.queue)
    }

    /// The [announced](Subscriptions::announced) subscriptions to a topic, letter for letter.
    pub(crate) fn announced_at(&self, topic: &str) -> impl Iterator<Item = &Arc<Queue<Broadcast>>> {
        let subscribers = self.subscribers.values();
        let is_lost = move |found: &&Subscriber| {
            found.scope == Scope::Everywhere && found.topic.as_str() == topic
        };
        subscribers.filter(is_lost).map(|found| &found.queue)
    }

    /// All subscriptions.
    pub(crate) fn into_queues(self) -> impl Iterator<Item = Arc<Queue<Broadcast>>> {
        self.subscribers.into_values().map(|subscriber| subscriber.queue)
    }
}

impl Subscriber {
    fn receives(&self, origin: Origin) -> bool {
        match origin {
            Origin::Here => true,
            Origin::Router => self.scope == Scope::Everywhere,
            Origin::HereAndRouter => self.scope == Scope::InProcess,
        }
    }
}
