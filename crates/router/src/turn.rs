//! The turns in which busy connections use the router's state.

use std::time::Duration;

use gsb_proto::MessageKind;
use tokio::time::Instant;

/// After routing or writing for so long without a pause, a task lets others run. It is some hundred times as long
/// as most frames take.
pub(crate) const SLICE: Duration = Duration::from_micros(250);

/// How many frames are routed, or calls ended, in one turn at most.
pub(crate) const BATCH: usize = 64;

/// A turn looks at the clock when it has routed frames of this cost. A frame of which the handling takes as long as
/// its text allows takes some tens of microseconds for each 4 KiB of it.
const COST_OF_LOOK: usize = 8 << 10;

/// What routing a frame costs beside its bytes, in the same unit.
const FRAME_COST: usize = 128;

/// One turn of a connection: some of its frames are routed, while the state is locked.
///
/// The turn is over when it has taken a [`SLICE`], whatever the frames were. To look at the clock takes a quarter
/// of what it takes to route a call, so a turn looks after each frame that may take long, and otherwise once for
/// many small frames.
#[derive(Debug)]
pub(crate) struct Turn {
    /// When it is over.
    end: Instant,
    frames: usize,
    /// The cost of the frames since the last look at the clock.
    cost: usize,
}

impl Turn {
    /// A turn that begins at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Turn { end: now + SLICE, frames: 0, cost: 0 }
    }

    /// Another frame was routed, of a body of `length` bytes. Returns whether the turn is over; `clock` tells the
    /// time.
    pub(crate) fn is_over(
        &mut self,
        kind: MessageKind,
        length: usize,
        clock: impl FnOnce() -> Instant,
    ) -> bool {
        self.frames += 1;
        if self.frames >= BATCH {
            return true;
        }
        self.cost += match kind {
            MessageKind::CallRequest
            | MessageKind::CallReply
            | MessageKind::CancelCall
            | MessageKind::StreamCredit
            | MessageKind::CallData
            | MessageKind::Ping
            | MessageKind::Pong => FRAME_COST + length,
            // Changes tables, or is for many: what it takes does not follow from its length.
            _ => COST_OF_LOOK,
        };
        if self.cost < COST_OF_LOOK {
            return false;
        }
        self.cost = 0;
        clock() >= self.end
    }
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
