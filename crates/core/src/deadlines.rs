//! The deadlines of open calls (rule CA-12).

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::ids::CallKey;

/// The number of children of an entry. Four entries are about one cache line, and the heap has half the levels of a
/// binary one.
const ARITY: usize = 4;

/// The deadlines of all calls that have one: an indexed heap.
///
/// Most calls end long before their deadlines, so removing any deadline has to be as fast as adding one, and must leave
/// nothing behind. Each call keeps the [`HeapIndex`] of its deadline: the heap reports every move of an entry to the
/// callback that is passed to it.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: Vec<Entry>,
    /// What times are counted from: when the first deadline was set.
    epoch: Option<Instant>,
}

/// Where the deadline of a call is in the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeapIndex(NonZeroU32);

impl HeapIndex {
    fn new(index: usize) -> Self {
        HeapIndex(NonZeroU32::MIN.saturating_add(index as u32))
    }

    fn get(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A deadline that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) call: CallKey,
    /// For how long the caller has waited.
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// In nanoseconds since the epoch. Half the size of an `Instant`.
    due: u64,
    call: CallKey,
    timeout_ms: u32,
}

impl Entry {
    /// Of deadlines at the same time, that of the call that was opened first comes first.
    fn is_before(&self, other: &Entry) -> bool {
        (self.due, self.call.serial) < (other.due, other.call.serial)
    }
}

impl Deadlines {
    /// Sets the deadline of a call that has none.
    pub(crate) fn insert(
        &mut self,
        call: CallKey,
        timeout_ms: u32,
        now: Instant,
        moved: impl FnMut(CallKey, HeapIndex),
    ) {
        let since = now.saturating_duration_since(*self.epoch.get_or_insert(now));
        let due = since + Duration::from_millis(timeout_ms.into());
        // It is full after five centuries.
        let due = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
        self.heap.push(Entry { due, call, timeout_ms });
        self.move_up(self.heap.len() - 1, moved);
    }

    /// Removes a deadline: its call has ended.
    pub(crate) fn remove(&mut self, at: HeapIndex, mut moved: impl FnMut(CallKey, HeapIndex)) {
        let at = at.get();
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            let at = self.move_down(at, &mut moved);
            self.move_up(at, moved);
        }
    }

    /// When the next deadline passes.
    pub(crate) fn next(&self) -> Option<Instant> {
        Some(self.epoch? + Duration::from_nanos(self.heap.first()?.due))
    }

    /// Removes the next deadline if it has passed.
    pub(crate) fn pop_expired(
        &mut self,
        now: Instant,
        moved: impl FnMut(CallKey, HeapIndex),
    ) -> Option<Expired> {
        if self.next()? > now {
            return None;
        }
        let Entry { call, timeout_ms, .. } = *self.heap.first()?;
        self.remove(HeapIndex::new(0), moved);
        Some(Expired { call, timeout: Duration::from_millis(timeout_ms.into()) })
    }

    /// The number of deadlines.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    fn move_up(&mut self, mut at: usize, mut moved: impl FnMut(CallKey, HeapIndex)) {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if !self.heap[at].is_before(&self.heap[parent]) {
                break;
            }
            self.heap.swap(at, parent);
            moved(self.heap[at].call, HeapIndex::new(at));
            at = parent;
        }
        moved(self.heap[at].call, HeapIndex::new(at));
    }

    /// Returns where the entry is then.
    fn move_down(&mut self, mut at: usize, moved: &mut impl FnMut(CallKey, HeapIndex)) -> usize {
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
            moved(self.heap[at].call, HeapIndex::new(at));
            at = first;
        }
    }
}

#[cfg(test)]
#[path = "deadlines_tests.rs"]
mod tests;
