//! Frames that are collected for several connections, so that each link is locked once for many of them.

use gsb_core::ConnId;
use gsb_net::Batch;
use gsb_proto::{Framing, Outgoing};

use crate::queued_frame::QueuedFrame;

/// The number of connections for which frames are collected at the same time. The calls to a name with several owners,
/// and the replies of a service, go to few connections in turn.
const MOST: usize = 8;

/// The collected frames of a few connections.
#[derive(Debug)]
pub(crate) struct Batches {
    collected: [Collected; MOST],
    /// The first ones are in use.
    used: usize,
    /// The index of the batch that was [found](Batches::find) or [opened](Batches::open) last.
    last: usize,
}

/// The collected frames of one connection. When they are pushed, another one can use their memory.
#[derive(Debug)]
pub(crate) struct Collected {
    /// `None` if it is not in use.
    pub(crate) to: Option<ConnId>,
    framing: Framing,
    pub(crate) frames: Batch<QueuedFrame>,
}

impl Collected {
    /// Appends a frame; see [`Batch::push`].
    #[inline]
    pub(crate) fn push(
        &mut self,
        frame: Outgoing<'_>,
        companion: impl FnOnce(Option<&mut QueuedFrame>) -> Option<QueuedFrame>,
    ) {
        self.frames.push(self.framing, frame, companion);
    }
}

impl Default for Batches {
    fn default() -> Self {
        let unused = || Collected { to: None, framing: Framing::Packet, frames: Batch::default() };
        Batches { collected: std::array::from_fn(|_| unused()), used: 0, last: 0 }
    }
}

impl Batches {
    /// The frames for a connection, if some are collected for it.
    #[inline]
    pub(crate) fn find(&mut self, to: ConnId) -> Option<&mut Collected> {
        if self.collected[self.last].to != Some(to) {
            let in_use = &self.collected[..self.used];
            self.last = in_use.iter().position(|collected| collected.to == Some(to))?;
        }
        Some(&mut self.collected[self.last])
    }

    /// Begins to collect frames for a connection that none are collected for. If there are too many connections, `push`
    /// is called for another one first.
    pub(crate) fn open(
        &mut self,
        to: ConnId,
        framing: Framing,
        push: impl FnOnce(&mut Collected),
    ) -> &mut Collected {
        if self.used < MOST {
            self.last = self.used;
            self.used += 1;
        } else {
            self.last = (self.last + 1) % MOST;
            push(&mut self.collected[self.last]);
        }
        let opened = &mut self.collected[self.last];
        (opened.to, opened.framing) = (Some(to), framing);
        opened
    }

    /// Calls `push` for the frames of each connection, after which none are collected.
    pub(crate) fn push_all(&mut self, mut push: impl FnMut(&mut Collected)) {
        for collected in &mut self.collected[..self.used] {
            push(collected);
            collected.to = None;
        }
        self.used = 0;
    }
}
