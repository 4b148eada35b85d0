//! The subscribed topics as a tree of segments.

use std::hash::RandomState;

use super::pack::{HANDFUL, Pack, TopicNumber, spread};
use super::segment::{Segment, Segments, segments};
use super::slots::{NONE, Slots, shrink};
use super::subscribers::{Owner, Subscribers};
use crate::incremental_table::IncrementalTable;

/// The number of a node.
pub(super) type NodeNumber = u32;

/// The node that all topics begin at.
pub(super) const ROOT: NodeNumber = 0;

/// A node with fewer topics is taken back into its parent. Not just below the number that makes a node,
/// so that one topic that comes and goes does not make and unmake it.
const FEW: usize = HANDFUL / 4;

/// Topics that begin with the same segments share the nodes for these, where they are more than a
/// [`HANDFUL`]. Otherwise they stand in the [`Pack`] of the last node that they share with so many
/// others. There are therefore few nodes, and what stands in a pack is read in order.
#[derive(Debug, Clone)]
pub(super) struct Tree<K> {
    nodes: Slots<Node<K>>,
    topics: Slots<Entry<K>>,
    /// The nodes with a literal segment, by the key of it and of the parent.
    literals: IncrementalTable<(u32, NodeNumber)>,
    hasher: RandomState,
}

/// A topic with subscribers.
#[derive(Debug, Clone)]
pub(super) struct Entry<K> {
    pub(super) subscribers: Subscribers<K>,
    node: NodeNumber,
    /// In the node's pack, unless it is the topic that ends at the node.
    place: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Node<K> {
    /// The one that leads here from the parent, written; none in the root.
    segment: Box<[u8]>,
    pub(super) parent: NodeNumber,
    /// The place among the parent's `children`, if the segment is a literal.
    place: usize,
    /// Whose the topics here and below are.
    pub(super) owner: Owner<K>,
    /// The topic that ends here.
    pub(super) end: TopicNumber,
    /// The topics that go on and have no node below.
    pub(super) pack: Pack,
    /// The nodes below with a literal segment.
    pub(super) children: Vec<NodeNumber>,
    /// The node below with `*`.
    one: NodeNumber,
    /// The node below with `**`.
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
            place: 0,
            owner: Owner::Nobody,
            end: NONE,
            pack: Pack::default(),
            children: Vec::new(),
            one: NONE,
            any: NONE,
        }
    }

    /// One at most.
    pub(super) fn segments(&self) -> Segments<'_> {
        Segments::new(&self.segment)
    }

    fn is_small(&self) -> bool {
        let has_nodes = !self.children.is_empty() || self.one != NONE || self.any != NONE;
        !has_nodes && self.pack.len() + usize::from(self.end != NONE) < FEW
    }
}

/// Where a node stands below its parent.
enum Spot {
    One,
    Any,
    Literal { key: u32, place: usize },
}

impl<K: Copy + Ord> Tree<K> {
    pub(super) fn new() -> Self {
        let mut nodes = Slots::new();
        nodes.add(Node::new(NONE, None));
        Tree {
            nodes,
            topics: Slots::new(),
            literals: IncrementalTable::default(),
            hasher: RandomState::new(),
        }
    }

    /// How many topics there are.
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

    /// What is left of a topic in the pack it stands in.
    #[inline]
    pub(super) fn segments(&self, topic: TopicNumber) -> Option<Segments<'_>> {
        let entry = self.topics.get(topic)?;
        let node = self.nodes.get(entry.node)?;
        node.pack.get(entry.place).map(|(_, segments)| segments)
    }

    /// The node below `parent` with this segment.
    #[inline]
    pub(super) fn child(&self, parent: NodeNumber, segment: Segment<'_>) -> Option<NodeNumber> {
        let found = match segment {
            Segment::One => self.node(parent)?.one,
            Segment::Any => self.node(parent)?.any,
            Segment::Literal { .. } => {
                let key = mix(parent, segment);
                let is_it = |&(other, number): &(u32, NodeNumber)| {
                    let node = self.node(number).filter(|_| other == key);
                    node.is_some_and(|node| {
                        node.parent == parent && node.segments().next() == Some(segment)
                    })
                };
                self.literals.find(spread(key), is_it).map_or(NONE, |entry| entry.1)
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
                None => return self.find_packed(node, segment, rest),
            }
            rest = next;
        }
    }

    /// The topic in a node's pack with these segments.
    fn find_packed<'a>(
        &self,
        node: &Node<K>,
        first: Segment<'_>,
        segments: impl Iterator<Item = Segment<'a>> + Clone,
    ) -> Option<TopicNumber> {
        let is_it = |mut packed: Segments<'_>| {
            let mut wanted = segments.clone();
            packed.all(|segment| wanted.next() == Some(segment)) && wanted.next().is_none()
        };
        if !node.pack.is_indexed() {
            return node
                .pack
                .iter()
                .find(|(_, packed)| is_it(packed.clone()))
                .map(|(topic, _)| topic);
        }
        let mut group = node.pack.group(first.key());
        group.find(|&topic| self.segments(topic).is_some_and(is_it))
    }

    /// The number of a topic, new if there is none. Every node on the way is `subscriber`'s too.
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
            Some(first) => node.and_then(|node| self.find_packed(node, first, rest.clone())),
        };
        if let Some(found) = found {
            return found;
        }
        let entry = Entry { subscribers: Subscribers::Nobody, node: number, place: 0 };
        let added = self.topics.add(entry);
        self.put(added, number, rest.clone());
        if let Some(first) = rest.next() {
            self.branch(number, first, subscriber);
        }
        added
    }

    /// Removes a topic.
    pub(super) fn remove(&mut self, topic: TopicNumber) {
        let Some(Entry { node: mut number, place, .. }) = self.topics.remove(topic) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(number) {
            if node.end == topic {
                node.end = NONE;
            } else {
                node.pack.remove(place);
                self.settle(number, place);
            }
        }
        while number != ROOT
            && let Some(node) = self.node(number).filter(|node| node.is_small())
        {
            let parent = node.parent;
            self.take_back(number);
            number = parent;
        }
        if self.topics.len() == 0
            && let Some(root) = self.nodes.get_mut(ROOT)
        {
            *root = Node::new(NONE, None);
        }
    }

    /// Gives a topic its place at a node, in front of these segments.
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
            Some(_) => entry.place = node.pack.push(topic, segments),
        }
    }

    /// Makes a node for the topics in a pack that begin with `first`, if they are more than a handful.
    fn branch(&mut self, parent: NodeNumber, first: Segment<'_>, subscriber: K) {
        let Some(node) = self.node(parent) else {
            return;
        };
        if node.pack.group(first.key()).take(HANDFUL + 1).count() <= HANDFUL {
            return;
        }
        let with_first = |topic: &TopicNumber| {
            self.segments(*topic).is_some_and(|mut segments| segments.next() == Some(first))
        };
        let moving: Vec<_> = node.pack.group(first.key()).filter(with_first).collect();
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
            let place = entry.place;
            let packed = node.pack.get(place);
            let written = packed.map_or(Vec::new(), |(_, segments)| segments.bytes().to_vec());
            node.pack.remove(place);
            self.settle(parent, place);
            self.put(topic, child, Segments::new(&written).skip(1));
        }
        if let Some(child) = self.nodes.get_mut(child) {
            child.owner = owner;
        }
        self.link(child);
    }

    /// Takes a node out; its topics come into the pack of its parent.
    fn take_back(&mut self, number: NodeNumber) {
        self.unlink(number);
        let Some(node) = self.nodes.remove(number) else {
            return;
        };
        let end = Some(node.end).filter(|&end| end != NONE);
        for (topic, segments) in
            end.map(|end| (end, Segments::new(&[]))).into_iter().chain(node.pack.iter())
        {
            self.put(topic, node.parent, node.segments().chain(segments));
        }
    }

    /// Makes a node known to its parent.
    fn link(&mut self, number: NodeNumber) {
        let Some((parent, spot)) = self.spot(number) else {
            return;
        };
        let Some(parent) = self.nodes.get_mut(parent) else {
            return;
        };
        match spot {
            Spot::One => parent.one = number,
            Spot::Any => parent.any = number,
            Spot::Literal { key, .. } => {
                let place = parent.children.len();
                parent.children.push(number);
                if let Some(node) = self.nodes.get_mut(number) {
                    node.place = place;
                }
                self.literals.insert_unique(spread(key), (key, number), |entry| spread(entry.0));
            }
        }
    }

    /// Makes the parent of a node forget it.
    fn unlink(&mut self, number: NodeNumber) {
        let Some((parent, spot)) = self.spot(number) else {
            return;
        };
        let Some(parent) = self.nodes.get_mut(parent) else {
            return;
        };
        match spot {
            Spot::One => parent.one = NONE,
            Spot::Any => parent.any = NONE,
            Spot::Literal { key, place } => {
                parent.children.swap_remove(place);
                shrink(&mut parent.children);
                let moved = parent.children.get(place).copied();
                if let Some(moved) = moved.and_then(|moved| self.nodes.get_mut(moved)) {
                    moved.place = place;
                }
                let is_it = |entry: &(u32, NodeNumber)| entry.1 == number;
                self.literals.remove(spread(key), is_it, |entry| spread(entry.0));
            }
        }
    }

    /// The parent of a node, and where it stands there. The root has none.
    fn spot(&self, number: NodeNumber) -> Option<(NodeNumber, Spot)> {
        let node = self.node(number)?;
        let segment = node.segments().next()?;
        let spot = match segment {
            Segment::One => Spot::One,
            Segment::Any => Spot::Any,
            Segment::Literal { .. } => {
                Spot::Literal { key: mix(node.parent, segment), place: node.place }
            }
        };
        Some((node.parent, spot))
    }

    /// Frees what removed topics have taken in a node's pack, near this place.
    fn settle(&mut self, number: NodeNumber, place: usize) {
        if let Some(node) = self.nodes.get_mut(number) {
            node.pack.settle(place, |topic, place| {
                if let Some(entry) = self.topics.get_mut(topic) {
                    entry.place = place;
                }
            });
        }
    }
}

/// A key for a node, from the number of its parent and its segment.
fn mix(parent: NodeNumber, segment: Segment<'_>) -> u32 {
    // The segment's key is secret; this only has to give each parent another permutation of it.
    (segment.key() ^ parent.wrapping_mul(0x9e37_79b1)).wrapping_mul(0x85eb_ca6b)
}

#[cfg(test)]
#[path = "tree_checks.rs"]
mod checks;
