//! Values with numbers.

/// A number that no value has.
pub(super) const NONE: u32 = u32::MAX;

/// How many values stand in one piece of memory.
const CHUNK: usize = 256;

/// Values that keep the number they were given. They stand in pieces of memory of one size, so that however many
/// there are, none is moved when others come or go.
#[derive(Debug, Clone)]
pub(super) struct Slots<T> {
    chunks: Vec<Chunk<T>>,
    /// The numbers of the chunks that have room.
    with_room: Vec<u32>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Chunk<T> {
    slots: Vec<Option<T>>,
    /// The slots that are vacant.
    vacant: Vec<u8>,
}

impl<T> Chunk<T> {
    const EMPTY: Self = Chunk { slots: Vec::new(), vacant: Vec::new() };

    fn is_full(&self) -> bool {
        self.slots.len() == CHUNK && self.vacant.is_empty()
    }

    /// Adds a value to a chunk that is not full; returns its slot.
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

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Slots { chunks: Vec::new(), with_room: Vec::new(), len: 0 }
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
        let place = match self.with_room.last() {
            Some(&place) => place as usize,
            None => {
                self.chunks.push(Chunk::EMPTY);
                let place = self.chunks.len() - 1;
                self.with_room.push(place as u32);
                place
            }
        };
        let chunk = &mut self.chunks[place];
        let slot = chunk.add(value);
        if chunk.is_full() {
            self.with_room.pop();
        }
        (place * CHUNK + slot) as u32
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let (place, slot) = (number as usize / CHUNK, number as usize % CHUNK);
        let chunk = self.chunks.get_mut(place)?;
        let was_full = chunk.is_full();
        let removed = chunk.slots.get_mut(slot)?.take()?;
        self.len -= 1;
        // There are as many slots as a byte has values.
        chunk.vacant.push(slot as u8);
        if chunk.vacant.len() == chunk.slots.len() {
            *chunk = Chunk::EMPTY;
        }
        if was_full {
            self.with_room.push(place as u32);
        }
        if self.len == 0 {
            *self = Slots::new();
        }
        Some(removed)
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.chunks.iter().enumerate().flat_map(|(place, chunk)| {
            let slots = chunk.slots.iter().enumerate();
            slots.map(move |(slot, value)| (place * CHUNK + slot, value))
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

/// What was large once should not stay so.
pub(super) fn shrink<T>(list: &mut Vec<T>) {
    if list.capacity() > 64 && list.len() < list.capacity() / 8 {
        list.shrink_to(list.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_number_and_its_place_in_memory() {
        let mut slots = Slots::new();
        let numbers: Vec<u32> = (0..10_000).map(|value| slots.add(value)).collect();
        let first = std::ptr::from_ref(slots.get(numbers[0]).unwrap());
        for (value, &number) in numbers.iter().enumerate().skip(1).step_by(2) {
            assert_eq!(slots.remove(number), Some(value));
            assert_eq!(slots.remove(number), None);
        }
        assert_eq!(slots.len(), 5_000);
        let others: Vec<u32> = (0..5_000).map(|_| slots.add(7)).collect();
        assert!(others.iter().all(|number| numbers.contains(number)), "vacant ones come first");
        for (value, &number) in numbers.iter().enumerate().step_by(2) {
            assert_eq!(slots.get(number), Some(&value));
        }
        assert!(std::ptr::eq(first, slots.get(numbers[0]).unwrap()));
    }

    #[test]
    fn what_is_gone_takes_no_memory() {
        let mut slots = Slots::new();
        let numbers: Vec<u32> = (0..100_000).map(|value| slots.add(value)).collect();
        assert!(slots.bytes() < 100_000 * 16);
        for &number in &numbers[1..] {
            slots.remove(number);
        }
        assert!(slots.bytes() < 100_000, "{} bytes", slots.bytes());
        slots.remove(numbers[0]);
        assert_eq!(slots.bytes(), 0);
    }
}
