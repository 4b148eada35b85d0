//! How much memory the code under test takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting the bytes of Rust code. libFuzzer itself is not counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn taken(bytes: usize) {
    let held = HELD.fetch_add(bytes, Relaxed).wrapping_add(bytes);
    PEAK.fetch_max(held, Relaxed);
}

fn given_back(bytes: usize) {
    HELD.fetch_sub(bytes, Relaxed);
}

// SAFETY: each function is that of `System`, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        taken(size);
        given_back(layout.size());
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        given_back(layout.size());
        unsafe { System.dealloc(block, layout) }
    }
}

/// Measures from the moment it is made. One at a time: the peak is everybody's.
#[derive(Debug)]
pub struct Meter {
    start: usize,
}

impl Meter {
    /// Begins to measure.
    pub fn start() -> Self {
        let start = HELD.load(Relaxed);
        PEAK.store(start, Relaxed);
        Meter { start }
    }

    /// The most bytes that were held at any time, beyond those that were held at the start.
    pub fn peak(&self) -> usize {
        PEAK.load(Relaxed) - self.start
    }

    /// How many bytes more are held than at the start.
    pub fn held(&self) -> usize {
        HELD.load(Relaxed).saturating_sub(self.start)
    }
}
