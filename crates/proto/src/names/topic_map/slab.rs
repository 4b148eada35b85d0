//! A slab: storage that gives each value a number.

/// A number that is never given to a value.
pub(super) const NONE: u32 = u32::MAX;

/// Number of values in one chunk.
const CHUNK: usize = 256;

/// Values that are identified by numbers. They are stored in chunks of a fixed size, so that adding and removing values
/// never moves others, however many there are.
#[derive(Debug, Clone)]
pub(super) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// The indices of the chunks with vacant slots.
    with_room: Vec<u32>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Chunk<T> {
    slots: Vec<Option<T>>,
    /// The indices of the vacant slots.
    vacant: Vec<u8>,
}

impl<T> Chunk<T> {
    const EMPTY: Self = Chunk { slots: Vec::new(), vacant: Vec::new() };

    fn is_full(&self) -> bool {
        self.slots.len() == CHUNK && self.vacant.is_empty()
    }

    /// Adds a value to a chunk that is not full. Returns the index of its slot.
    fn add(&mut self, value: T) -> usize {
        if let Some(slot) = self.vacant.pop() {
            let slot = usize::from(slot);
            self.slots[slot] = Some(value);
            return slot;
        }
        self.slots.push(Some(value));
        self.slots.len() - 1
    }
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Slab { chunks: Vec::new(), with_room: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.chunks.get(number / CHUNK)?.slots.get(number % CHUNK)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let number = number as usize;
        self.chunks.get_mut(number / CHUNK)?.slots.get_mut(number % CHUNK)?.as_mut()
    }

    pub(super) fn add(&mut self, value: T) -> u32 {
        self.len += 1;
        let index = match self.with_room.last() {
            Some(&index) => index as usize,
            None => {
                self.chunks.push(Chunk::EMPTY);
                let index = self.chunks.len() - 1;
                self.with_room.push(index as u32);
                index
            }
        };
        let chunk = &mut self.chunks[index];
        let slot = chunk.add(value);
        if chunk.is_full() {
            self.with_room.pop();
        }
        (index * CHUNK + slot) as u32
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let (index, slot) = (number as usize / CHUNK, number as usize % CHUNK);
        let chunk = self.chunks.get_mut(index)?;
        let was_full = chunk.is_full();
        let removed = chunk.slots.get_mut(slot)?.take()?;
        self.len -= 1;
        // Fits: a chunk has 256 slots.
        chunk.vacant.push(slot as u8);
        if chunk.vacant.len() == chunk.slots.len() {
            *chunk = Chunk::EMPTY;
        }
        if was_full {
            self.with_room.push(index as u32);
        }
        if self.len == 0 {
            *self = Slab::new();
        }
        Some(removed)
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.chunks.iter().enumerate().flat_map(|(index, chunk)| {
            let slots = chunk.slots.iter().enumerate();
            slots.map(move |(slot, value)| (index * CHUNK + slot, value))
        });
        slots.filter_map(|(number, value)| Some((u32::try_from(number).ok()?, value.as_ref()?)))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let chunks = self
            .chunks
            .iter()
            .map(|chunk| chunk.slots.capacity() * size_of::<Option<T>>() + chunk.vacant.capacity());
        chunks.sum::<usize>()
            + self.chunks.capacity() * size_of::<Chunk<T>>()
            + self.with_room.capacity() * size_of::<u32>()
    }
}

/// Frees memory of a list when most of it is unused.
pub(super) fn shrink<T>(list: &mut Vec<T>) {
    if list.capacity() > 64 && list.len() < list.capacity() / 8 {
        list.shrink_to(list.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_number_and_its_memory() {
        let mut slab = Slab::new();
        let numbers: Vec<u32> = (0..10_000).map(|value| slab.add(value)).collect();
        let first = std::ptr::from_ref(slab.get(numbers[0]).unwrap());
        for (value, &number) in numbers.iter().enumerate().skip(1).step_by(2) {
            assert_eq!(slab.remove(number), Some(value));
            assert_eq!(slab.remove(number), None);
        }
        assert_eq!(slab.len(), 5_000);
        let others: Vec<u32> = (0..5_000).map(|_| slab.add(7)).collect();
        assert!(
            others.iter().all(|number| numbers.contains(number)),
            "vacant slots are used first"
        );
        for (value, &number) in numbers.iter().enumerate().step_by(2) {
            assert_eq!(slab.get(number), Some(&value));
        }
        assert!(std::ptr::eq(first, slab.get(numbers[0]).unwrap()));
    }

    #[test]
    fn removed_values_take_no_memory() {
        let mut slab = Slab::new();
        let numbers: Vec<u32> = (0..100_000).map(|value| slab.add(value)).collect();
        assert!(slab.bytes() < 100_000 * 16);
        for &number in &numbers[1..] {
            slab.remove(number);
        }
        assert!(slab.bytes() < 100_000, "{} bytes", slab.bytes());
        slab.remove(numbers[0]);
        assert_eq!(slab.bytes(), 0);
    }
}
