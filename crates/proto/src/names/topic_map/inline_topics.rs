//! Topics stored one after the other in contiguous memory.

use super::segment::{Segment, Segments};
use super::slab::shrink;
use crate::incremental_table::IncrementalTable;

/// The number that identifies a topic.
pub(super) type TopicNumber = u32;

/// The topics of one node, without the segments that lead to the node: for each topic its number, the length of its
/// encoded segments, and the segments. A broadcast that has to try all of them reads memory sequentially. Random access
/// would make matching several times slower.
///
/// The memory is divided into chunks of about [`CHUNK`] bytes, so that adding or removing a topic moves few others.
#[derive(Debug, Clone, Default)]
pub(super) struct InlineTopics {
    chunks: Vec<Chunk>,
    /// The index of the chunk that topics are appended to.
    last: usize,
    len: usize,
    /// Finds topics by the key of their first segment. Exists if there are more than [`INLINE_MAX`] topics.
    index: Option<Box<IncrementalTable<(u32, TopicNumber)>>>,
}

/// A contiguous part of the topics.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    /// How many of the bytes belong to removed topics.
    dead: usize,
}

/// Up to this number, topics with the same beginning are tried one by one. More of them get an index or a node.
pub(super) const INLINE_MAX: usize = 32;

/// No topic begins at or after this offset of a chunk, in bytes. The longest encoded topic takes less than 2 KiB.
const CHUNK: usize = 16 << 10;

/// A topic's location consists of the chunk's index and, in this number of lower bits, the offset in the chunk.
const OFFSET_BITS: u32 = CHUNK.trailing_zeros();

/// The number of a removed topic.
const DEAD: TopicNumber = TopicNumber::MAX;

/// Length of a topic's number and length field, in bytes.
const HEAD: usize = 6;

impl Chunk {
    /// The topic at an offset.
    #[inline]
    fn get(&self, offset: usize) -> Option<(TopicNumber, Segments<'_>)> {
        let (number, rest) = self.bytes.get(offset..)?.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let segments = rest.get(..usize::from(u16::from_le_bytes(*length)))?;
        Some((TopicNumber::from_le_bytes(*number), Segments::new(segments)))
    }

    /// All topics.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicNumber, Segments<'_>)> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let (number, segments) = self.get(offset)?;
            offset += HEAD + segments.bytes().len();
            Some((number, segments))
        })
        .filter(|(number, _)| *number != DEAD)
    }
}

impl InlineTopics {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.index.is_some()
    }

    /// Adds a topic and returns its location.
    pub(super) fn push<'a>(
        &mut self,
        number: TopicNumber,
        mut segments: impl Iterator<Item = Segment<'a>>,
    ) -> usize {
        let mut key = 0;
        let location = self.append(number, |bytes| {
            if let Some(first) = segments.next() {
                key = first.key();
                first.write(bytes);
            }
            segments.for_each(|segment| segment.write(bytes));
        });
        self.len += 1;
        if let Some(index) = &mut self.index {
            index.insert_unique(spread(key), (key, number), |entry| spread(entry.0));
        } else if self.len > INLINE_MAX {
            self.index = Some(Box::new(self.make_index()));
        }
        location
    }

    /// Removes the topic at a location.
    pub(super) fn remove(&mut self, location: usize) {
        let Some((number, mut segments)) = self.get(location) else {
            return;
        };
        let length = HEAD + segments.bytes().len();
        let key = segments.next().map_or(0, Segment::key);
        let (chunk, offset) = split(location);
        if let Some(chunk) = self.chunks.get_mut(chunk) {
            chunk.bytes[offset..offset + 4].copy_from_slice(&DEAD.to_le_bytes());
            chunk.dead += length;
        }
        self.len -= 1;
        let Some(index) = &mut self.index else {
            return;
        };
        if self.len < INLINE_MAX / 2 {
            self.index = None;
        } else {
            index.remove(spread(key), |entry| entry.1 == number, |entry| spread(entry.0));
        }
    }

    /// Moves the topics out of the chunk of a location and frees it, if more than half of it belongs to removed topics.
    /// Calls `moved` with the new location of each topic.
    pub(super) fn compact(&mut self, location: usize, mut moved: impl FnMut(TopicNumber, usize)) {
        let (number, _) = split(location);
        let sparse = self.chunks.get_mut(number).filter(|chunk| chunk.dead > chunk.bytes.len() / 2);
        let Some(sparse) = sparse.map(std::mem::take) else {
            return;
        };
        for (topic, segments) in sparse.iter() {
            let location = self.append(topic, |bytes| bytes.extend_from_slice(segments.bytes()));
            moved(topic, location);
        }
        while self.chunks.last().is_some_and(|chunk| chunk.bytes.is_empty()) {
            self.chunks.pop();
        }
        shrink(&mut self.chunks);
    }

    /// The topic at a location.
    #[inline]
    pub(super) fn get(&self, location: usize) -> Option<(TopicNumber, Segments<'_>)> {
        let (chunk, offset) = split(location);
        self.chunks.get(chunk)?.get(offset)
    }

    /// All topics, chunk by chunk.
    #[inline]
    pub(super) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// All topics.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicNumber, Segments<'_>)> {
        self.chunks.iter().flat_map(Chunk::iter)
    }

    /// The topics whose first segment has this key. There must be an index.
    pub(super) fn group(&self, key: u32) -> impl Iterator<Item = TopicNumber> {
        let index = self.index.iter();
        index
            .flat_map(move |index| index.iter_hash(spread(key)))
            .filter(move |entry| entry.0 == key)
            .map(|entry| entry.1)
    }

    /// Appends a topic and returns its location. `write` appends its encoded segments.
    fn append(&mut self, number: TopicNumber, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        if self.chunks.get(self.last).is_none_or(|last| last.bytes.len() >= CHUNK) {
            if let Some(full) = self.chunks.get_mut(self.last) {
                full.bytes.shrink_to_fit();
            }
            let vacant = self.chunks.iter().position(|chunk| chunk.bytes.is_empty());
            self.last = vacant.unwrap_or(self.chunks.len());
            if vacant.is_none() {
                self.chunks.push(Chunk::default());
            }
        }
        let Chunk { bytes, .. } = &mut self.chunks[self.last];
        let offset = bytes.len();
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        write(bytes);
        // Fits: a topic has at most 1024 bytes in 65 segments, each of which takes up to 6 bytes more.
        let length = (bytes.len() - offset - HEAD) as u16;
        bytes[offset + 4..offset + HEAD].copy_from_slice(&length.to_le_bytes());
        self.last << OFFSET_BITS | offset
    }

    fn make_index(&self) -> IncrementalTable<(u32, TopicNumber)> {
        let mut index = IncrementalTable::default();
        for (number, mut segments) in self.iter() {
            let key = segments.next().map_or(0, Segment::key);
            index.insert_unique(spread(key), (key, number), |entry: &(u32, _)| spread(entry.0));
        }
        index
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| index.allocation_size());
        let chunks = self.chunks.iter().map(|chunk| chunk.bytes.capacity());
        chunks.sum::<usize>() + self.chunks.capacity() * size_of::<Chunk>() + index
    }
}

/// Splits a location into the chunk's index and the offset in the chunk.
#[inline]
fn split(location: usize) -> (usize, usize) {
    (location >> OFFSET_BITS, location & (CHUNK - 1))
}

/// Extends a key to the 64 bits of a hash. [`IncrementalTable`] needs all bits well distributed.
pub(super) fn spread(key: u32) -> u64 {
    let product = u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::RandomState;

    use super::super::segment::segments;
    use super::*;

    #[test]
    fn removing_a_topic_moves_few_others() {
        let hasher = RandomState::new();
        let mut topics = InlineTopics::default();
        let mut locations = HashMap::new();
        for number in 0..20_000 {
            let location = topics.push(number, segments(&hasher, &format!("{number}/up")));
            locations.insert(number, location);
        }
        let full = topics.bytes();
        // Not in the order in which they are stored.
        for number in (0..20_000).map(|number| number * 7_919 % 20_000) {
            let location = locations.remove(&number).unwrap();
            assert_eq!(topics.get(location).unwrap().0, number);
            topics.remove(location);
            let mut moved = 0;
            topics.compact(location, |topic, location| {
                moved += 1;
                locations.insert(topic, location);
            });
            assert!(moved <= CHUNK / HEAD / 2, "removing {number} moved {moved}");
            let is_sparse = |chunk: &Chunk| chunk.dead > chunk.bytes.len() / 2;
            assert!(!topics.chunks.iter().any(is_sparse));
        }
        assert_eq!((topics.len(), topics.iter().count()), (0, 0));
        assert!(topics.bytes() < full / 100, "{} of {full} bytes are left", topics.bytes());
    }
}
