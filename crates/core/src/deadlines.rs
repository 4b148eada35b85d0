//! The deadlines of open calls (rule CA-12).

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::ids::CallKey;

/// The number of children of an entry. Four entries are about one cache line, and the heap has half the levels of a
/// binary one.
const ARITY: usize = 4;

/// Most calls end within this time, in nanoseconds.
const SOON: u64 = nanoseconds(100);

/// How many void deadlines are removed at once. If there are more, they are due next.
const AT_ONCE: usize = 64;

/// Places are counted up to this number, which is more than there can be.
const PLACES: u32 = 1 << 30;

/// The deadlines of all calls that have one.
///
/// An indexed heap orders them. Most calls end long before their deadlines, and to put a deadline into the heap and to take
/// it out takes several times as long as with a list. So a deadline that is not [soon](SOON) is appended to a list first,
/// and sorted into the heap if its call is still open after that time.
///
/// Each call keeps the [`Place`] of its deadline, so that the deadline of a call that ends is removed: every move of a deadline
/// is reported to the callback that is passed. In the list a void entry stays until those before it are gone.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: Vec<Entry>,
    /// In the order in which they were set. Those of calls that have ended are [void](Entry::is_void).
    recent: VecDeque<Entry>,
    /// The number of the first one of `recent`.
    first_recent: u32,
    /// How many of `recent` are void.
    void: usize,
    /// What times are counted from: when the first deadline was set.
    epoch: Option<Instant>,
}

/// Where the deadline of a call is. Each call has one, so it is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(NonZeroU32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// The index in the heap.
    Heap(usize),
    /// The number in the list.
    Recent(u32),
}

impl Place {
    const HEAP: NonZeroU32 = NonZeroU32::new(PLACES).unwrap();
    const RECENT: NonZeroU32 = NonZeroU32::new(PLACES << 1).unwrap();

    fn in_heap(index: usize) -> Self {
        Place(Self::HEAP | (index as u32 % PLACES))
    }

    fn in_recent(number: u32) -> Self {
        Place(Self::RECENT | (number % PLACES))
    }

    fn get(self) -> Where {
        let number = self.0.get() % PLACES;
        if self.0.get() >= PLACES << 1 {
            Where::Recent(number)
        } else {
            Where::Heap(number as usize)
        }
    }
}

/// A deadline that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) call: CallKey,
    /// For how long the caller has waited.
    pub(crate) timeout: Duration,
}

/// What was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// A deadline was sorted in.
    Nothing,
    /// A deadline has passed.
    Expired(Expired),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// In nanoseconds since the epoch. Half the size of an `Instant`.
    due: u64,
    call: CallKey,
    /// 0 if it is void.
    timeout_ms: u32,
}

impl Entry {
    /// Whether its call has ended.
    fn is_void(&self) -> bool {
        self.timeout_ms == 0
    }

    /// When it is sorted into the heap, in nanoseconds since the epoch.
    fn sorted_at(&self) -> u64 {
        let wait = nanoseconds(self.timeout_ms).saturating_sub(SOON);
        if self.is_void() { 0 } else { self.due.saturating_sub(wait) }
    }

    /// Of deadlines at the same time, that of the call that was opened first comes first.
    fn is_before(&self, other: &Entry) -> bool {
        (self.due, self.call.serial) < (other.due, other.call.serial)
    }
}

impl Deadlines {
    /// Sets the deadline of a call that has none. The timeout is not 0.
    pub(crate) fn insert(
        &mut self,
        call: CallKey,
        timeout_ms: u32,
        now: Instant,
        mut moved: impl FnMut(CallKey, Place),
    ) {
        let since = now.saturating_duration_since(*self.epoch.get_or_insert(now));
        let timeout = nanoseconds(timeout_ms);
        // Saturated after five centuries.
        let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let entry = Entry { due: since.saturating_add(timeout), call, timeout_ms };
        if timeout > SOON {
            let number = self.first_recent.wrapping_add(self.recent.len() as u32);
            self.recent.push_back(entry);
            moved(call, Place::in_recent(number));
        } else {
            self.heap.push(entry);
            self.move_up(self.heap.len() - 1, moved);
        }
    }

    /// Removes a deadline: its call has ended.
    pub(crate) fn remove(&mut self, place: Place, moved: impl FnMut(CallKey, Place)) {
        match place.get() {
            Where::Heap(index) => self.remove_from_heap(index, moved),
            Where::Recent(number) => {
                let index = number.wrapping_sub(self.first_recent) % PLACES;
                if let Some(entry) = self.recent.get_mut(index as usize) {
                    entry.timeout_ms = 0;
                    self.void += 1;
                }
                for _ in 0..AT_ONCE {
                    if self.recent.pop_front_if(|first| first.is_void()).is_none() {
                        break;
                    }
                    self.first_recent = self.first_recent.wrapping_add(1);
                    self.void -= 1;
                }
            }
        }
    }

    /// When something is due: a deadline passes, or is to be sorted in.
    pub(crate) fn next(&self) -> Option<Instant> {
        let first = self.heap.first().map(|first| first.due);
        let recent = self.recent.front().map(Entry::sorted_at);
        Some(self.epoch? + Duration::from_nanos(first.into_iter().chain(recent).min()?))
    }

    /// Does what is due next, if the time has come. It takes a short time.
    pub(crate) fn next_due(
        &mut self,
        now: Instant,
        mut moved: impl FnMut(CallKey, Place),
    ) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        let due = self.heap.first().map_or(u64::MAX, |first| first.due);
        // No deadline in the list is earlier than the time when it is sorted in.
        if let Some(recent) = self.recent.pop_front_if(|recent| recent.sorted_at() <= due) {
            self.first_recent = self.first_recent.wrapping_add(1);
            if recent.is_void() {
                self.void -= 1;
            } else {
                self.heap.push(recent);
                self.move_up(self.heap.len() - 1, moved);
            }
            return Some(Due::Nothing);
        }
        let Entry { call, timeout_ms, .. } = *self.heap.first()?;
        self.remove_from_heap(0, &mut moved);
        Some(Due::Expired(Expired { call, timeout: Duration::from_millis(timeout_ms.into()) }))
    }

    /// The number of deadlines.
    pub(crate) fn len(&self) -> usize {
        self.heap.len() + self.recent.len() - self.void
    }

    fn remove_from_heap(&mut self, at: usize, mut moved: impl FnMut(CallKey, Place)) {
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            let at = self.move_down(at, &mut moved);
            self.move_up(at, moved);
        }
    }

    fn move_up(&mut self, mut at: usize, mut moved: impl FnMut(CallKey, Place)) {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if !self.heap[at].is_before(&self.heap[parent]) {
                break;
            }
            self.heap.swap(at, parent);
            moved(self.heap[at].call, Place::in_heap(at));
            at = parent;
        }
        moved(self.heap[at].call, Place::in_heap(at));
    }

    /// Returns where the entry is then.
    fn move_down(&mut self, mut at: usize, moved: &mut impl FnMut(CallKey, Place)) -> usize {
        loop {
            let mut first = at;
            let children = at * ARITY + 1;
            for child in children..self.heap.len().min(children + ARITY) {
                if self.heap[child].is_before(&self.heap[first]) {
                    first = child;
                }
            }
            if first == at {
                return at;
            }
            self.heap.swap(at, first);
            moved(self.heap[at].call, Place::in_heap(at));
            at = first;
        }
    }
}

const fn nanoseconds(milliseconds: u32) -> u64 {
    milliseconds as u64 * 1_000_000
}

#[cfg(test)]
#[path = "deadlines_tests.rs"]
mod tests;
