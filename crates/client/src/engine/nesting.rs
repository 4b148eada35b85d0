//! Nested handlers: a call within the process runs its handler as a part of the caller, which may be a handler itself.
//! The nesting of the handlers that a thread is polling is recorded per thread.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// How many handlers may be nested in one task. A handler that is nested more deeply runs in a task of its own, so that
/// no caller can exhaust the stack.
pub(crate) const MAX_DEPTH: usize = 16;

/// Identifies a bus of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BusId(pub(crate) usize);

/// The handlers that a thread is polling, the outermost first.
struct Nesting {
    depth: Cell<usize>,
    /// The bus of each of the outer handlers.
    buses: [Cell<BusId>; MAX_DEPTH],
}

thread_local! {
    static NESTING: Nesting = const {
        Nesting { depth: Cell::new(0), buses: [const { Cell::new(BusId(0)) }; MAX_DEPTH] }
    };
}

/// Marks that a handler is being polled, until this is dropped.
pub(crate) struct Nested;

impl Nested {
    /// Begins to poll a handler of this bus.
    pub(crate) fn enter(bus: BusId) -> Self {
        NESTING.with(|nesting| {
            let depth = nesting.depth.get();
            if let Some(place) = nesting.buses.get(depth) {
                place.set(bus);
            }
            nesting.depth.set(depth + 1);
        });
        Nested
    }

    /// Wraps the future of a handler of this bus, so that it is marked whenever it is polled.
    pub(crate) fn future<F: Future>(bus: BusId, future: F) -> NestedFuture<F> {
        NestedFuture { bus, future }
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        NESTING.with(|nesting| nesting.depth.set(nesting.depth.get() - 1));
    }
}

pin_project! {
    pub(crate) struct NestedFuture<F> {
        bus: BusId,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for NestedFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _nested = Nested::enter(*this.bus);
        this.future.poll(cx)
    }
}

/// How many handlers this thread is polling.
pub(crate) fn depth() -> usize {
    NESTING.with(|nesting| nesting.depth.get())
}

/// How many of the handlers that this thread is polling belong to this bus. Only the outermost [`MAX_DEPTH`] handlers
/// are counted.
pub(crate) fn handlers_of(bus: BusId) -> usize {
    NESTING.with(|nesting| {
        let handlers = nesting.buses.iter().take(nesting.depth.get());
        handlers.filter(|place| place.get() == bus).count()
    })
}
