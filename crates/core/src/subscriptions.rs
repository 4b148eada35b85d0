//! The subscriptions.

use std::collections::{BTreeSet, VecDeque, btree_set};

use gsb_proto::{Quoted, Topic, TopicId, TopicMap};

use crate::connections::PerConnection;
use crate::ids::ConnId;
use crate::refusal::Refusal;

#[derive(Debug)]
pub(crate) struct Subscriptions {
    subscribers: TopicMap<ConnId>,
    own: PerConnection<Own>,
    /// Entries of closed connections, which are still to be removed. Lookups do not find them.
    closing: VecDeque<(ConnId, btree_set::IntoIter<TopicId>)>,
    /// The number of subscriptions of open connections.
    count: usize,
    limit: usize,
}

/// The subscriptions of one connection.
#[derive(Debug, Default)]
struct Own {
    /// A tree, because the set may be large, and a hash table moves all its entries when it grows.
    topics: BTreeSet<TopicId>,
    /// The sum of their weights.
    weight: usize,
}

impl Subscriptions {
    /// `limit` is the weight that the subscriptions of one connection may have together.
    pub(crate) fn new(limit: usize) -> Self {
        Subscriptions {
            subscribers: TopicMap::new(),
            own: PerConnection::default(),
            closing: VecDeque::new(),
            count: 0,
            limit,
        }
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(crate) fn subscribe(&mut self, subscriber: ConnId, topic: &str) -> Result<(), Refusal> {
        let topic = Topic::new(topic)?;
        if self.subscribers.subscription(&topic, subscriber).is_some() {
            let topic = Quoted::new(topic.as_str());
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

    /// Writes into `found` each connection with a subscription that meets `topic`. `is_live` says which are
    /// not gone.
    pub(crate) fn find(
        &self,
        topic: &Topic,
        found: &mut Vec<ConnId>,
        is_live: impl Fn(ConnId) -> bool,
    ) {
        self.subscribers.find(topic, found);
        found.retain(|&subscriber| is_live(subscriber));
    }

    /// Ends the subscriptions of a connection. [`Subscriptions::sweep`] removes their entries.
    pub(crate) fn remove_connection(&mut self, connection: ConnId) {
        let own = self.own.take(connection).topics;
        self.count -= own.len();
        if !own.is_empty() {
            self.closing.push_back((connection, own.into_iter()));
        }
    }

    /// Removes at most `budget` subscriptions of closed connections. Returns the rest of the budget.
    pub(crate) fn sweep(&mut self, mut budget: usize) -> usize {
        while budget > 0
            && let Some((connection, topics)) = self.closing.front_mut()
        {
            match topics.next() {
                Some(topic) => {
                    self.subscribers.unsubscribe(topic, *connection);
                    budget -= 1;
                }
                None => drop(self.closing.pop_front()),
            }
        }
        budget
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}
