//! What is queued, and who pays for it (rules LI-2, LI-3 and LI-6), in a list that is searched from end to end.

use gsb_core::Progress;
use gsb_proto::Frame;

use crate::router::{Charge, Peer, QUEUE};

/// What a frame counts for beside its own bytes.
const FRAME_COST: usize = 64;

/// What bytes are queued for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The router's own answers.
    Answers,
    /// Calls of the payer.
    Calls,
    /// Replies to the payer's calls.
    Replies,
    /// Events.
    Broadcasts,
    /// Calls in the outbox of a peer that has stalled.
    Stalled,
}

/// A connection, and what it pays for.
pub type Payer = (Peer, Purpose);

/// A frame that its receiver has not taken.
#[derive(Debug)]
pub struct Queued {
    /// Its receiver.
    pub to: Peer,
    /// Who pays for it.
    pub payer: Payer,
    /// The router's own account of it.
    pub charge: Charge,
    left: usize,
}

/// All queues. A peer that is not deaf takes at once what it is sent.
#[derive(Debug, Default)]
pub struct Queues {
    /// What is queued, in the order in which it came.
    pub queued: Vec<Queued>,
    deaf: Vec<Peer>,
    /// Those that wait, first come, first served, and in which account there is no room.
    waiting: Vec<(Peer, Payer)>,
    /// How many bytes each peer has ever taken.
    taken: Vec<(Peer, u64)>,
    /// Those that have stalled.
    stalled: Vec<Peer>,
    /// How far each slow peer had got when it last had read all that was queued before, and whether it has since it
    /// stalled. There is never as much queued as it must read.
    recent: Vec<(Peer, Progress, bool)>,
}

/// The cost of a frame with a body of `body` bytes.
pub fn cost(body: usize) -> usize {
    body + FRAME_COST
}

impl Queues {
    /// How many bytes are queued.
    pub fn used(&self, payer: Payer) -> usize {
        let queued = self.queued.iter().filter(|queued| queued.payer == payer);
        queued.map(|queued| queued.left).sum()
    }

    /// Rule LI-2: whether there is room for this many bytes. One frame may be larger than the limit.
    pub fn has_room(&self, payer: Payer, bytes: usize) -> bool {
        let used = self.used(payer);
        used == 0 || used + bytes <= QUEUE
    }

    /// Rules LI-2, LI-3, LI-6: whether a frame of `sender` need not wait, or must go on if it `has_waited`.
    pub fn admits(&self, payer: Payer, bytes: usize, sender: Peer, has_waited: bool) -> bool {
        let is_reply = payer.1 == Purpose::Replies;
        if is_reply && self.is_stalled(payer.0) {
            return true;
        }
        let is_first = !is_reply || self.first(payer).is_none_or(|first| first == sender);
        let is_low = self.used(payer) <= QUEUE / 2 || !has_waited;
        is_first && is_low && self.has_room(payer, bytes)
    }

    /// The connection that has waited longest.
    fn first(&self, payer: Payer) -> Option<Peer> {
        self.waiting.iter().find(|(_, other)| *other == payer).map(|(peer, _)| *peer)
    }

    /// A peer waits for room, or does not any more.
    pub fn wait(&mut self, peer: Peer, payer: Option<Payer>) {
        let before = self.waiting.iter().position(|(other, _)| *other == peer);
        if before.map(|at| self.waiting[at].1) != payer {
            before.map(|at| self.waiting.remove(at));
            self.waiting.extend(payer.map(|payer| (peer, payer)));
        }
    }

    /// Whether no connection waits for a peer.
    pub fn is_stalled(&self, peer: Peer) -> bool {
        self.stalled.contains(&peer)
    }

    /// How far a peer has got.
    pub fn progress(&self, peer: Peer) -> Progress {
        let own = self.queued.iter().filter(|queued| queued.to == peer);
        let taken = self.taken.iter().find(|(other, _)| *other == peer);
        Progress {
            queued: own.map(|queued| queued.left).sum(),
            written: taken.map_or(0, |(_, taken)| *taken),
        }
    }

    /// Rule LI-3: the router has looked at a peer, and it `has_stalled`, or may have read enough.
    pub fn look(&mut self, peer: Peer, has_stalled: bool) {
        let now = self.progress(peer);
        if now.queued == 0 {
            assert!(!has_stalled, "it has read all");
            self.recent.retain(|(other, ..)| *other != peer);
            self.stalled.retain(|other| *other != peer);
            return;
        }
        let at = self.recent.iter().position(|(other, ..)| *other == peer);
        let at = at.unwrap_or_else(|| {
            self.recent.push((peer, now, false));
            self.recent.len() - 1
        });
        let (_, then, has_read) = &mut self.recent[at];
        if now.written - then.written >= then.queued.min(64 << 10) as u64 {
            (*then, *has_read) = (now, true);
        }
        if has_stalled {
            assert!(!self.stalled.contains(&peer), "it stalls again");
            *has_read = false;
            self.stalled.push(peer);
            let own = self.queued.iter_mut().filter(|queued| queued.to == peer);
            for queued in own.filter(|queued| queued.payer.1 == Purpose::Calls) {
                queued.payer = (peer, Purpose::Stalled);
            }
        } else if *has_read && now.queued <= QUEUE / 2 {
            self.stalled.retain(|other| *other != peer);
        }
    }

    /// Queues a frame, unless its receiver takes it at once.
    pub fn send(&mut self, to: Peer, payer: Payer, frame: &Frame, charge: Charge) {
        if self.deaf.contains(&to) {
            let left = cost(frame.body.len());
            self.queued.push(Queued { to, payer, charge, left });
        }
    }

    /// From now on a peer takes only what it is told to.
    pub fn deafen(&mut self, peer: Peer) {
        self.deaf.push(peer);
    }

    /// A peer takes a number of bytes.
    pub fn take(&mut self, peer: Peer, mut bytes: usize) {
        let before = bytes;
        self.queued.retain_mut(|queued| {
            if queued.to != peer || bytes == 0 {
                return true;
            }
            let taken = bytes.min(queued.left);
            queued.charge.written(taken);
            queued.left -= taken;
            bytes -= taken;
            queued.left > 0
        });
        let taken = (before - bytes) as u64;
        match self.taken.iter_mut().find(|(other, _)| *other == peer) {
            Some((_, all)) => *all += taken,
            None => self.taken.push((peer, taken)),
        }
    }

    /// A peer takes all, and from now on at once; or it is gone, and its queue with it.
    pub fn take_all(&mut self, peer: Peer) {
        self.deaf.retain(|other| *other != peer);
        self.take(peer, usize::MAX);
    }
}
