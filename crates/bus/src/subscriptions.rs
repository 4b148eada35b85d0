//! Who listens to what.

use std::collections::HashSet;

use gsb_proto::{Topic, TopicId, TopicMap};

use crate::connections::{ConnId, PerConnection};
use crate::refusal::Refusal;

#[derive(Debug)]
pub(crate) struct Subscriptions {
    subscribers: TopicMap<ConnId>,
    own: PerConnection<Own>,
    count: usize,
    limit: usize,
}

/// The subscriptions of one connection.
#[derive(Debug, Default)]
struct Own {
    topics: HashSet<TopicId>,
    /// The sum of theirs.
    weight: usize,
}

impl Subscriptions {
    /// `limit` is how much the subscriptions of one connection may weigh.
    pub(crate) fn new(limit: usize) -> Self {
        Subscriptions {
            subscribers: TopicMap::new(),
            own: PerConnection::default(),
            count: 0,
            limit,
        }
    }

    pub(crate) fn subscribe(&mut self, subscriber: ConnId, topic: &str) -> Result<(), Refusal> {
        let topic = Topic::new(topic)?;
        if self.subscribers.subscription(&topic, subscriber).is_some() {
            return Err(Refusal::AlreadySubscribed { topic });
        }
        let own = self.own.entry(subscriber);
        let (limit, weight) = (self.limit, topic.weight());
        if own.weight.saturating_add(weight) > limit {
            let held = own.weight;
            return Err(Refusal::TooManySubscriptions { limit, held, weight });
        }
        own.topics.extend(self.subscribers.subscribe(&topic, subscriber));
        own.weight += weight;
        self.count += 1;
        Ok(())
    }

    /// `false` if there is no such subscription.
    pub(crate) fn unsubscribe(&mut self, subscriber: ConnId, topic: &str) -> bool {
        let Ok(topic) = Topic::new(topic) else {
            return false;
        };
        let Some(place) = self.subscribers.subscription(&topic, subscriber) else {
            return false;
        };
        let own = self.own.entry(subscriber);
        own.topics.remove(&place);
        own.weight = own.weight.saturating_sub(topic.weight());
        self.subscribers.unsubscribe(place, subscriber);
        self.count -= 1;
        true
    }

    /// Writes into `found` each connection with a subscription that meets `topic`.
    pub(crate) fn find(&self, topic: &Topic, found: &mut Vec<ConnId>) {
        self.subscribers.find(topic, found);
    }

    pub(crate) fn remove_connection(&mut self, connection: ConnId) {
        for topic in self.own.take(connection).topics {
            self.subscribers.unsubscribe(topic, connection);
            self.count -= 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}
