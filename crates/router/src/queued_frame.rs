//! What travels with a frame while it is queued.

use gsb_core::{CallKey, Charge, ConnId, Cost, Payer};

/// The charge of a queued frame; `None` if its payer is gone.
#[derive(Debug)]
pub(crate) struct QueuedFrame(Option<Charge>);

impl QueuedFrame {
    /// For a frame at this cost, unless it is charged for together with the one before it.
    pub(crate) fn new(cost: Cost<'_>, before: Option<&mut QueuedFrame>) -> Option<Self> {
        let cost = match before.and_then(|before| before.0.as_mut()) {
            Some(charge) => cost.add_to(charge).err()?,
            None => cost,
        };
        Some(QueuedFrame(cost.charge()))
    }

    /// See [`Charge::paused_caller`].
    pub(crate) fn paused_caller(&self) -> Option<ConnId> {
        self.0.as_ref()?.paused_caller()
    }

    /// See [`Charge::move_to`].
    pub(crate) fn move_to(&mut self, peer: &Payer) -> Option<CallKey> {
        self.0.as_mut()?.move_to(peer)
    }
}

impl gsb_net::QueuedFrame for QueuedFrame {
    fn written(&mut self, bytes: usize) {
        if let Some(charge) = &mut self.0 {
            charge.written(bytes);
        }
    }
}
