//! Who subscribed to what, found by the topic of a broadcast.

mod pack;
mod segment;
mod slots;
mod subscribers;
mod tree;
mod walk;

use crate::name::Topic;
use pack::TopicNumber;
use tree::Tree;

/// Subscriptions by topic. Both sides may be patterns.
///
/// The topics are kept as a tree of segments. A broadcast walks through it with the set of all positions
/// that it may have reached in its own topic, and so comes to each segment once at most, whatever
/// wildcards there are on either side. At most it takes a step for each segment of all topics, and a
/// step is a few instructions for each 64 segments of the broadcast. Mostly it takes less: only what
/// begins as the broadcast does is looked at, and of what belongs to one subscriber alone nothing more
/// once one of it is found.
///
/// A subscription takes about 100 bytes and two or three times the length of its topic; up to seven
/// times where the segments are single letters.
#[derive(Debug, Clone)]
pub struct TopicMap<K> {
    tree: Tree<K>,
}

/// Names a topic of a [`TopicMap`] for as long as anyone is subscribed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(TopicNumber);

impl<K: Copy + Ord> Default for TopicMap<K> {
    fn default() -> Self {
        TopicMap { tree: Tree::new() }
    }
}

impl<K: Copy + Ord> TopicMap<K> {
    /// An empty map.
    pub fn new() -> Self {
        TopicMap::default()
    }

    /// How many different topics are subscribed.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether nothing is subscribed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a subscription; `None` if `subscriber` has it already.
    pub fn subscribe(&mut self, topic: &Topic, subscriber: K) -> Option<TopicId> {
        let number = self.tree.insert(topic.as_str(), subscriber);
        let is_new = self.tree.subscribers_mut(number)?.add(subscriber);
        is_new.then_some(TopicId(number))
    }

    /// The subscription of `subscriber` to exactly this topic.
    pub fn subscription(&self, topic: &Topic, subscriber: K) -> Option<TopicId> {
        let number = self.tree.find(topic.as_str())?;
        let subscribers = self.tree.subscribers(number)?.as_slice();
        subscribers.binary_search(&subscriber).ok().map(|_| TopicId(number))
    }

    /// Removes a subscription; `false` if there was none.
    pub fn unsubscribe(&mut self, topic: TopicId, subscriber: K) -> bool {
        let Some(subscribers) = self.tree.subscribers_mut(topic.0) else {
            return false;
        };
        let removed = subscribers.remove(subscriber);
        if subscribers.is_empty() {
            self.tree.remove(topic.0);
        }
        removed
    }

    /// Writes into `found`, which is cleared first, everyone with at least one subscription that meets
    /// `topic`: each once, in order.
    pub fn find(&self, topic: &Topic, found: &mut Vec<K>) {
        found.clear();
        walk::find(&self.tree, topic.as_str(), found);
        found.sort_unstable();
        found.dedup();
    }
}

#[cfg(test)]
#[path = "topic_map_tests.rs"]
mod tests;
