//! What goes with a frame while it is queued.

use std::time::Instant;

use gsb_bus::{CallKey, Charge};

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
}

impl Ticket {
    pub(crate) fn new(charge: Option<Charge>, since: Instant) -> Self {
        Ticket { charge, since }
    }

    /// The call that the frame is, if it is one.
    pub(crate) fn call(&self) -> Option<QueuedCall> {
        let charge = self.charge.as_ref().filter(|charge| charge.is_call())?;
        Some(QueuedCall { key: charge.call(), since: self.since })
    }
}

impl gsb_net::Ticket for Ticket {
    fn written(&mut self, bytes: usize) {
        if let Some(charge) = &mut self.charge {
            charge.written(bytes);
        }
    }
}
