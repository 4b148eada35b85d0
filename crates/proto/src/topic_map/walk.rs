//! A walk through the tree with the topic of a broadcast.

use std::hash::RandomState;

use super::pack::TopicNumber;
use super::segment::{Segment, Segments, segments};
use super::subscribers::Owner;
use super::tree::{Node, NodeNumber, ROOT, Tree};
use crate::name::ONE;

/// Writes into `found` the subscribers of all topics that meet `topic`; some may be there twice.
pub(super) fn find<K: Copy + Ord>(tree: &Tree<K>, topic: &str, found: &mut Vec<K>) {
    let positions = topic.split('/').count() + 1;
    match positions.div_ceil(64) {
        1 => Walk::<K, 1>::run(tree, topic, found),
        2..=3 => Walk::<K, 3>::run(tree, topic, found),
        4..=5 => Walk::<K, 5>::run(tree, topic, found),
        6..=7 => Walk::<K, 7>::run(tree, topic, found),
        // The longest topic has 513 segments.
        _ => Walk::<K, 9>::run(tree, topic, found),
    }
}

/// A set of positions in the broadcast's topic: position `n` is before its segment `n`, and the last
/// one is after them all.
///
/// Neighbours are in neighbouring words: position `n` is bit `n / W` of word `n % W`. To move all
/// positions on by one is then to move whole words, and no bit has to be carried from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Positions<const W: usize>([u64; W]);

impl<const W: usize> Positions<W> {
    const NONE: Self = Positions([0; W]);

    fn add(&mut self, position: usize) {
        self.0[position % W] |= 1 << (position / W);
    }

    #[inline]
    fn contains(&self, position: usize) -> bool {
        self.0[position % W] >> (position / W) & 1 == 1
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.0.iter().fold(0, |all, word| all | word) == 0
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn first(&self) -> Option<usize> {
        let words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        words.map(|(place, word)| word.trailing_zeros() as usize * W + place).min()
    }

    #[inline]
    fn zip(self, other: Self, each: impl Fn(u64, u64) -> u64) -> Self {
        Positions(std::array::from_fn(|place| each(self.0[place], other.0[place])))
    }

    #[inline]
    fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    #[inline]
    fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    #[inline]
    fn without(self, other: Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Each position moved on by one.
    #[inline]
    fn next(self) -> Self {
        Positions(std::array::from_fn(|place| match place {
            0 => self.0[W - 1] << 1,
            _ => self.0[place - 1],
        }))
    }

    /// All positions that are not before the first one.
    #[inline]
    fn and_all_behind(self) -> Self {
        let Some(first) = self.first() else {
            return self;
        };
        Positions(std::array::from_fn(|place| {
            let bit = first / W + usize::from(place < first % W);
            u64::MAX.checked_shl(bit as u32).unwrap_or(0)
        }))
    }
}

/// A literal segment of the broadcast's topic.
#[derive(Debug, Clone, Copy)]
struct Literal<'a, const W: usize> {
    hash: u32,
    text: &'a [u8],
    /// Where it stands, or a `*`.
    passes: Positions<W>,
}

/// The topic of a broadcast, made ready for being matched against many.
#[derive(Debug)]
struct Subject<'a, const W: usize> {
    /// Each once.
    literals: Vec<Literal<'a, W>>,
    /// Which of them stands at each position; anything for a wildcard.
    at: Vec<u16>,
    /// Places in `literals` by hash, where there are more than a few. As long as a power of two, and
    /// at least half of it vacant.
    index: Vec<u16>,
    /// Where a `*` stands.
    one: Positions<W>,
    /// Where a `**` stands.
    any: Positions<W>,
    /// Where anything but `**` stands.
    single: Positions<W>,
    /// Where any segment stands: all positions but the last.
    inner: Positions<W>,
    /// All positions.
    all: Positions<W>,
    end: usize,
    /// Whether it is `*` and nothing else.
    is_one: bool,
    /// Whether it begins with a slash.
    is_absolute: bool,
}

/// Up to so many literals are looked at one by one.
const FEW: usize = 8;

const VACANT: u16 = u16::MAX;

impl<'a, const W: usize> Subject<'a, W> {
    fn new(hasher: &RandomState, topic: &'a str) -> Self {
        let room = topic.split('/').count();
        let index = if room > FEW { (room * 2).next_power_of_two() } else { 0 };
        let nowhere = Positions::NONE;
        let mut subject = Subject {
            literals: Vec::with_capacity(room),
            at: Vec::with_capacity(room),
            index: vec![VACANT; index],
            one: nowhere,
            any: nowhere,
            single: nowhere,
            inner: nowhere,
            all: nowhere,
            end: 0,
            is_one: topic == ONE,
            is_absolute: topic.starts_with('/'),
        };
        for segment in segments(hasher, topic) {
            let position = subject.end;
            let mut literal = VACANT;
            match segment {
                // Two in a row mean what one means, and `pass` relies on there being one.
                Segment::Any if position > 0 && subject.any.contains(position - 1) => continue,
                Segment::Any => subject.any.add(position),
                Segment::One => subject.one.add(position),
                Segment::Literal { hash, text } => literal = subject.note(position, hash, text),
            }
            subject.at.push(literal);
            subject.inner.add(position);
            subject.end += 1;
        }
        subject.single = subject.inner.without(subject.any);
        for literal in &mut subject.literals {
            literal.passes = literal.passes.or(subject.one);
        }
        subject.all = subject.inner;
        subject.all.add(subject.end);
        subject
    }

    /// Notes where a literal stands; returns its place among them.
    fn note(&mut self, position: usize, hash: u32, text: &'a [u8]) -> u16 {
        let place = self.place(hash, text).unwrap_or_else(|| {
            // A topic has at most 513 segments.
            let place = self.literals.len() as u16;
            self.literals.push(Literal { hash, text, passes: Positions::NONE });
            if !self.index.is_empty() {
                let mut slot = hash as usize & (self.index.len() - 1);
                while self.index[slot] != VACANT {
                    slot = (slot + 1) & (self.index.len() - 1);
                }
                self.index[slot] = place;
            }
            place
        });
        self.literals[usize::from(place)].passes.add(position);
        place
    }

    #[inline]
    fn place(&self, hash: u32, text: &[u8]) -> Option<u16> {
        let is_it = |literal: &Literal<'_, W>| literal.hash == hash && literal.text == text;
        if self.index.is_empty() {
            return self.literals.iter().position(is_it).map(|place| place as u16);
        }
        let mut slot = hash as usize & (self.index.len() - 1);
        loop {
            let place = self.index[slot];
            let literal = self.literals.get(usize::from(place))?;
            if is_it(literal) {
                return Some(place);
            }
            slot = (slot + 1) & (self.index.len() - 1);
        }
    }

    /// The positions behind one more segment of a subscription.
    #[inline]
    fn step(&self, from: &Positions<W>, segment: Segment<'_>) -> Positions<W> {
        match segment {
            Segment::Any => from.and_all_behind().and(self.all),
            Segment::One => self.pass(from, &self.single),
            // The one place where the empty segment before a leading slash differs: `*` would share
            // with `/**` only the empty topic, which does not exist.
            Segment::Literal { text: [], .. } if self.is_one => Positions::NONE,
            Segment::Literal { hash, text } => {
                let literal =
                    self.place(hash, text).and_then(|place| self.literals.get(usize::from(place)));
                self.pass(from, literal.map_or(&self.one, |literal| &literal.passes))
            }
        }
    }

    /// The positions behind a segment that is taken at `passes`. A `**` takes it too and is still
    /// there, or stands for none and is passed without it.
    #[inline]
    fn pass(&self, from: &Positions<W>, passes: &Positions<W>) -> Positions<W> {
        let at = from.and(*passes).next().or(from.and(self.any));
        at.or(at.and(self.any).next())
    }
}

struct Walk<'a, K, const W: usize> {
    tree: &'a Tree<K>,
    subject: Subject<'a, W>,
    found: &'a mut Vec<K>,
    /// How many may be found before those that are there twice are taken out.
    room: usize,
}

impl<'a, K: Copy + Ord, const W: usize> Walk<'a, K, W> {
    fn run(tree: &'a Tree<K>, topic: &'a str, found: &'a mut Vec<K>) {
        let subject = Subject::<W>::new(tree.hasher(), topic);
        let mut start = Positions::NONE;
        start.add(0);
        if subject.any.contains(0) {
            start.add(1);
        }
        let mut walk = Walk { tree, subject, found, room: 1024 };
        walk.visit(ROOT, &start);
    }

    /// Finds what meets the topic at and below a node, with the positions behind the segments of its
    /// parents. Nests as deep as a topic has segments.
    fn visit(&mut self, number: NodeNumber, from: &Positions<W>) {
        let Some(node) = self.tree.node(number).filter(|node| !self.is_found(node)) else {
            return;
        };
        let Some(at) = self.follow(from, node.segments()) else {
            return;
        };
        if at.contains(self.subject.end) {
            let is_one = node.parent == ROOT && node.segments().is_one();
            self.add(node.end, is_one);
        }
        let inner = at.and(self.subject.inner);
        let wild = inner.and(self.subject.one.or(self.subject.any));
        self.search_pack(number, node, &at, inner, !wild.is_empty());
        if let Some(child) = self.tree.child(number, Segment::Any) {
            self.visit(child, &at);
        }
        if let Some(child) = self.tree.child(number, Segment::One) {
            self.visit(child, &at);
        }
        if !wild.is_empty() || inner.count() > node.children.len() {
            for &child in &node.children {
                if self.is_found(node) {
                    return;
                }
                self.visit(child, &at);
            }
        } else if !node.children.is_empty() {
            self.for_each_literal(inner, |walk, segment| {
                if let Some(child) = walk.tree.child(number, segment) {
                    walk.visit(child, &at);
                }
            });
        }
    }

    /// Finds what meets the topic in the pack of a node: looks at those that may follow, or at all if
    /// that is less.
    fn search_pack(
        &mut self,
        number: NodeNumber,
        node: &Node<K>,
        at: &Positions<W>,
        inner: Positions<W>,
        is_wild: bool,
    ) {
        let is_root = number == ROOT;
        if is_wild || !node.pack.is_indexed() || inner.count() > node.pack.len() {
            for chunk in node.pack.chunks() {
                for (topic, segments) in chunk.iter() {
                    if self.try_packed(topic, segments, at, is_root) && self.is_found(node) {
                        return;
                    }
                }
            }
            return;
        }
        let search_group = |walk: &mut Self, segment: Segment<'_>| {
            node.pack.group(segment.key()).for_each(|topic| {
                if let Some(segments) = walk.tree.segments(topic) {
                    walk.try_packed(topic, segments, at, is_root);
                }
            });
        };
        search_group(self, Segment::Any);
        search_group(self, Segment::One);
        self.for_each_literal(inner, search_group);
    }

    /// Whether the rest of a topic leads to the end.
    #[inline]
    fn try_packed(
        &mut self,
        topic: TopicNumber,
        segments: Segments<'_>,
        from: &Positions<W>,
        is_root: bool,
    ) -> bool {
        let is_one = is_root && segments.is_one();
        let behind = self.follow(from, segments);
        let meets = behind.is_some_and(|behind| behind.contains(self.subject.end));
        meets && self.add(topic, is_one)
    }

    /// The positions behind some segments, if there are any.
    #[inline]
    fn follow(&self, from: &Positions<W>, segments: Segments<'_>) -> Option<Positions<W>> {
        let mut at = *from;
        for segment in segments {
            at = self.subject.step(&at, segment);
            if at.is_empty() {
                return None;
            }
        }
        Some(at)
    }

    /// Calls `each` with every literal that stands at one of the positions, once.
    fn for_each_literal(
        &mut self,
        mut at: Positions<W>,
        mut each: impl FnMut(&mut Self, Segment<'_>),
    ) {
        while let Some(position) = at.first() {
            let place = self.subject.at.get(position).copied().unwrap_or(VACANT);
            let Some(&Literal { hash, text, passes }) =
                self.subject.literals.get(usize::from(place))
            else {
                return;
            };
            at = at.without(passes);
            each(self, Segment::Literal { hash, text });
        }
    }

    /// Whether there is nobody at and below a node that is not found yet; looks only at the one who was
    /// found last.
    #[inline]
    fn is_found(&self, node: &Node<K>) -> bool {
        match (node.owner, self.found.last()) {
            (Owner::Sole(owner), Some(last)) => owner == *last,
            _ => false,
        }
    }

    /// Adds who subscribes to a topic that meets; `false` if it does not meet after all. `is_one` says
    /// that the topic is `*`, see [`Subject::step`].
    fn add(&mut self, topic: TopicNumber, is_one: bool) -> bool {
        if is_one && self.subject.is_absolute {
            return false;
        }
        let Some(subscribers) = self.tree.subscribers(topic) else {
            return false;
        };
        self.found.extend_from_slice(subscribers.as_slice());
        if self.found.len() > self.room {
            self.found.sort_unstable();
            self.found.dedup();
            self.room = self.found.len() * 2 + 1024;
        }
        true
    }
}
