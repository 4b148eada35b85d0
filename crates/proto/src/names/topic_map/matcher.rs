//! Matches the topic of a broadcast against all subscribed topics.
//!
//! The matcher walks the tree of subscribed topics. For each node it knows the set of positions in the broadcast's topic
//! that the segments so far may have reached. So it visits each segment once at most, whatever wildcards there are on
//! either side.

use std::hash::RandomState;

use super::inline_topics::TopicNumber;
use super::segment::{Segment, Segments, segments};
use super::subscribers::Owner;
use super::tree::{Node, NodeNumber, ROOT, Tree};
use crate::names::pattern::ONE;
use crate::names::topic::MAX_SEGMENTS;

/// Appends to `found` the subscribers of all topics that overlap with `topic`. A subscriber may be found twice.
pub(super) fn find<K: Copy + Ord>(tree: &Tree<K>, topic: &str, found: &mut Vec<K>) {
    let subject = Subject::new(tree.hasher(), topic);
    let mut start = 1;
    if subject.any & 1 != 0 {
        start |= 2;
    }
    Matcher { tree, subject, found, compact_at: 1024 }.visit(ROOT, start);
}

/// A set of positions in the broadcast's topic: bit `n` stands for the position before segment `n`, and the highest one
/// for the end of the topic.
type Positions = u128;

/// Most positions: a topic may have an empty segment before a leading `/`, and there is a position at the end.
const MAX_POSITIONS: usize = MAX_SEGMENTS + 2;

const _: () = assert!(MAX_POSITIONS <= Positions::BITS as usize);

/// A literal segment of the broadcast's topic.
#[derive(Debug, Clone, Copy)]
struct Literal<'a> {
    hash: u32,
    text: &'a [u8],
    /// Positions before this literal or a `*`.
    accepts: Positions,
}

/// The topic of a broadcast, prepared for matching.
#[derive(Debug)]
struct Subject<'a> {
    /// The distinct literal segments.
    literals: Vec<Literal<'a>>,
    /// For each position the index of the literal after it, or [`NO_LITERAL`].
    at: [u8; MAX_POSITIONS],
    /// A hash table with open addressing: indices into `literals`, or [`NO_LITERAL`].
    index: [u8; INDEX_SIZE],
    /// Positions before a `*`.
    one: Positions,
    /// Positions before a `**`.
    any: Positions,
    /// Positions before a segment other than `**`.
    single: Positions,
    /// All positions but the end.
    inner: Positions,
    /// The position at the end.
    end: Positions,
    /// Whether the topic is `*`.
    is_one: bool,
    /// Whether the topic begins with a slash.
    is_absolute: bool,
}

/// Size of [`Subject::index`]. At most a quarter is occupied.
const INDEX_SIZE: usize = 256;

const NO_LITERAL: u8 = u8::MAX;

impl<'a> Subject<'a> {
    fn new(hasher: &RandomState, topic: &'a str) -> Self {
        let mut subject = Subject {
            literals: Vec::with_capacity(8),
            at: [NO_LITERAL; MAX_POSITIONS],
            index: [NO_LITERAL; INDEX_SIZE],
            one: 0,
            any: 0,
            single: 0,
            inner: 0,
            end: 1,
            is_one: topic == ONE,
            is_absolute: topic.starts_with('/'),
        };
        for segment in segments(hasher, topic) {
            let position = subject.end;
            match segment {
                // Two in a row mean the same as one, and `advance` relies on there being one.
                Segment::Any if subject.any & position >> 1 != 0 => continue,
                Segment::Any => subject.any |= position,
                Segment::One => subject.one |= position,
                Segment::Literal { hash, text } => subject.add_literal(position, hash, text),
            }
            subject.end = position << 1;
        }
        subject.inner = subject.end - 1;
        subject.single = subject.inner & !subject.any;
        for literal in &mut subject.literals {
            literal.accepts |= subject.one;
        }
        subject
    }

    fn add_literal(&mut self, position: Positions, hash: u32, text: &'a [u8]) {
        let mut slot = hash as usize % INDEX_SIZE;
        let literal = loop {
            let index = self.index[slot];
            match self.literals.get_mut(usize::from(index)) {
                None => {
                    let added = self.literals.len() as u8;
                    self.index[slot] = added;
                    self.literals.push(Literal { hash, text, accepts: position });
                    break added;
                }
                Some(literal) if literal.hash == hash && literal.text == text => {
                    literal.accepts |= position;
                    break index;
                }
                Some(_) => slot = (slot + 1) % INDEX_SIZE,
            }
        };
        self.at[position.trailing_zeros() as usize] = literal;
    }

    #[inline]
    fn literal(&self, hash: u32, text: &[u8]) -> Option<&Literal<'a>> {
        let mut slot = hash as usize % INDEX_SIZE;
        loop {
            let literal = self.literals.get(usize::from(self.index[slot]))?;
            if literal.hash == hash && literal.text == text {
                return Some(literal);
            }
            slot = (slot + 1) % INDEX_SIZE;
        }
    }

    /// The positions after one more segment of a subscription.
    #[inline]
    fn step(&self, from: Positions, segment: Segment<'_>) -> Positions {
        match segment {
            // All positions that are not before the first one.
            Segment::Any => (from | from.wrapping_neg()) & (self.inner | self.end),
            Segment::One => self.advance(from, self.single),
            // The one case in which the empty segment before a leading slash differs from others: `*` and `/**` have
            // only the empty topic in common, which does not exist.
            Segment::Literal { text: [], .. } if self.is_one => 0,
            Segment::Literal { hash, text } => {
                let literal = self.literal(hash, text);
                self.advance(from, literal.map_or(self.one, |literal| literal.accepts))
            }
        }
    }

    /// The positions after a segment that the positions `accepts` accept. A `**` accepts it too, and then may accept
    /// more or be passed.
    #[inline]
    fn advance(&self, from: Positions, accepts: Positions) -> Positions {
        let at = (from & accepts) << 1 | from & self.any;
        at | (at & self.any) << 1
    }
}

struct Matcher<'a, K> {
    tree: &'a Tree<K>,
    subject: Subject<'a>,
    found: &'a mut Vec<K>,
    /// The number of found subscribers at which duplicates are removed.
    compact_at: usize,
}

impl<K: Copy + Ord> Matcher<'_, K> {
    /// Finds the matching topics at and below a node. `from` are the positions after the segments of its parents. The
    /// recursion is as deep as a topic has segments.
    fn visit(&mut self, number: NodeNumber, from: Positions) {
        let Some(node) = self.tree.node(number).filter(|node| !self.is_found(node)) else {
            return;
        };
        let at = self.follow(from, node.segments());
        if at == 0 {
            return;
        }
        if at & self.subject.end != 0 {
            let is_one = node.parent == ROOT && node.segments().is_one();
            self.add(node.end, is_one);
        }
        let inner = at & self.subject.inner;
        let has_wildcard = inner & (self.subject.one | self.subject.any) != 0;
        self.search_inline(number, node, at, has_wildcard);
        if let Some(child) = self.tree.child(number, Segment::Any) {
            self.visit(child, at);
        }
        if let Some(child) = self.tree.child(number, Segment::One) {
            self.visit(child, at);
        }
        if has_wildcard || inner.count_ones() as usize > node.children.len() {
            for &child in &node.children {
                if self.is_found(node) {
                    return;
                }
                self.visit(child, at);
            }
        } else if !node.children.is_empty() {
            self.for_each_literal(inner, |matcher, segment| {
                if let Some(child) = matcher.tree.child(number, segment) {
                    matcher.visit(child, at);
                }
            });
        }
    }

    /// Finds the matching topics among the inline topics of a node. Looks up those that begin with a segment that may
    /// follow, or tries all of them if they are fewer.
    fn search_inline(
        &mut self,
        number: NodeNumber,
        node: &Node<K>,
        at: Positions,
        has_wildcard: bool,
    ) {
        let is_root = number == ROOT;
        let inner = at & self.subject.inner;
        let topics = &node.inline;
        if has_wildcard || !topics.is_indexed() || inner.count_ones() as usize > topics.len() {
            for chunk in topics.chunks() {
                for (topic, segments) in chunk.iter() {
                    if self.try_inline(topic, segments, at, is_root) && self.is_found(node) {
                        return;
                    }
                }
            }
            return;
        }
        let search_group = |matcher: &mut Self, segment: Segment<'_>| {
            topics.group(segment.key()).for_each(|topic| {
                if let Some(segments) = matcher.tree.segments(topic) {
                    matcher.try_inline(topic, segments, at, is_root);
                }
            });
        };
        search_group(self, Segment::Any);
        search_group(self, Segment::One);
        self.for_each_literal(inner, search_group);
    }

    /// Adds the subscribers of an inline topic if it matches; returns whether it does.
    #[inline]
    fn try_inline(
        &mut self,
        topic: TopicNumber,
        segments: Segments<'_>,
        from: Positions,
        is_root: bool,
    ) -> bool {
        let is_one = is_root && segments.is_one();
        let at = self.follow(from, segments);
        at & self.subject.end != 0 && self.add(topic, is_one)
    }

    /// The positions after some segments of a subscription; none if they do not match.
    #[inline]
    fn follow(&self, from: Positions, segments: Segments<'_>) -> Positions {
        let mut at = from;
        for segment in segments {
            at = self.subject.step(at, segment);
            if at == 0 {
                break;
            }
        }
        at
    }

    /// Calls `each` once with every literal that follows one of the positions, none of which is before a wildcard.
    fn for_each_literal(
        &mut self,
        mut at: Positions,
        mut each: impl FnMut(&mut Self, Segment<'_>),
    ) {
        while at != 0 {
            let literal = self.subject.at.get(at.trailing_zeros() as usize);
            let literal = literal.and_then(|&index| self.subject.literals.get(usize::from(index)));
            let Some(&Literal { hash, text, accepts }) = literal else {
                return;
            };
            at &= !accepts;
            each(self, Segment::Literal { hash, text });
        }
    }

    /// Whether all topics at and below a node belong to the subscriber that was found last.
    #[inline]
    fn is_found(&self, node: &Node<K>) -> bool {
        match (node.owner, self.found.last()) {
            (Owner::Sole(owner), Some(last)) => owner == *last,
            _ => false,
        }
    }

    /// Adds the subscribers of a topic that matches; returns whether there are any. `is_one` says that the topic is
    /// `*`, see [`Subject::step`].
    fn add(&mut self, topic: TopicNumber, is_one: bool) -> bool {
        if is_one && self.subject.is_absolute {
            return false;
        }
        let Some(subscribers) = self.tree.subscribers(topic) else {
            return false;
        };
        self.found.extend_from_slice(subscribers.as_slice());
        if self.found.len() > self.compact_at {
            self.found.sort_unstable();
            self.found.dedup();
            self.compact_at = self.found.len() * 2 + 1024;
        }
        true
    }
}
