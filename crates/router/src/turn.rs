//! Turns: how long a busy connection may use the router's state at a time.

use std::time::Duration;

use gsb_proto::MessageKind;
use tokio::time::Instant;

/// The longest time for which a task routes or writes before other tasks run. It is some hundred times the time of most
/// frames.
pub(crate) const SLICE: Duration = Duration::from_micros(250);

/// The most frames that are routed, or calls that are ended, in one turn.
pub(crate) const BATCH: usize = 64;

/// A turn reads the clock after frames of this cost. The most expensive frames take some tens of microseconds for each
/// 4 KiB of text.
const COST_OF_LOOK: usize = 8 << 10;

/// The cost of a frame without its bytes, in the same unit.
const FRAME_COST: usize = 128;

/// The cost of a [step](gsb_core::Broker::take_steps), in the same unit.
const STEP_COST: usize = 8;

/// One turn of a connection: some of its frames are routed, while the state is locked.
///
/// The turn is over when it has taken a [`SLICE`], whatever the frames were. Reading the clock takes a quarter of the
/// time to route a call, so a turn reads it after each frame that may take long, and otherwise once for many small
/// frames.
#[derive(Debug)]
pub(crate) struct Turn {
    /// When the turn is over.
    end: Instant,
    frames: usize,
    /// The cost of the frames since the clock was read.
    cost: usize,
}

impl Turn {
    /// A turn that begins at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Turn { end: now + SLICE, frames: 0, cost: 0 }
    }

    /// Records steps that the last frame took.
    #[inline]
    pub(crate) fn add_steps(&mut self, steps: usize) {
        self.cost += steps * STEP_COST;
    }

    /// Records a routed frame with a body of `length` bytes. Returns whether the turn is over. `clock` returns the
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
            // These change tables or have many receivers, so their time does not depend on their length.
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
