//! What goes with a frame while it is queued.

use std::time::Instant;

use gsb_core::{CallKey, Charge, Cost, Room};

/// Who pays for a queued frame, and since when it waits.
#[derive(Debug)]
pub(crate) struct Ticket {
    charge: Option<Charge>,
    since: Instant,
}

/// A call that is queued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueuedCall {
    /// `None` if nobody waits for its end.
    pub(crate) key: Option<CallKey>,
    pub(crate) since: Instant,
    /// What is charged for it still, in bytes.
    pub(crate) left: usize,
}

impl QueuedCall {
    /// Whether it is this one, as far as can be told of those that nobody waits for the end of.
    pub(crate) fn is(&self, other: QueuedCall) -> bool {
        (self.key, self.since) == (other.key, other.since)
    }
}

impl Ticket {
    /// The ticket of a frame at this cost, unless it goes with the one before it.
    pub(crate) fn new(cost: Cost<'_>, since: Instant, before: Option<&mut Ticket>) -> Option<Self> {
        let cost = match before.and_then(|before| before.charge.as_mut()) {
            Some(charge) => match cost.add_to(charge) {
                Ok(()) => return None,
                Err(cost) => cost,
            },
            None => cost,
        };
        Some(Ticket { charge: cost.charge(), since })
    }

    /// When the frame was queued.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// The call that the frame is, if it is one.
    pub(crate) fn call(&self) -> Option<QueuedCall> {
        let charge = self.charge.as_ref().filter(|charge| charge.is_call())?;
        Some(QueuedCall { key: charge.call(), since: self.since, left: charge.left() })
    }

    /// From now on the frame is no call, and at the cost of whose room this is.
    pub(crate) fn pass_to(&mut self, room: &Room) {
        if let Some(charge) = &mut self.charge {
            charge.pass_to(room);
        }
    }
}

impl gsb_net::Ticket for Ticket {
    fn written(&mut self, bytes: usize) {
        if let Some(charge) = &mut self.charge {
            charge.written(bytes);
        }
    }
}
