//! Topics side by side in one piece of memory.

use hashbrown::HashTable;

use super::segment::{Segment, Segments};

/// The number of a topic.
pub(super) type TopicNumber = u32;

/// Topics, or what is left of them below a node: for each its number, the length of its segments, and
/// these. A broadcast that has to look at all of them reads them from end to end; matching many
/// topics is mostly waiting for memory, unless it comes in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Pack {
    bytes: Vec<u8>,
    /// How much of that is not taken by topics any more.
    dead: usize,
    len: usize,
    /// The topics by the key of their first segment, if they are more than a [`HANDFUL`].
    index: Option<Box<HashTable<(u32, TopicNumber)>>>,
}

/// So many topics are looked at one by one.
pub(super) const HANDFUL: usize = 32;

/// In the place of the number of a topic that is not there any more.
const DEAD: TopicNumber = TopicNumber::MAX;

/// The number and the length before each topic's segments.
const HEAD: usize = 6;

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
        segments: impl Iterator<Item = Segment<'a>>,
    ) -> usize {
        let place = self.bytes.len();
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self.bytes.extend_from_slice(&[0, 0]);
        segments.for_each(|segment| segment.write(&mut self.bytes));
        // The 513 segments of the longest topic take 4 KiB.
        let length = (self.bytes.len() - place - HEAD) as u16;
        self.bytes[place + 4..place + HEAD].copy_from_slice(&length.to_le_bytes());
        self.len += 1;
        if self.index.is_some() {
            let key = self.key(place);
            if let Some(index) = &mut self.index {
                index.insert_unique(spread(key), (key, number), |entry| spread(entry.0));
            }
        } else if self.len > HANDFUL {
            self.index = Some(Box::new(self.make_index()));
        }
        place
    }

    /// Removes what is at a place that `push` has returned, or `settle` has told since.
    pub(super) fn remove(&mut self, place: usize) {
        let key = self.key(place);
        let Some((number, segments)) = self.get(place) else {
            return;
        };
        let length = HEAD + segments.bytes().len();
        self.bytes[place..place + 4].copy_from_slice(&DEAD.to_le_bytes());
        self.dead += length;
        self.len -= 1;
        let Some(index) = &mut self.index else {
            return;
        };
        if self.len < HANDFUL / 2 {
            self.index = None;
        } else if let Ok(entry) = index.find_entry(spread(key), |entry| entry.1 == number) {
            entry.remove();
            if self.len < index.capacity() / 8 {
                index.shrink_to(self.len * 2, |entry| spread(entry.0));
            }
        }
    }

    /// Moves the topics together when half of the memory is taken by what is gone; tells `moved` the
    /// new places.
    pub(super) fn settle(&mut self, mut moved: impl FnMut(TopicNumber, usize)) {
        if self.dead <= self.bytes.len() / 2 {
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.dead);
        for (number, segments) in self.iter() {
            moved(number, bytes.len());
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&(segments.bytes().len() as u16).to_le_bytes());
            bytes.extend_from_slice(segments.bytes());
        }
        self.bytes = bytes;
        self.dead = 0;
    }

    /// The topic at a place.
    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<(TopicNumber, Segments<'_>)> {
        let (number, rest) = self.bytes.get(place..)?.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let segments = rest.get(..usize::from(u16::from_le_bytes(*length)))?;
        Some((TopicNumber::from_le_bytes(*number), Segments::new(segments)))
    }

    /// All topics.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicNumber, Segments<'_>)> {
        let mut place = 0;
        std::iter::from_fn(move || {
            let (number, segments) = self.get(place)?;
            place += HEAD + segments.bytes().len();
            Some((number, segments))
        })
        .filter(|(number, _)| *number != DEAD)
    }

    /// Of an indexed pack, those that begin with a segment that has this key.
    pub(super) fn group(&self, key: u32) -> impl Iterator<Item = TopicNumber> {
        let index = self.index.iter();
        index
            .flat_map(move |index| index.iter_hash(spread(key)))
            .filter(move |entry| entry.0 == key)
            .map(|entry| entry.1)
    }

    fn make_index(&self) -> HashTable<(u32, TopicNumber)> {
        let mut index = HashTable::with_capacity(self.len);
        for (number, mut segments) in self.iter() {
            let key = segments.next().map_or(0, Segment::key);
            index.insert_unique(spread(key), (key, number), |entry: &(u32, _)| spread(entry.0));
        }
        index
    }

    /// The key of the first segment at a place.
    fn key(&self, place: usize) -> u32 {
        let first = self.get(place).and_then(|(_, mut segments)| segments.next());
        first.map_or(0, Segment::key)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| index.allocation_size());
        self.bytes.capacity() + index
    }
}

/// The table wants both ends of 64 bits to differ.
pub(super) fn spread(key: u32) -> u64 {
    let product = u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}
