//! Checks of a tree's invariants, for tests.

use super::*;

impl<K: Copy + Ord + std::fmt::Debug> Tree<K> {
    pub(in super::super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Memory of the tree, in bytes.
    pub(in super::super) fn bytes(&self) -> usize {
        let mut bytes = self.nodes.bytes() + self.topics.bytes() + self.literals.allocation_size();
        for (_, node) in self.nodes.iter() {
            bytes += node.segment.len() + node.inline.bytes();
            bytes += node.children.capacity() * size_of::<NodeNumber>();
        }
        for (_, entry) in self.topics.iter() {
            if let Subscribers::Many(all) = &entry.subscribers {
                bytes += all.capacity() * size_of::<K>();
            }
        }
        bytes
    }

    /// Checks the invariants of the tree.
    pub(in super::super) fn check(&self) {
        let (mut topics, mut literals) = (0, 0);
        for (number, node) in self.nodes.iter() {
            assert!(number == ROOT || !node.is_small(), "{node:?}");
            literals += node.children.len();
            let wildcards = [node.one, node.any].into_iter().filter(|&child| child != NONE);
            for child in node.children.iter().copied().chain(wildcards) {
                let below = self.node(child).unwrap();
                assert_eq!(below.parent, number);
                assert_eq!(self.child(number, below.segments().next().unwrap()), Some(child));
                assert!(node.owner == Owner::Several || node.owner == below.owner);
                assert_eq!(node.inline.group(below.segments().next().unwrap().key()).count(), 0);
            }
            let end = Some(node.end).filter(|&end| end != NONE);
            let inline: Vec<_> = node.inline.iter().collect();
            assert_eq!(inline.len(), node.inline.len());
            for (topic, segments) in &inline {
                assert_eq!(self.segments(*topic).unwrap().bytes(), segments.bytes());
                let first = segments.clone().next().unwrap();
                let group: Vec<_> = node.inline.group(first.key()).collect();
                assert!(!node.inline.is_indexed() || group.contains(topic));
                assert!(group.len() <= INLINE_MAX);
            }
            for topic in inline.iter().map(|inline| inline.0).chain(end) {
                topics += 1;
                let entry = self.topics.get(topic).unwrap();
                assert_eq!(entry.node, number);
                for subscriber in entry.subscribers.as_slice() {
                    assert!([Owner::Sole(*subscriber), Owner::Several].contains(&node.owner));
                }
            }
        }
        assert_eq!(topics, self.topics.len());
        assert_eq!(literals, self.literals.len());
    }
}
