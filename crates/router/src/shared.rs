//! The bus and the links of its connections: what all tasks of a router share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use gsb_bus::{Bus, BusConfig, CloseReason, ConnId, Counters, Effect, Identity, Usage};
use gsb_net::Link;
use gsb_proto::{Frame, Framing};
use log::Level;
use parking_lot::Mutex;

use crate::clock;
use crate::quiet::Quiet;

/// Scratch room of more elements than this is not kept while there is nothing to do.
const KEPT: usize = 256;

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
    /// Empty whenever the state is not locked; kept for its room.
    effects: Vec<Effect>,
    /// No more connections are taken.
    is_stopping: bool,
    /// What was logged lately, by the reason for closing a connection.
    logged: HashMap<&'static str, Quiet>,
}

#[derive(Debug)]
struct Peer {
    id: ConnId,
    link: Arc<Link>,
    framing: Option<Framing>,
}

/// What is to be done when the state is not locked any more: it may take its time, or run what others
/// wrote. May be kept for its room.
#[derive(Debug, Default)]
pub(crate) struct Afterwards {
    flush: Vec<Arc<Link>>,
    close: Vec<Arc<Link>>,
    log: Vec<(Level, ConnId, CloseReason)>,
}

impl Afterwards {
    fn run(&mut self) {
        for link in self.flush.drain(..) {
            link.flush();
        }
        for link in self.close.drain(..) {
            link.close();
        }
        for (level, connection, reason) in self.log.drain(..) {
            log::log!(level, "connection {connection} {reason}");
        }
        self.flush.shrink_to(KEPT);
    }
}

impl Shared {
    pub(crate) fn new(config: BusConfig) -> Self {
        Shared {
            state: Mutex::new(State {
                bus: Bus::new(config),
                peers: Vec::new(),
                effects: Vec::new(),
                is_stopping: false,
                logged: HashMap::new(),
            }),
        }
    }

    /// A peer has connected; `None` if the router stops.
    pub(crate) fn connect(&self, identity: Identity, link: Arc<Link>) -> Option<ConnId> {
        let mut state = self.state.lock();
        if state.is_stopping {
            return None;
        }
        let id = state.bus.connect(identity, clock::now());
        let slot = id.slot();
        if slot >= state.peers.len() {
            state.peers.resize_with(slot + 1, || None);
        }
        state.peers[slot] = Some(Peer { id, link, framing: None });
        Some(id)
    }

    /// Bytes have come from a peer, and these frames are complete now. Routes them and writes to whom
    /// they concern.
    pub(crate) fn receive(
        &self,
        from: ConnId,
        framing: Option<Framing>,
        frames: &mut Vec<Frame>,
        afterwards: &mut Afterwards,
    ) {
        self.with_state(afterwards, |state, afterwards| {
            state.bus.heard(from, clock::now());
            if let Some(framing) = framing {
                state.framing_known(from, framing, afterwards);
            }
            for frame in frames.drain(..) {
                state.bus.receive(from, frame, &mut state.effects);
                // At once, so that what waits to be done is never more than follows from one frame.
                state.carry_out(afterwards);
            }
        });
    }

    /// A connection has ended.
    pub(crate) fn close(&self, connection: ConnId, reason: CloseReason) {
        self.with_state(&mut Afterwards::default(), |state, afterwards| {
            state.bus.close(connection, reason, &mut state.effects);
            state.carry_out(afterwards);
        });
    }

    /// Time has passed. Returns when to call again; `None` is for never, as far as is known now.
    pub(crate) fn tick(&self) -> Option<Instant> {
        self.with_state(&mut Afterwards::default(), |state, afterwards| {
            state.bus.tick(clock::now(), &mut state.effects);
            state.carry_out(afterwards);
            state.bus.next_deadline()
        })
    }

    /// Takes no more connections, and returns the links of those that there are.
    pub(crate) fn stop(&self) -> Vec<Arc<Link>> {
        let mut state = self.state.lock();
        state.is_stopping = true;
        state.peers.iter().flatten().map(|peer| peer.link.clone()).collect()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.state.lock().bus.counters().clone()
    }

    pub(crate) fn usage(&self) -> Usage {
        self.state.lock().bus.usage()
    }

    /// Lets something happen under the lock, and does what follows from it after the lock is released.
    fn with_state<R>(
        &self,
        afterwards: &mut Afterwards,
        happen: impl FnOnce(&mut State, &mut Afterwards) -> R,
    ) -> R {
        let result = happen(&mut self.state.lock(), afterwards);
        afterwards.run();
        result
    }
}

impl State {
    fn framing_known(&mut self, from: ConnId, framing: Framing, afterwards: &mut Afterwards) {
        // The slot may have got another connection since this one was closed.
        let peer = self.peers.get_mut(from.slot()).and_then(Option::as_mut);
        if let Some(peer) = peer.filter(|peer| peer.id == from && peer.framing.is_none()) {
            peer.framing = Some(framing);
            self.bus.framing_known(from, framing, &mut self.effects);
            self.carry_out(afterwards);
        }
    }

    /// Queues what is to be sent and lets go of what is to be closed. Frames are queued under the
    /// lock, so that what one connection sends to another, and what the bus adds to it, keeps its
    /// order whichever tasks are at work.
    fn carry_out(&mut self, afterwards: &mut Afterwards) {
        while !self.effects.is_empty() {
            let mut effects = std::mem::take(&mut self.effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send { to, frame } => self.send(to, &frame, afterwards),
                    Effect::Close { connection, reason } => {
                        self.forget(connection, afterwards);
                        self.note(connection, reason, afterwards);
                    }
                }
            }
            // Closing whoever does not read has effects of its own.
            if self.effects.is_empty() {
                effects.shrink_to(KEPT);
                self.effects = effects;
            }
        }
    }

    fn send(&mut self, to: ConnId, frame: &Frame, afterwards: &mut Afterwards) {
        let Some(Some(peer)) = self.peers.get(to.slot()) else {
            return;
        };
        // The bus sends to nobody whose framing is not known yet.
        let Some(framing) = peer.framing.filter(|_| peer.id == to) else {
            return;
        };
        match peer.link.push(framing, frame) {
            Ok(true) => afterwards.flush.push(peer.link.clone()),
            Ok(false) => {}
            Err(full) => {
                // Now, so that nothing is queued behind what was not.
                self.forget(to, afterwards);
                let reason = CloseReason::OutboxFull { limit: full.limit };
                self.bus.close(to, reason, &mut self.effects);
            }
        }
    }

    fn forget(&mut self, connection: ConnId, afterwards: &mut Afterwards) {
        if let Some(slot) = self.peers.get_mut(connection.slot())
            && let Some(peer) = slot.take_if(|peer| peer.id == connection)
        {
            afterwards.close.push(peer.link);
        }
    }

    /// Whoever can make the router close connections must not be able to fill its log.
    fn note(&mut self, connection: ConnId, reason: CloseReason, afterwards: &mut Afterwards) {
        let is_news =
            reason.is_fault() && self.logged.entry(reason.reason()).or_default().may_log();
        let level = if is_news { Level::Warn } else { Level::Debug };
        if log::log_enabled!(level) {
            afterwards.log.push((level, connection, reason));
        }
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
