//! The bus and the links of its connections: what all tasks of a router share.

use std::sync::Arc;
use std::time::Instant;

use gsb_bus::{Bus, BusConfig, CloseReason, ConnId, Counters, Effect, Identity, Usage};
use gsb_net::Link;
use gsb_proto::{Frame, Framing};
use parking_lot::Mutex;

/// The one state of a router.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bus: Bus,
    /// By the slots of the bus's connections.
    peers: Vec<Option<Peer>>,
    /// Reused by each batch.
    effects: Vec<Effect>,
}

#[derive(Debug)]
struct Peer {
    link: Arc<Link>,
    framing: Option<Framing>,
}

impl Shared {
    pub(crate) fn new(config: BusConfig) -> Self {
        Shared {
            state: Mutex::new(State {
                bus: Bus::new(config),
                peers: Vec::new(),
                effects: Vec::new(),
            }),
        }
    }

    /// A peer has connected.
    pub(crate) fn connect(&self, identity: Identity, link: Arc<Link>) -> ConnId {
        let mut state = self.state.lock();
        let connection = state.bus.connect(identity, Instant::now());
        let slot = connection.slot();
        if slot >= state.peers.len() {
            state.peers.resize_with(slot + 1, || None);
        }
        state.peers[slot] = Some(Peer { link, framing: None });
        connection
    }

    /// Bytes have come from a peer, and these frames are complete now. Routes them and writes to whom
    /// they concern. `flush` is scratch room of the calling task.
    pub(crate) fn receive(
        &self,
        from: ConnId,
        framing: Option<Framing>,
        frames: &mut Vec<Frame>,
        flush: &mut Vec<Arc<Link>>,
    ) {
        self.with_bus(flush, |bus, peers, effects| {
            bus.heard(from, Instant::now());
            if let Some(framing) = framing
                && let Some(Some(peer)) = peers.get_mut(from.slot())
                && peer.framing.is_none()
            {
                peer.framing = Some(framing);
                bus.framing_known(from, framing, effects);
            }
            for frame in frames.drain(..) {
                bus.receive(from, frame, effects);
            }
        });
    }

    /// A connection has ended.
    pub(crate) fn close(&self, connection: ConnId, reason: CloseReason) {
        self.with_bus(&mut Vec::new(), |bus, _, effects| {
            bus.close(connection, reason, effects);
        });
    }

    /// Time has passed. Returns when to call again; `None` is for never, as far as is known now.
    pub(crate) fn tick(&self) -> Option<Instant> {
        self.with_bus(&mut Vec::new(), |bus, _, effects| {
            bus.tick(Instant::now(), effects);
            bus.next_deadline()
        })
    }

    /// The links of all connections.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        let state = self.state.lock();
        let peers = state.peers.iter().flatten();
        peers.map(|peer| peer.link.clone()).collect()
    }

    /// Closes all connections; their tasks tell the bus.
    pub(crate) fn close_links(&self) {
        for link in self.links() {
            link.close();
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.state.lock().bus.counters().clone()
    }

    pub(crate) fn usage(&self) -> Usage {
        self.state.lock().bus.usage()
    }

    /// Lets something happen to the bus under the lock, queues what follows from it, and writes it
    /// after the lock is released.
    fn with_bus<R>(
        &self,
        flush: &mut Vec<Arc<Link>>,
        happen: impl FnOnce(&mut Bus, &mut [Option<Peer>], &mut Vec<Effect>) -> R,
    ) -> R {
        let result = {
            let mut state = self.state.lock();
            let State { bus, peers, effects } = &mut *state;
            let result = happen(bus, peers, effects);
            // Frames are queued under the lock, so that what one connection sends to another, and what
            // the bus adds to it, keeps its order whichever tasks are at work.
            state.carry_out(flush);
            result
        };
        for link in flush.drain(..) {
            link.flush();
        }
        result
    }
}

impl State {
    /// Queues what is to be sent and closes what is to be closed. Whoever does not read is closed
    /// too, which may have effects of its own.
    fn carry_out(&mut self, flush: &mut Vec<Arc<Link>>) {
        let mut effects = std::mem::take(&mut self.effects);
        while !effects.is_empty() {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send { to, frame } => self.send(to, &frame, flush),
                    Effect::Close { connection, reason } => self.forget(connection, &reason),
                }
            }
            std::mem::swap(&mut effects, &mut self.effects);
        }
        self.effects = effects;
    }

    fn send(&mut self, to: ConnId, frame: &Frame, flush: &mut Vec<Arc<Link>>) {
        let Some(Some(peer)) = self.peers.get(to.slot()) else {
            return;
        };
        // The bus sends to nobody whose framing is not known yet.
        let Some(framing) = peer.framing else {
            return;
        };
        match peer.link.push(framing, frame) {
            Ok(true) => flush.push(peer.link.clone()),
            Ok(false) => {}
            Err(full) => {
                let reason = CloseReason::OutboxFull { limit: full.limit };
                self.bus.close(to, reason, &mut self.effects);
            }
        }
    }

    fn forget(&mut self, connection: ConnId, reason: &CloseReason) {
        if reason.is_fault() {
            log::warn!("connection {connection} {reason}");
        } else {
            log::debug!("connection {connection} {reason}");
        }
        if let Some(peer) = self.peers.get_mut(connection.slot()).and_then(Option::take) {
            peer.link.close();
        }
    }
}
