//! The tree of subscribed topics, in which topics share the nodes of their first segments.

use std::hash::RandomState;

use super::inline_topics::{INLINE_MAX, InlineTopics, TopicNumber, spread};
use super::segment::{Segment, Segments, segments};
use super::slab::{NONE, Slab, shrink};
use super::subscribers::{Owner, Subscribers};
use crate::incremental_table::IncrementalTable;

/// The number that identifies a node.
pub(super) type NodeNumber = u32;

/// The node at which all topics begin.
pub(super) const ROOT: NodeNumber = 0;

/// A node with fewer topics is merged into its parent. Far below the number at which a node is made, so that a topic that
/// is added and removed repeatedly does not split and merge a node each time.
const MERGE_BELOW: usize = INLINE_MAX / 4;

/// A tree of segments with few nodes. A node for a beginning exists only if more than [`INLINE_MAX`] topics share the
/// beginning. What follows it is stored in the [`InlineTopics`] of the node, where it is read sequentially.
#[derive(Debug, Clone)]
pub(super) struct Tree<K> {
    nodes: Slab<Node<K>>,
    topics: Slab<Entry<K>>,
    /// Finds the nodes with a literal segment by [`child_key`].
    literals: IncrementalTable<(u32, NodeNumber)>,
    hasher: RandomState,
}

/// A topic with subscribers.
#[derive(Debug, Clone)]
pub(super) struct Entry<K> {
    pub(super) subscribers: Subscribers<K>,
    /// The node of the longest shared beginning.
    node: NodeNumber,
    /// The location in the node's inline topics, unless the topic ends at the node.
    location: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Node<K> {
    /// The encoded segment that leads from the parent to this node; empty in the root.
    segment: Box<[u8]>,
    pub(super) parent: NodeNumber,
    /// The index in the parent's `children`, if the segment is a literal.
    index: usize,
    pub(super) owner: Owner<K>,
    /// The topic that ends here, or [`NONE`].
    pub(super) end: TopicNumber,
    /// The topics that go on and have no child node.
    pub(super) inline: InlineTopics,
    /// The child nodes with a literal segment.
    pub(super) children: Vec<NodeNumber>,
    /// The child node with `*`, or [`NONE`].
    one: NodeNumber,
    /// The child node with `**`, or [`NONE`].
    any: NodeNumber,
}

impl<K> Node<K> {
    fn new(parent: NodeNumber, segment: Option<Segment<'_>>) -> Self {
        let mut written = Vec::new();
        if let Some(segment) = segment {
            segment.write(&mut written);
        }
        Node {
            segment: written.into(),
            parent,
            index: 0,
            owner: Owner::Unowned,
            end: NONE,
            inline: InlineTopics::default(),
            children: Vec::new(),
            one: NONE,
            any: NONE,
        }
    }

    /// The segment that leads to this node; none in the root.
    pub(super) fn segments(&self) -> Segments<'_> {
        Segments::new(&self.segment)
    }

    fn is_small(&self) -> bool {
        let has_nodes = !self.children.is_empty() || self.one != NONE || self.any != NONE;
        !has_nodes && self.inline.len() + usize::from(self.end != NONE) < MERGE_BELOW
    }
}

/// How a parent refers to a node.
enum Link {
    One,
    Any,
    Literal { key: u32, index: usize },
}

impl<K: Copy + Ord> Tree<K> {
    pub(super) fn new() -> Self {
        let mut nodes = Slab::new();
        nodes.add(Node::new(NONE, None));
        Tree {
            nodes,
            topics: Slab::new(),
            literals: IncrementalTable::default(),
            hasher: RandomState::new(),
        }
    }

    /// Number of topics.
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(super) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    #[inline]
    pub(super) fn node(&self, number: NodeNumber) -> Option<&Node<K>> {
        self.nodes.get(number)
    }

    pub(super) fn subscribers(&self, topic: TopicNumber) -> Option<&Subscribers<K>> {
        self.topics.get(topic).map(|entry| &entry.subscribers)
    }

    pub(super) fn subscribers_mut(&mut self, topic: TopicNumber) -> Option<&mut Subscribers<K>> {
        self.topics.get_mut(topic).map(|entry| &mut entry.subscribers)
    }

    /// The segments of an inline topic.
    #[inline]
    pub(super) fn segments(&self, topic: TopicNumber) -> Option<Segments<'_>> {
        let entry = self.topics.get(topic)?;
        let node = self.nodes.get(entry.node)?;
        node.inline.get(entry.location).map(|(_, segments)| segments)
    }

    /// The child node of `parent` with this segment.
    #[inline]
    pub(super) fn child(&self, parent: NodeNumber, segment: Segment<'_>) -> Option<NodeNumber> {
        let found = match segment {
            Segment::One => self.node(parent)?.one,
            Segment::Any => self.node(parent)?.any,
            Segment::Literal { .. } => {
                let key = child_key(parent, segment);
                let matches = |&(other, number): &(u32, NodeNumber)| {
                    let node = self.node(number).filter(|_| other == key);
                    node.is_some_and(|node| {
                        node.parent == parent && node.segments().next() == Some(segment)
                    })
                };
                self.literals.find(spread(key), matches).map_or(NONE, |entry| entry.1)
            }
        };
        Some(found).filter(|&found| found != NONE)
    }

    /// The number of a topic.
    pub(super) fn find(&self, topic: &str) -> Option<TopicNumber> {
        let mut number = ROOT;
        let mut rest = segments(&self.hasher, topic);
        loop {
            let node = self.node(number)?;
            let mut next = rest.clone();
            let Some(segment) = next.next() else {
                return Some(node.end).filter(|&end| end != NONE);
            };
            match self.child(number, segment) {
                Some(child) => number = child,
                None => return self.find_inline(node, segment, rest),
            }
            rest = next;
        }
    }

    /// The inline topic of a node with these segments.
    fn find_inline<'a>(
        &self,
        node: &Node<K>,
        first: Segment<'_>,
        segments: impl Iterator<Item = Segment<'a>> + Clone,
    ) -> Option<TopicNumber> {
        let matches = |mut found: Segments<'_>| {
            let mut wanted = segments.clone();
            found.all(|segment| wanted.next() == Some(segment)) && wanted.next().is_none()
        };
        if !node.inline.is_indexed() {
            let mut topics = node.inline.iter();
            return topics.find(|(_, found)| matches(found.clone())).map(|(topic, _)| topic);
        }
        let mut group = node.inline.group(first.key());
        group.find(|&topic| self.segments(topic).is_some_and(matches))
    }

    /// The number of a topic, which is added if it is new. `subscriber` becomes an owner of every node on the path.
    pub(super) fn insert(&mut self, topic: &str, subscriber: K) -> TopicNumber {
        let hasher = self.hasher.clone();
        let mut number = ROOT;
        let mut rest = segments(&hasher, topic);
        loop {
            if let Some(node) = self.nodes.get_mut(number) {
                node.owner.add(subscriber);
            }
            let mut next = rest.clone();
            let first = next.next();
            match first.and_then(|segment| self.child(number, segment)) {
                Some(child) => number = child,
                None => break,
            }
            rest = next;
        }
        let node = self.node(number);
        let found = match rest.clone().next() {
            None => node.map(|node| node.end).filter(|&end| end != NONE),
            Some(first) => node.and_then(|node| self.find_inline(node, first, rest.clone())),
        };
        if let Some(found) = found {
            return found;
        }
        let entry = Entry { subscribers: Subscribers::Empty, node: number, location: 0 };
        let added = self.topics.add(entry);
        self.put(added, number, rest.clone());
        if let Some(first) = rest.next() {
            self.split(number, first, subscriber);
        }
        added
    }

    /// Removes a topic.
    pub(super) fn remove(&mut self, topic: TopicNumber) {
        let Some(Entry { node: mut number, location, .. }) = self.topics.remove(topic) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(number) {
            if node.end == topic {
                node.end = NONE;
            } else {
                node.inline.remove(location);
                self.compact(number, location);
            }
        }
        while number != ROOT
            && let Some(node) = self.node(number).filter(|node| node.is_small())
        {
            let parent = node.parent;
            self.merge(number);
            number = parent;
        }
        if self.topics.len() == 0
            && let Some(root) = self.nodes.get_mut(ROOT)
        {
            *root = Node::new(NONE, None);
        }
    }

    /// Stores a topic at a node. `segments` are those after the node.
    fn put<'a>(
        &mut self,
        topic: TopicNumber,
        number: NodeNumber,
        segments: impl Iterator<Item = Segment<'a>>,
    ) {
        let (Some(node), Some(entry)) = (self.nodes.get_mut(number), self.topics.get_mut(topic))
        else {
            return;
        };
        let mut segments = segments.peekable();
        entry.node = number;
        match segments.peek() {
            None => node.end = topic,
            Some(_) => entry.location = node.inline.push(topic, segments),
        }
    }

    /// Moves the inline topics of a node that begin with `first` to a new child node, if they are more than
    /// [`INLINE_MAX`].
    fn split(&mut self, parent: NodeNumber, first: Segment<'_>, subscriber: K) {
        let Some(node) = self.node(parent) else {
            return;
        };
        if node.inline.group(first.key()).take(INLINE_MAX + 1).count() <= INLINE_MAX {
            return;
        }
        let with_first = |topic: &TopicNumber| {
            self.segments(*topic).is_some_and(|mut segments| segments.next() == Some(first))
        };
        let moving: Vec<_> = node.inline.group(first.key()).filter(with_first).collect();
        let child = self.nodes.add(Node::new(parent, Some(first)));
        let mut owner = Owner::Sole(subscriber);
        for topic in moving {
            let Some(entry) = self.topics.get(topic) else {
                continue;
            };
            for &subscriber in entry.subscribers.as_slice() {
                owner.add(subscriber);
                if owner == Owner::Several {
                    break;
                }
            }
            let Some(node) = self.nodes.get_mut(parent) else {
                continue;
            };
            let location = entry.location;
            let found = node.inline.get(location);
            let encoded = found.map_or(Vec::new(), |(_, segments)| segments.bytes().to_vec());
            node.inline.remove(location);
            self.compact(parent, location);
            self.put(topic, child, Segments::new(&encoded).skip(1));
        }
        if let Some(child) = self.nodes.get_mut(child) {
            child.owner = owner;
        }
        self.link(child);
    }

    /// Removes a node and moves its topics to its parent.
    fn merge(&mut self, number: NodeNumber) {
        self.unlink(number);
        let Some(node) = self.nodes.remove(number) else {
            return;
        };
        let end = Some(node.end).filter(|&end| end != NONE);
        for (topic, segments) in
            end.map(|end| (end, Segments::new(&[]))).into_iter().chain(node.inline.iter())
        {
            self.put(topic, node.parent, node.segments().chain(segments));
        }
    }

    /// Adds a node to its parent.
    fn link(&mut self, number: NodeNumber) {
        let Some((parent, link)) = self.parent_link(number) else {
            return;
        };
        let Some(parent) = self.nodes.get_mut(parent) else {
            return;
        };
        match link {
            Link::One => parent.one = number,
            Link::Any => parent.any = number,
            Link::Literal { key, .. } => {
                let index = parent.children.len();
                parent.children.push(number);
                if let Some(node) = self.nodes.get_mut(number) {
                    node.index = index;
                }
                self.literals.insert_unique(spread(key), (key, number), |entry| spread(entry.0));
            }
        }
    }

    /// Removes a node from its parent.
    fn unlink(&mut self, number: NodeNumber) {
        let Some((parent, link)) = self.parent_link(number) else {
            return;
        };
        let Some(parent) = self.nodes.get_mut(parent) else {
            return;
        };
        match link {
            Link::One => parent.one = NONE,
            Link::Any => parent.any = NONE,
            Link::Literal { key, index } => {
                parent.children.swap_remove(index);
                shrink(&mut parent.children);
                let moved = parent.children.get(index).copied();
                if let Some(moved) = moved.and_then(|moved| self.nodes.get_mut(moved)) {
                    moved.index = index;
                }
                let matches = |entry: &(u32, NodeNumber)| entry.1 == number;
                self.literals.remove(spread(key), matches, |entry| spread(entry.0));
            }
        }
    }

    /// The parent of a node, and how the parent refers to it. The root has none.
    fn parent_link(&self, number: NodeNumber) -> Option<(NodeNumber, Link)> {
        let node = self.node(number)?;
        let segment = node.segments().next()?;
        let link = match segment {
            Segment::One => Link::One,
            Segment::Any => Link::Any,
            Segment::Literal { .. } => {
                Link::Literal { key: child_key(node.parent, segment), index: node.index }
            }
        };
        Some((node.parent, link))
    }

    /// Frees memory of removed topics around a location in a node's inline topics.
    fn compact(&mut self, number: NodeNumber, location: usize) {
        if let Some(node) = self.nodes.get_mut(number) {
            node.inline.compact(location, |topic, location| {
                if let Some(entry) = self.topics.get_mut(topic) {
                    entry.location = location;
                }
            });
        }
    }
}

/// The key of a child node in [`Tree::literals`], made of its parent's number and its segment.
fn child_key(parent: NodeNumber, segment: Segment<'_>) -> u32 {
    // The segment's key is secret, so that a simple permutation per parent is enough.
    (segment.key() ^ parent.wrapping_mul(0x9e37_79b1)).wrapping_mul(0x85eb_ca6b)
}

#[cfg(test)]
#[path = "tree_checks.rs"]
mod checks;
