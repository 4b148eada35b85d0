//! What is queued at whose cost (rules LI-2 to LI-6), in a list that is searched from end to end.

use std::collections::BTreeMap;
use std::time::Instant;

use gsb_proto::Frame;

use crate::router::{CallKey, Charge, Peer, QUEUE, Room, STALL};

/// What a frame counts for beside its own bytes.
const FRAME_COST: usize = 64;

/// What bytes are queued for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// What the router says itself.
    Answers,
    /// What a connection asks services for.
    Calls,
    /// What it gets from them.
    Replies,
    /// Events.
    Broadcasts,
    /// What is left of a call that it had begun to take.
    Remainder,
}

/// Whose budget, and which of them.
pub type Payer = (Peer, Purpose);

/// A frame that its receiver has not taken.
#[derive(Debug)]
pub struct Queued {
    /// Who is to take it.
    pub to: Peer,
    /// Who pays for it.
    pub payer: Payer,
    /// The call that it is, by its number in an account of them.
    pub call: Option<usize>,
    /// The router's own account of it.
    pub charge: Charge,
    left: usize,
    is_begun: bool,
}

/// A budget that somebody waits for.
#[derive(Debug)]
struct Full {
    payer: Payer,
    since: Instant,
    is_stalled: bool,
    /// Who has waited first for room for a reply.
    first: Option<Peer>,
}

/// All queues. Whoever is not deaf takes at once what it is sent.
#[derive(Debug, Default)]
pub struct Queues {
    queued: Vec<Queued>,
    /// Calls that were taken back, in time or not: the router does not know of it yet.
    taken_back: Vec<Queued>,
    deaf: Vec<Peer>,
    full: Vec<Full>,
    /// Who had room last for a reply, by who pays for it.
    last: BTreeMap<Peer, Peer>,
}

/// What a frame with a body of so many bytes counts for.
pub fn cost(body: usize) -> usize {
    body + FRAME_COST
}

impl Queues {
    /// How many bytes are queued.
    pub fn used(&self, payer: Payer) -> usize {
        let queued = self.queued.iter().chain(&self.taken_back);
        queued.filter(|queued| queued.payer == payer).map(|queued| queued.left).sum()
    }

    /// Whether anything is charged to a connection.
    pub fn is_charged(&self, peer: Peer) -> bool {
        self.queued.iter().chain(&self.taken_back).any(|queued| queued.payer.0 == peer)
    }

    /// Rule LI-2: whether there is room for so many bytes. One frame may be larger than the limit.
    pub fn has_room(&self, payer: Payer, bytes: usize) -> bool {
        let used = self.used(payer);
        used == 0 || used + bytes <= QUEUE
    }

    /// Rule LI-2 for what can wait: once something had to, nothing is let in before it, and it not before half
    /// is free.
    pub fn lets_in(
        &mut self,
        payer: Payer,
        bytes: usize,
        (sender, others_wait): (Peer, bool),
        now: Instant,
    ) -> bool {
        let full = self.full.iter().position(|full| full.payer == payer);
        let is_low = self.used(payer) <= QUEUE / 2;
        let is_turn = self.is_turn(payer, sender, others_wait);
        match full {
            Some(full) if self.has_room(payer, bytes) && is_low && is_turn => {
                self.full.remove(full);
            }
            None if self.has_room(payer, bytes) => {}
            Some(_) => return false,
            None => {
                self.full.push(Full { payer, since: now, is_stalled: false, first: None });
                return false;
            }
        }
        if payer.1 == Purpose::Replies {
            self.last.insert(payer.0, sender);
        }
        true
    }

    /// Whether nobody else has waited first, nor waits while this one had room last.
    pub fn is_turn(&self, payer: Payer, sender: Peer, others_wait: bool) -> bool {
        let is_reply = payer.1 == Purpose::Replies;
        let had_it = is_reply && others_wait && self.last.get(&payer.0) == Some(&sender);
        let full = self.full.iter().find(|full| full.payer == payer);
        full.is_none_or(|full| full.first.map_or(!had_it, |first| first == sender))
    }

    /// Somebody waits to reply.
    pub fn wait(&mut self, payer: Payer, sender: Peer, others_wait: bool) {
        let is_turn = self.is_turn(payer, sender, others_wait);
        let full = self.full.iter_mut().find(|full| full.payer == payer).expect("it is full");
        full.first = full.first.or(is_turn.then_some(sender));
    }

    /// Somebody does not wait any more.
    pub fn stop_waiting(&mut self, sender: Peer) {
        for full in self.full.iter_mut().filter(|full| full.first == Some(sender)) {
            full.first = None;
        }
    }

    /// Rule LI-5: somebody does not wait for this one any more.
    pub fn stall(&mut self, payer: Payer, now: Instant) {
        let full = self.full.iter_mut().find(|full| full.payer == payer).expect("it is full");
        assert!(full.is_stalled || now >= full.since + STALL / 16, "it was not waited for");
        full.is_stalled = true;
    }

    /// Queues a frame, unless its receiver takes it at once.
    pub fn send(
        &mut self,
        to: Peer,
        payer: Payer,
        frame: &Frame,
        call: Option<usize>,
        charge: Charge,
    ) {
        assert_eq!(charge.is_call(), payer.1 == Purpose::Calls);
        if self.deaf.contains(&to) {
            let left = cost(frame.body.len());
            self.queued.push(Queued { to, payer, call, charge, left, is_begun: false });
        }
    }

    /// From now on a peer takes only what it is told to.
    pub fn deafen(&mut self, peer: Peer) {
        self.deaf.push(peer);
    }

    /// A peer takes so many bytes.
    pub fn take(&mut self, peer: Peer, mut bytes: usize) {
        self.queued.retain_mut(|queued| {
            if queued.to != peer || bytes == 0 {
                return true;
            }
            let taken = bytes.min(queued.left);
            queued.charge.written(taken);
            (queued.left, queued.is_begun) = (queued.left - taken, true);
            bytes -= taken;
            queued.left > 0
        });
    }

    /// A peer takes all, and from now on at once; or it is gone, and its queue with it.
    pub fn take_all(&mut self, peer: Peer) {
        self.deaf.retain(|other| *other != peer);
        self.queued.retain(|queued| queued.to != peer);
    }

    /// Takes back so many of the calls that wait for a service, but not what it has some of.
    pub fn take_back(&mut self, service: Peer, mut count: usize) {
        let taken_back = self.queued.extract_if(.., |queued| {
            let is_taken = queued.to == service
                && queued.payer.1 == Purpose::Calls
                && !queued.is_begun
                && count > 0;
            count -= usize::from(is_taken);
            is_taken
        });
        self.taken_back.extend(taken_back);
    }

    /// All that was taken back.
    pub fn taken_back(&mut self) -> Vec<Queued> {
        std::mem::take(&mut self.taken_back)
    }

    /// A service takes some of the call that waits first, if it is one. Returns its number and its name.
    pub fn begin_call(&mut self, service: Peer) -> Option<(Option<usize>, Option<CallKey>)> {
        let first = self.queued.iter().position(|queued| queued.to == service)?;
        let is_begun = self.queued[first].is_begun;
        if self.queued[first].payer.1 != Purpose::Calls {
            return None;
        }
        if !is_begun {
            self.take(service, 1);
        }
        let Queued { call, charge, .. } = &self.queued[first];
        Some((*call, charge.call()))
    }

    /// The service itself pays for what it has begun to take.
    pub fn pass_begun(&mut self, service: Peer, room: &Room) {
        let begun = self.queued.iter_mut().find(|queued| queued.to == service);
        let begun = begun.expect("it has begun to take something");
        begun.charge.pass_to(room);
        assert_eq!(begun.charge.left(), begun.left);
        (begun.payer, begun.call) = ((service, Purpose::Remainder), None);
    }
}
