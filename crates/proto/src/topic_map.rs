//! Who subscribed to what, found by the topic of a broadcast.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::name::{ANY, ONE, Topic};

/// Subscriptions by topic. Both sides may be patterns.
///
/// The topics are kept in order, so that those below a common prefix stand together. A broadcast to a
/// topic without wildcards looks at that topic, and at the patterns whose text before the first
/// wildcard is a prefix of it; it never walks through the others. Memory is in proportion to the
/// topics' text, whatever they contain.
#[derive(Debug, Clone)]
pub struct TopicMap<K> {
    /// Subscribers sorted, none of the lists empty.
    topics: BTreeMap<Topic, Vec<K>>,
    patterns: usize,
}

impl<K> Default for TopicMap<K> {
    fn default() -> Self {
        TopicMap { topics: BTreeMap::new(), patterns: 0 }
    }
}

impl<K: Copy + Ord> TopicMap<K> {
    /// An empty map.
    pub fn new() -> Self {
        TopicMap::default()
    }

    /// How many different topics are subscribed.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether nothing is subscribed.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Adds a subscription; `false` if `subscriber` has it already.
    pub fn subscribe(&mut self, topic: Topic, subscriber: K) -> bool {
        let is_pattern = topic.is_pattern();
        let subscribers = self.topics.entry(topic).or_default();
        if subscribers.is_empty() && is_pattern {
            self.patterns += 1;
        }
        match subscribers.binary_search(&subscriber) {
            Ok(_) => false,
            Err(place) => {
                subscribers.insert(place, subscriber);
                true
            }
        }
    }

    /// Removes a subscription; `false` if there was none.
    pub fn unsubscribe(&mut self, topic: &str, subscriber: K) -> bool {
        let Some((found, subscribers)) = self.topics.get_key_value(topic) else {
            return false;
        };
        let Ok(place) = subscribers.binary_search(&subscriber) else {
            return false;
        };
        if subscribers.len() == 1 {
            self.patterns -= usize::from(found.is_pattern());
            self.topics.remove(topic);
        } else if let Some(subscribers) = self.topics.get_mut(topic) {
            subscribers.remove(place);
        }
        true
    }

    /// Writes into `found`, which is cleared first, everyone with at least one subscription that meets
    /// `topic`: each once, in order.
    pub fn find(&self, topic: &Topic, found: &mut Vec<K>) {
        found.clear();
        if topic.is_pattern() {
            self.find_by_pattern(topic, found);
        } else {
            if let Some(subscribers) = self.topics.get(topic) {
                found.extend_from_slice(subscribers);
            }
            self.find_patterns_above(topic, topic.as_str(), found);
            // `**` may stand for nothing, so `a/**` meets `a`.
            if self.patterns > 0 {
                self.find_in(topic, &format!("{topic}/{ANY}"), found);
            }
        }
        found.sort_unstable();
        found.dedup();
    }

    /// A broadcast to a pattern meets what stands below its literal prefix, and patterns whose own
    /// literal prefix is shorter than that.
    fn find_by_pattern(&self, topic: &Topic, found: &mut Vec<K>) {
        let Some(prefix) = topic.literal_prefix() else {
            self.find_in(topic, "", found);
            return;
        };
        if let Some((own, subscribers)) = self.topics.get_key_value(prefix)
            && own.meets(topic)
        {
            found.extend_from_slice(subscribers);
        }
        self.find_in(topic, &format!("{prefix}/"), found);
        self.find_patterns_above(topic, prefix, found);
    }

    /// The patterns whose first wildcard comes after a proper prefix of `path`.
    fn find_patterns_above(&self, topic: &Topic, path: &str, found: &mut Vec<K>) {
        if self.patterns == 0 {
            return;
        }
        self.find_in(topic, ONE, found);
        let mut start = String::with_capacity(path.len() + 1);
        for (slash, _) in path.match_indices('/') {
            start.clear();
            start.push_str(&path[..=slash]);
            start.push_str(ONE);
            self.find_in(topic, &start, found);
        }
    }

    /// The subscriptions whose text begins with `start` and that meet `topic`.
    fn find_in(&self, topic: &Topic, start: &str, found: &mut Vec<K>) {
        let candidates = self
            .topics
            .range::<str, _>((Bound::Included(start), Bound::Unbounded))
            .take_while(|(candidate, _)| candidate.as_str().starts_with(start));
        for (candidate, subscribers) in candidates {
            // Often enough the topics of one subscriber stand together, and one of them is enough.
            let is_found = subscribers.len() == 1 && found.last() == subscribers.last();
            if !is_found && candidate.meets(topic) {
                found.extend_from_slice(subscribers);
            }
        }
    }
}

#[cfg(test)]
#[path = "topic_map_tests.rs"]
mod tests;
