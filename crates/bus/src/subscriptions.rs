//! Who listens to what.

use std::collections::HashSet;

use gsb_proto::{Topic, TopicId, TopicMap};

use crate::connections::{ConnId, PerConnection};
use crate::refusal::Refusal;

#[derive(Debug)]
pub(crate) struct Subscriptions {
    subscribers: TopicMap<ConnId>,
    own: PerConnection<HashSet<TopicId>>,
    count: usize,
    limit: usize,
}

impl Subscriptions {
    /// `limit` is how many subscriptions one connection may have.
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
        if own.len() >= self.limit {
            return Err(Refusal::TooManySubscriptions { limit: self.limit });
        }
        own.extend(self.subscribers.subscribe(&topic, subscriber));
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
        self.own.entry(subscriber).remove(&place);
        self.subscribers.unsubscribe(place, subscriber);
        self.count -= 1;
        true
    }

    /// Writes into `found` each connection with a subscription that meets `topic`.
    pub(crate) fn find(&self, topic: &Topic, found: &mut Vec<ConnId>) {
        self.subscribers.find(topic, found);
    }

    pub(crate) fn remove_connection(&mut self, connection: ConnId) {
        for topic in self.own.take(connection) {
            self.subscribers.unsubscribe(topic, connection);
            self.count -= 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}
