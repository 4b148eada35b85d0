//! The companion of a queued frame: its charge.

use gsb_core::Charge;

/// The charge of a queued frame.
#[derive(Debug)]
pub(crate) struct QueuedFrame(pub(crate) Charge);

impl gsb_net::QueuedFrame for QueuedFrame {
    fn written(&mut self, bytes: usize) {
        self.0.written(bytes);
    }
}
