//! Topics side by side in one piece of memory.

use super::segment::{Segment, Segments};
use super::slots::shrink;
use crate::incremental_table::IncrementalTable;

/// The number of a topic.
pub(super) type TopicNumber = u32;

/// Topics, or what is left of them below a node: for each its number, the length of its segments, and
/// these. A broadcast that has to look at all of them reads them from end to end; matching many
/// topics is mostly waiting for memory, unless it comes in order.
///
/// They stand in pieces of memory of [`CHUNK`] bytes, so that however many there are, few are moved when others come
/// or go.
#[derive(Debug, Clone, Default)]
pub(super) struct Pack {
    chunks: Vec<Chunk>,
    /// The number of the chunk that topics are added to.
    last: usize,
    len: usize,
    /// The topics by the key of their first segment, if they are more than a [`HANDFUL`].
    index: Option<Box<IncrementalTable<(u32, TopicNumber)>>>,
}

/// Topics in one piece of memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    /// How much of that is not taken by topics any more.
    dead: usize,
}

/// So many topics are looked at one by one.
pub(super) const HANDFUL: usize = 32;

/// No topic begins in a chunk behind so many bytes. The longest topic takes 4 KiB.
const CHUNK: usize = 16 << 10;

/// The place of a topic is the number of its chunk, and in these bits where it begins there.
const OFFSET_BITS: u32 = CHUNK.trailing_zeros();

/// In the place of the number of a topic that is not there any more.
const DEAD: TopicNumber = TopicNumber::MAX;

/// The number and the length before each topic's segments.
const HEAD: usize = 6;

impl Chunk {
    /// The topic that begins at a byte.
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

impl Pack {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.index.is_some()
    }

    /// Adds a topic; returns its place.
    pub(super) fn push<'a>(
        &mut self,
        number: TopicNumber,
        mut segments: impl Iterator<Item = Segment<'a>>,
    ) -> usize {
        let mut key = 0;
        let place = self.append(number, |bytes| {
            if let Some(first) = segments.next() {
                key = first.key();
                first.write(bytes);
            }
            segments.for_each(|segment| segment.write(bytes));
        });
        self.len += 1;
        if let Some(index) = &mut self.index {
            index.insert_unique(spread(key), (key, number), |entry| spread(entry.0));
        } else if self.len > HANDFUL {
            self.index = Some(Box::new(self.make_index()));
        }
        place
    }

    /// Removes what is at a place that `push` has returned, or `settle` has told since.
    pub(super) fn remove(&mut self, place: usize) {
        let Some((number, mut segments)) = self.get(place) else {
            return;
        };
        let length = HEAD + segments.bytes().len();
        let key = segments.next().map_or(0, Segment::key);
        let (chunk, offset) = split(place);
        if let Some(chunk) = self.chunks.get_mut(chunk) {
            chunk.bytes[offset..offset + 4].copy_from_slice(&DEAD.to_le_bytes());
            chunk.dead += length;
        }
        self.len -= 1;
        let Some(index) = &mut self.index else {
            return;
        };
        if self.len < HANDFUL / 2 {
            self.index = None;
        } else {
            index.remove(spread(key), |entry| entry.1 == number, |entry| spread(entry.0));
        }
    }

    /// Frees the memory around a place when half of it is taken by what is gone. The topics that stand there are
    /// moved; tells `moved` the new places.
    pub(super) fn settle(&mut self, place: usize, mut moved: impl FnMut(TopicNumber, usize)) {
        let (number, _) = split(place);
        let sparse = self.chunks.get_mut(number).filter(|chunk| chunk.dead > chunk.bytes.len() / 2);
        let Some(sparse) = sparse.map(std::mem::take) else {
            return;
        };
        for (topic, segments) in sparse.iter() {
            let place = self.append(topic, |bytes| bytes.extend_from_slice(segments.bytes()));
            moved(topic, place);
        }
        while self.chunks.last().is_some_and(|chunk| chunk.bytes.is_empty()) {
            self.chunks.pop();
        }
        shrink(&mut self.chunks);
    }

    /// The topic at a place.
    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<(TopicNumber, Segments<'_>)> {
        let (chunk, offset) = split(place);
        self.chunks.get(chunk)?.get(offset)
    }

    /// All topics, in pieces.
    #[inline]
    pub(super) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// All topics.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicNumber, Segments<'_>)> {
        self.chunks.iter().flat_map(Chunk::iter)
    }

    /// Of an indexed pack, those that begin with a segment that has this key.
    pub(super) fn group(&self, key: u32) -> impl Iterator<Item = TopicNumber> {
        let index = self.index.iter();
        index
            .flat_map(move |index| index.iter_hash(spread(key)))
            .filter(move |entry| entry.0 == key)
            .map(|entry| entry.1)
    }

    /// Writes a topic behind the others; returns its place. `write` writes its segments.
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
        // The 513 segments of the longest topic take 4 KiB.
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

/// The number of the chunk of a place, and where it begins there.
#[inline]
fn split(place: usize) -> (usize, usize) {
    (place >> OFFSET_BITS, place & (CHUNK - 1))
}

/// The table wants both ends of 64 bits to differ.
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
    fn few_topics_are_moved_when_others_go() {
        let hasher = RandomState::new();
        let mut pack = Pack::default();
        let mut places = HashMap::new();
        for number in 0..20_000 {
            let place = pack.push(number, segments(&hasher, &format!("{number}/up")));
            places.insert(number, place);
        }
        let full = pack.bytes();
        // Not in the order in which they stand.
        for number in (0..20_000).map(|number| number * 7_919 % 20_000) {
            let place = places.remove(&number).unwrap();
            assert_eq!(pack.get(place).unwrap().0, number);
            pack.remove(place);
            let mut moved = 0;
            pack.settle(place, |topic, place| {
                moved += 1;
                places.insert(topic, place);
            });
            assert!(moved <= CHUNK / HEAD / 2, "{moved} were moved when {number} went");
            let is_sparse = |chunk: &Chunk| chunk.dead > chunk.bytes.len() / 2;
            assert!(!pack.chunks.iter().any(is_sparse));
        }
        assert_eq!((pack.len(), pack.iter().count()), (0, 0));
        assert!(pack.bytes() < full / 100, "{} of {full} bytes are left", pack.bytes());
    }
}
