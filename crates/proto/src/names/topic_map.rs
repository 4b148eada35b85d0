//! A map that finds the subscribers of a broadcast.

mod inline_topics;
mod matcher;
mod segment;
mod slab;
mod subscribers;
mod tree;

use super::topic::Topic;
use inline_topics::TopicNumber;
use tree::Tree;

/// Subscriptions by topic. The topics of subscriptions and of broadcasts may be patterns.
///
/// Finding the subscribers of a broadcast takes at most one step of a few instructions for each segment of each
/// subscribed topic, whatever wildcards there are. Usually it takes far fewer: only topics that begin as the broadcast's
/// topic does are tried, and a part of the tree that belongs to a single subscriber is skipped once that is found.
///
/// A subscription takes about 100 bytes and two or three times the length of its topic, or up to seven times if the
/// segments are single letters.
#[derive(Debug, Clone)]
pub struct TopicMap<K> {
    tree: Tree<K>,
}

/// Identifies a topic of a [`TopicMap`] while it has subscribers.
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

    /// Number of different topics.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether there are no subscriptions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a subscription. `None` if `subscriber` has it already.
    pub fn subscribe(&mut self, topic: &Topic, subscriber: K) -> Option<TopicId> {
        let number = self.tree.insert(topic.as_str(), subscriber);
        let is_new = self.tree.subscribers_mut(number)?.add(subscriber);
        is_new.then_some(TopicId(number))
    }

    /// The subscription of `subscriber` to exactly this topic: `*` and `**` equal only themselves.
    pub fn subscription(&self, topic: &Topic, subscriber: K) -> Option<TopicId> {
        let number = self.tree.find(topic.as_str())?;
        let subscribers = self.tree.subscribers(number)?.as_slice();
        subscribers.binary_search(&subscriber).ok().map(|_| TopicId(number))
    }

    /// Removes a subscription. Returns `false` if there was none.
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

    /// Replaces the contents of `found` by the subscribers with at least one subscription that overlaps with `topic`,
    /// each once and sorted.
    pub fn find(&self, topic: &Topic, found: &mut Vec<K>) {
        found.clear();
        matcher::find(&self.tree, topic.as_str(), found);
        found.sort_unstable();
        found.dedup();
    }
}

#[cfg(test)]
#[path = "topic_map_tests.rs"]
mod tests;
