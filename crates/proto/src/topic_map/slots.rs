//! Values with numbers.

/// A number that no value has.
pub(super) const NONE: u32 = u32::MAX;

/// Values that keep the number they were given, in one piece of memory.
#[derive(Debug, Clone)]
pub(super) struct Slots<T> {
    slots: Vec<Option<T>>,
    /// Vacant slots. May name some twice, or some that are not vacant any more or not there.
    vacant: Vec<u32>,
    len: usize,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Slots { slots: Vec::new(), vacant: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub(super) fn add(&mut self, value: T) -> u32 {
        self.len += 1;
        while let Some(number) = self.vacant.pop() {
            if let Some(slot @ None) = self.slots.get_mut(number as usize) {
                *slot = Some(value);
                return number;
            }
        }
        self.slots.push(Some(value));
        (self.slots.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let removed = self.slots.get_mut(number as usize)?.take()?;
        self.len -= 1;
        self.vacant.push(number);
        while let Some(None) = self.slots.last() {
            self.slots.pop();
        }
        shrink(&mut self.slots);
        if self.slots.is_empty() {
            self.vacant = Vec::new();
        }
        Some(removed)
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbered = self.slots.iter().enumerate();
        numbered.filter_map(|(number, slot)| Some((u32::try_from(number).ok()?, slot.as_ref()?)))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<T>>() + self.vacant.capacity() * size_of::<u32>()
    }
}

/// What was large once should not stay so.
pub(super) fn shrink<T>(list: &mut Vec<T>) {
    if list.capacity() > 64 && list.len() < list.capacity() / 8 {
        list.shrink_to(list.len() * 2);
    }
}
