//! Handlers that are being polled within each other on a thread: a call within the process runs its
//! handler as a part of the caller, which may be a handler, too.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// How many handlers may call each other in one task. One that is called more deeply gets a task of
/// its own: whoever sends the calls must not be able to use up the stack.
pub(crate) const MAX_DEPTH: usize = 16;

/// Tells the buses of a process apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BusId(pub(crate) usize);

/// The handlers that are being polled on a thread, the outermost first.
struct Nesting {
    depth: Cell<usize>,
    /// The bus of each, as far as there is room.
    buses: [Cell<BusId>; MAX_DEPTH],
}

thread_local! {
    static NESTING: Nesting = const {
        Nesting { depth: Cell::new(0), buses: [const { Cell::new(BusId(0)) }; MAX_DEPTH] }
    };
}

/// A handler is being polled, until this is dropped.
pub(crate) struct Nested;

impl Nested {
    /// A handler of this bus is being polled from now on.
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

    /// A future that is a handler of this bus whenever it is polled.
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

/// How many handlers are being polled on this thread.
pub(crate) fn depth() -> usize {
    NESTING.with(|nesting| nesting.depth.get())
}

/// How many of the handlers that are being polled on this thread are of this bus. Of handlers that are
/// nested more deeply than [`MAX_DEPTH`], the outermost count.
pub(crate) fn handlers_of(bus: BusId) -> usize {
    NESTING.with(|nesting| {
        let handlers = nesting.buses.iter().take(nesting.depth.get());
        handlers.filter(|place| place.get() == bus).count()
    })
}
