//! What travels with a frame while it is queued.

use gsb_core::Charge;

/// The charge of a queued frame.
#[derive(Debug)]
pub(crate) struct QueuedFrame(pub(crate) Charge);

impl gsb_net::QueuedFrame for QueuedFrame {
    fn written(&mut self, bytes: usize) {
        self.0.written(bytes);
    }
}
