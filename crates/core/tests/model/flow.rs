//! Random events among peers that may not read, judged by the five rules of flow control (LI-2 to LI-6).
//!
//! Queues are a list that is searched from end to end. The oracle derives from the frames what is queued and which
//! connection pays for it. It predicts whether a frame has to wait, and when it goes on. From the history of each peer
//! it derives when a stall must happen and when it must not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gsb_core::{BrokerConfig, ConnId, Limits, Usage};
use gsb_proto::Frame;
use gsb_proto::messages::*;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseResult;

use crate::common::{Queued, Seen, World, broadcast, call, credit, data, full};
use crate::oracle::PARTIAL;

const LIMIT: usize = 600_000;
const LEAST: u64 = 64 << 10;
const SHARE: u64 = LIMIT as u64 / 8;
const STALL: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(10);
/// The time between two checks of a slow peer.
const TICK: Duration = Duration::from_nanos(STALL.as_nanos() as u64 / 16);
/// The cost of a frame without its body.
const FRAME_COST: usize = 64;

const PEERS: usize = 4;
/// A name that all peers own.
const SHARED: &str = "/shared";
const SIZES: &[usize] = &[0, 1000, 40_000, 40_000, 250_000, 350_000, 1_000_000];
const READS: &[usize] = &[1, 30_000, 70_000, 80_000, 300_000, usize::MAX];

/// An operation. Its numbers select peers and calls, modulo their count. A call to number [`PEERS`] is for any peer.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Call { from: usize, to: usize, size: usize, no_reply: bool },
    Reply { call: usize, size: usize, reply_type: i32 },
    Data { call: usize, size: usize },
    Credit { call: usize, for_request: bool },
    Broadcast { from: usize, size: usize },
    Ping(usize),
    Cancel(usize),
    Deafen(usize),
    Read(usize, usize),
    Pass(u32),
    HangUp(usize),
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let size = || select(SIZES);
    let peer = || 0..PEERS;
    prop_oneof![
        20 => (peer(), 0..=PEERS, size(), prop::bool::weighted(0.2))
            .prop_map(|(from, to, size, no_reply)| Op::Call { from, to, size, no_reply }),
        20 => (0..100usize, size(), select(&[0, PARTIAL, PARTIAL][..]))
            .prop_map(|(call, size, reply_type)| Op::Reply { call, size, reply_type }),
        10 => (0..100usize, size()).prop_map(|(call, size)| Op::Data { call, size }),
        4 => (0..100usize, any::<bool>())
            .prop_map(|(call, for_request)| Op::Credit { call, for_request }),
        5 => (peer(), size()).prop_map(|(from, size)| Op::Broadcast { from, size }),
        2 => peer().prop_map(Op::Ping),
        1 => (0..100usize).prop_map(Op::Cancel),
        8 => peer().prop_map(Op::Deafen),
        15 => (peer(), select(READS)).prop_map(|(peer, bytes)| Op::Read(peer, bytes)),
        10 => prop_oneof![3 => 1..4u32, 1 => 4..20u32].prop_map(Op::Pass),
        1 => peer().prop_map(Op::HangUp),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Answers,
    Calls,
    Replies,
    Broadcasts,
    Stalled,
}

type Payer = (ConnId, Purpose);

struct Paused {
    peer: ConnId,
    frame: Frame,
    payer: Payer,
    /// The call that it answers.
    call: Option<usize>,
}

struct Call {
    caller: ConnId,
    service: ConnId,
    id: String,
    is_open: bool,
}

/// A check of a peer whose outbox is not empty.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    queued: u64,
    read: u64,
    is_blocking: bool,
}

struct Peer {
    id: ConnId,
    history: Vec<Sample>,
    /// The check since which it has not read [`LEAST`] bytes, or all.
    recent: Option<Sample>,
    /// When it stalled.
    stalled: Option<Instant>,
}

struct Model {
    world: World,
    /// All connections that ever existed, by the names that they write into their calls.
    names: BTreeMap<String, ConnId>,
    /// The live connections.
    peers: Vec<Peer>,
    /// The newest last.
    calls: Vec<Call>,
    /// Who paid for the cancellation of a call when it was sent to the service, by the id of the call.
    cancelled: BTreeMap<String, Payer>,
    /// How many calls were sent.
    sent: usize,
    /// First come, first served.
    paused: Vec<Paused>,
    reached: BTreeSet<&'static str>,
}

impl Model {
    fn new() -> Self {
        let limits = Limits { queued_bytes: LIMIT, ..Limits::default() };
        let mut world = World::new(BrokerConfig {
            limits,
            stall_timeout: STALL,
            write_timeout: WRITE,
            ping_timeout: None,
            ..BrokerConfig::default()
        });
        let mut peers = Vec::new();
        for _ in 0..PEERS {
            let id = world.peer_of_level(1);
            world.register(id, &format!("/{id}"));
            let (service_id, mode) = (SHARED.to_owned(), RegisterMode::Shared.into());
            world.send(id, RegisterRequest { service_id, mode, capacity: 2 });
            world.take(id);
            world.subscribe(id, "news");
            peers.push(Peer { id, history: Vec::new(), recent: None, stalled: None });
        }
        let names = peers.iter().map(|peer: &Peer| (peer.id.to_string(), peer.id)).collect();
        let (calls, cancelled, paused, sent, reached) = Default::default();
        Model { world, names, peers, calls, cancelled, sent, paused, reached }
    }

    fn apply(&mut self, op: &Op) -> TestCaseResult {
        let id = |at: usize| self.peers.get(at % self.peers.len().max(1)).map(|peer| peer.id);
        let open: Vec<usize> = (0..self.calls.len()).filter(|at| self.calls[*at].is_open).collect();
        let open_call = |at: usize| Some(open[at.checked_rem(open.len())?]);
        match *op {
            Op::Call { from, to, size, no_reply } => {
                let (Some(from), Some(owner)) = (id(from), id(to)) else { return Ok(()) };
                let address = if to == PEERS { SHARED } else { &format!("/{owner}") };
                self.sent += 1;
                let data = vec![0; size].into();
                let caller = from.to_string();
                let call = call(address, &format!("{} to {address}", self.sent));
                let request = CallRequest { caller, data, no_reply, more: !no_reply, ..call };
                self.say(from, request.into_frame(), None)?;
            }
            Op::Reply { call: at, size, reply_type } => {
                let Some(at) = open_call(at) else { return Ok(()) };
                let Call { service, id, .. } = &self.calls[at];
                let reply = CallReply { data: vec![0; size].into(), reply_type, ..full(id, "") };
                self.say(*service, reply.into_frame(), Some(at))?;
            }
            Op::Data { call: at, size } => {
                let Some(at) = open_call(at) else { return Ok(()) };
                let Call { caller, id, .. } = &self.calls[at];
                let data = CallData { data: vec![0; size].into(), ..data(id, "", false) };
                self.say(*caller, data.into_frame(), None)?;
            }
            Op::Credit { call: at, for_request } => {
                let Some(at) = open_call(at) else { return Ok(()) };
                let Call { caller, service, id, .. } = &self.calls[at];
                let (from, replies_to) =
                    if for_request { (*service, Some(at)) } else { (*caller, None) };
                self.say(from, credit(id, 1, for_request).to_frame(), replies_to)?;
            }
            Op::Broadcast { from, size } => {
                let Some(from) = id(from) else { return Ok(()) };
                let data = Bytes::from(vec![0; size]);
                self.say(from, BroadcastRequest { data, ..broadcast("news") }.into_frame(), None)?;
            }
            Op::Ping(from) => {
                let Some(from) = id(from) else { return Ok(()) };
                self.say(from, Ping {}.to_frame(), None)?;
            }
            Op::Cancel(at) => {
                let Some(at) = open_call(at) else { return Ok(()) };
                let Call { caller, id, .. } = &self.calls[at];
                let cancel = CancelCall { request_id: id.clone() };
                self.say(*caller, cancel.to_frame(), None)?;
            }
            Op::Deafen(peer) => self.world.deaf.extend(id(peer)),
            Op::Read(peer, bytes) => {
                let Some(peer) = id(peer) else { return Ok(()) };
                self.world.read(peer, bytes);
                if bytes == usize::MAX {
                    self.world.deaf.remove(&peer);
                    self.look(peer)?;
                }
            }
            Op::Pass(ticks) => {
                for _ in 0..ticks {
                    self.world.now += TICK;
                    for peer in self.world.deaf.clone() {
                        self.look(peer)?;
                        self.go_on()?;
                    }
                }
            }
            Op::HangUp(peer) => {
                let Some(peer) = id(peer) else { return Ok(()) };
                self.world.close(peer);
            }
        }
        self.go_on()
    }

    /// Sends a frame of a peer, unless a frame of it waits.
    fn say(&mut self, from: ConnId, frame: Frame, call: Option<usize>) -> TestCaseResult {
        if self.paused.iter().any(|paused| paused.peer == from) {
            return Ok(());
        }
        self.receive(from, frame, call)
    }

    /// Passes a frame to the broker, and checks whether it has to wait as predicted.
    fn receive(&mut self, from: ConnId, frame: Frame, call: Option<usize>) -> TestCaseResult {
        let before = self.paused.iter().position(|paused| paused.peer == from);
        let was_for = before.map(|at| self.paused[at].payer);
        let expected = self.obstacle(from, &frame, call, false);
        match self.world.try_send(from, frame) {
            Ok(()) => {
                prop_assert_eq!(expected, None, "{} is admitted", from);
                if let Some(at) = before {
                    self.paused.remove(at);
                }
            }
            Err(frame) => {
                let Some(payer) = expected else {
                    return Err(TestCaseError::fail(format!("{from} has to wait for nothing")));
                };
                let paused = Paused { peer: from, frame, payer, call };
                match before {
                    // It keeps its place in the order.
                    Some(at) if was_for == Some(payer) => self.paused[at] = paused,
                    Some(at) => {
                        self.paused.remove(at);
                        self.paused.push(paused);
                    }
                    None => self.paused.push(paused),
                }
                self.reached.insert(match payer.1 {
                    Purpose::Calls => "paused for calls",
                    Purpose::Replies => "paused for replies",
                    _ => "paused for answers",
                });
            }
        }
        self.observe()
    }

    /// The account that has no room for a frame of `from`. If the frame has waited, half of the account has to be free.
    fn obstacle(
        &self,
        from: ConnId,
        frame: &Frame,
        call: Option<usize>,
        has_waited: bool,
    ) -> Option<Payer> {
        let limit = if has_waited { LIMIT / 2 } else { LIMIT };
        let fits = |payer: Payer, body: usize| {
            let (used, cost) = (self.used(payer), body + FRAME_COST);
            used == 0 || used + cost <= LIMIT && used <= limit
        };
        let answers = (from, Purpose::Answers);
        if !fits(answers, 0) {
            return Some(answers);
        }
        let body = frame.body.len();
        match (frame.kind, call) {
            (CallRequest::KIND | CallData::KIND | StreamCredit::KIND, None) => {
                let calls = (from, Purpose::Calls);
                (!fits(calls, body)).then_some(calls)
            }
            (_, Some(call)) if self.calls[call].is_open => {
                let payer = (self.calls[call].caller, Purpose::Replies);
                let first = self.paused.iter().find(|paused| paused.payer == payer);
                let is_turn = first.is_none_or(|first| first.peer == from);
                let may = self.is_stalled(payer.0) || is_turn && fits(payer, body);
                (!may).then_some(payer)
            }
            _ => None,
        }
    }

    fn used(&self, payer: Payer) -> usize {
        let queued = self.world.queued.iter().filter(|queued| self.payer(queued) == payer);
        queued.map(|queued| queued.left).sum()
    }

    /// Rule LI-2: the account and the purpose that a frame is charged to.
    fn payer(&self, queued: &Queued) -> Payer {
        match &queued.seen {
            Seen::Call(_) if queued.is_moved => (queued.to, Purpose::Stalled),
            Seen::Call(call) => (self.by_name(&call.caller), Purpose::Calls),
            Seen::Data(CallData { request_id, .. })
            | Seen::Credit(StreamCredit { request_id, for_request: false, .. }) => {
                match self.calls.iter().find(|call| call.id == *request_id) {
                    Some(call) if !queued.is_moved => (call.caller, Purpose::Calls),
                    _ => (queued.to, Purpose::Stalled),
                }
            }
            Seen::Credit(_) => (queued.to, Purpose::Replies),
            Seen::Cancel(id) => match self.cancelled[id] {
                (_, Purpose::Calls) if queued.is_moved => (queued.to, Purpose::Stalled),
                payer => payer,
            },
            Seen::Reply(reply) if reply.reason == 0 => (queued.to, Purpose::Replies),
            Seen::Broadcast(_) => (queued.to, Purpose::Broadcasts),
            _ => (queued.to, Purpose::Answers),
        }
    }

    /// A connection, live or ended, that wrote its name into a call.
    fn by_name(&self, name: &str) -> ConnId {
        self.names[name]
    }

    fn is_stalled(&self, peer: ConnId) -> bool {
        self.peers.iter().any(|other| other.id == peer && other.stalled.is_some())
    }

    /// Whether a call may have been refused for this reason.
    fn may_be_refused(&self, refusal: &CallReply) -> bool {
        let mut stalled = self.peers.iter().map(|peer| peer.stalled.is_some());
        let is_shared = refusal.request_id.ends_with(SHARED);
        match refusal.reason() {
            CallReplyReason::ReasonServiceStalled if is_shared => stalled.all(|stalled| stalled),
            CallReplyReason::ReasonServiceStalled => stalled.any(|stalled| stalled),
            CallReplyReason::ReasonBusy => is_shared && stalled.any(|stalled| !stalled),
            reason => reason == CallReplyReason::ReasonNoSuchService,
        }
    }

    /// Records the sent messages, and checks the limits.
    fn observe(&mut self) -> TestCaseResult {
        while self.world.sweep(1000) {}
        for (to, seen) in std::mem::take(&mut self.world.seen) {
            let is_stalled = self.is_stalled(to);
            match seen {
                Seen::Call(request) => {
                    prop_assert!(!is_stalled, "{} has stalled", to);
                    let (caller, id) = (self.by_name(&request.caller), request.request_id);
                    let is_open = !request.no_reply;
                    self.calls.push(Call { caller, service: to, id, is_open });
                }
                Seen::Reply(reply) => {
                    let is_it = |call: &&mut Call| {
                        call.is_open && (call.caller, &call.id) == (to, &reply.request_id)
                    };
                    let is_router = reply.reason != 0;
                    match self.calls.iter_mut().find(is_it) {
                        Some(call) => call.is_open = reply.reply_type == PARTIAL,
                        // The reply to a refused call.
                        None => prop_assert!(
                            is_router && self.may_be_refused(&reply),
                            "{:?} at {}",
                            reply,
                            to
                        ),
                    }
                    prop_assert!(is_router || !is_stalled, "{} has stalled", to);
                    if is_router {
                        let reason = reply.reason().as_str_name();
                        self.reached.insert(reason);
                    }
                }
                Seen::Cancel(id) => {
                    let is_it = |call: &&Call| (call.service, &call.id) == (to, &id);
                    let caller = self.calls.iter().find(is_it).unwrap().caller;
                    let is_live = self.peers.iter().any(|peer| peer.id == caller);
                    let payer = match is_live && !is_stalled {
                        true => (caller, Purpose::Calls),
                        false => (to, Purpose::Answers),
                    };
                    self.reached.insert(if is_live {
                        "cancelled"
                    } else {
                        "cancelled for one gone"
                    });
                    let before = self.cancelled.insert(id, payer);
                    prop_assert!(before.is_none(), "cancelled twice");
                }
                Seen::Data(CallData { request_id, .. })
                | Seen::Credit(StreamCredit { request_id, .. }) => {
                    let is_it = |call: &Call| call.is_open && call.id == request_id;
                    prop_assert!(self.calls.iter().any(is_it), "{} has ended", request_id);
                    prop_assert!(!is_stalled, "{} has stalled", to);
                }
                Seen::Broadcast(_) => prop_assert!(!is_stalled, "{} has stalled", to),
                Seen::Closed(reason) => {
                    self.reached.insert(reason);
                    self.peers.retain(|peer| peer.id != to);
                    self.paused.retain(|paused| paused.peer != to);
                    let own = self.calls.iter_mut().filter(|call| call.caller == to);
                    own.for_each(|call| call.is_open = false);
                }
                _ => {}
            }
        }
        for Peer { id, .. } in &self.peers {
            for purpose in [Purpose::Calls, Purpose::Replies, Purpose::Broadcasts] {
                let payer = (*id, purpose);
                let queued = self.world.queued.iter().filter(|queued| self.payer(queued) == payer);
                // Cancellations are queued above the limit.
                let limited = queued.filter(|queued| !matches!(queued.seen, Seen::Cancel(_)));
                let limited: Vec<_> = limited.map(|queued| queued.left).collect();
                let used = limited.iter().sum::<usize>();
                prop_assert!(used <= LIMIT || limited.len() == 1, "{:?} has {}", payer, used);
            }
        }
        let open = self.calls.iter().filter(|call| call.is_open).count();
        prop_assert_eq!(self.world.broker.usage().open_calls, open);
        Ok(())
    }

    /// Lets each paused connection that was woken try again. Each connection that can go on must have been woken.
    fn go_on(&mut self) -> TestCaseResult {
        self.observe()?;
        while let Some(at) = self.paused.iter().position(|paused| self.world.is_woken(paused.peer))
        {
            let Paused { peer, ref frame, call, .. } = self.paused[at];
            let frame = frame.clone();
            self.receive(peer, frame, call)?;
        }
        for Paused { peer, frame, payer, call } in &self.paused {
            let _ = payer;
            let obstacle = self.obstacle(*peer, frame, *call, true);
            prop_assert!(obstacle.is_some(), "{} waits for ever", peer);
        }
        Ok(())
    }

    /// Checks that the result of a check of a peer, stalled or closed, follows from its history.
    fn look(&mut self, id: ConnId) -> TestCaseResult {
        let Some(at) = self.peers.iter().position(|peer| peer.id == id) else {
            return Ok(());
        };
        let queued = self.world.queued_for(id) as u64;
        let read = self.world.written.get(&id).copied().unwrap_or_default();
        let waits = |paused: &Paused| match paused.payer {
            (payer, Purpose::Replies) => payer == id && paused.peer != id,
            (payer, Purpose::Calls) if payer != id => {
                let own = self.world.queued.iter().filter(|queued| queued.to == id);
                own.map(|queued| self.payer(queued)).any(|by| by == paused.payer)
            }
            _ => false,
        };
        let is_blocking = self.paused.iter().any(waits);
        let now = Sample { at: self.world.now, queued, read, is_blocking };
        let has_stalled = self.world.look(id);
        let mut seen = self.world.seen.iter();
        let is_closed = seen.any(|(to, seen)| *to == id && matches!(seen, Seen::Closed(_)));
        let peer = &mut self.peers[at];
        if queued == 0 {
            peer.history.clear();
            (peer.recent, peer.stalled) = (None, None);
            prop_assert!(!has_stalled && !is_closed, "{} has read all", id);
            return self.observe();
        }
        peer.history.push(now);
        let ago = |time: Duration| peer.history.iter().rfind(|past| now.at - past.at >= time);
        let read_since = |past: &Sample| now.read - past.read;
        let too_little = |past: &Sample| read_since(past) < LEAST.min(past.queued);
        let recent = peer.recent.filter(too_little).unwrap_or(now);
        peer.recent = Some(recent);
        // Rule LI-4.
        if is_closed {
            prop_assert!(ago(WRITE).is_some_and(too_little), "{} reads enough", id);
        } else {
            let past = ago(2 * WRITE + 2 * TICK);
            prop_assert!(!past.is_some_and(too_little), "{} reads too little", id);
        }
        // Rule LI-3.
        match peer.stalled {
            Some(past) => {
                prop_assert!(!has_stalled, "{} stalls again", id);
                let is_over = queued <= LIMIT as u64 / 2 && recent.at > past;
                if is_over {
                    peer.stalled = None;
                    // The time in which it reads too little goes on.
                    peer.history.retain(|past| past.at >= recent.at);
                }
            }
            None if has_stalled => {
                let is_slow = now.at - recent.at >= STALL;
                let last = ago(TICK).filter(|_| is_blocking);
                let is_too_slow = last.is_some_and(|past| read_since(past) < SHARE);
                prop_assert!(is_slow || is_too_slow, "{} reads enough", id);
                self.reached.insert(if is_slow { "stalled" } else { "stalled for another" });
                peer.stalled = Some(now.at);
            }
            None => {
                let blocks_since = |past: &Sample| {
                    let mut since = peer.history.iter().filter(|sample| sample.at >= past.at);
                    since.all(|sample| sample.is_blocking)
                        && read_since(past) < SHARE.min(past.queued)
                };
                let must_stall = |past: &Sample| too_little(past) || blocks_since(past);
                let past = ago(2 * STALL + 2 * TICK);
                let is_fine = is_closed || !past.is_some_and(must_stall);
                prop_assert!(is_fine, "{} reads too little", id);
            }
        }
        self.observe()
    }
}

/// The rules that random events must reach.
pub(crate) const TO_REACH: &[&str] = &[
    "REASON_BUSY",
    "REASON_CALLER_STALLED",
    "REASON_CANCELLED",
    "REASON_SERVICE_GONE",
    "REASON_SERVICE_STALLED",
    "cancelled",
    "cancelled for one gone",
    "not reading",
    "paused for calls",
    "paused for replies",
    "stalled",
    "stalled for another",
];

/// Carries out all operations, then all peers read and disconnect. Returns the rules that were applied.
pub(crate) fn run(ops: &[Op]) -> Result<BTreeSet<&'static str>, TestCaseError> {
    let mut model = Model::new();
    for op in ops {
        model.apply(op)?;
    }
    while !model.world.deaf.is_empty() {
        for peer in 0..PEERS {
            model.apply(&Op::Read(peer, usize::MAX))?;
        }
    }
    prop_assert!(model.paused.is_empty(), "some wait for ever");
    while let Some(Peer { id, .. }) = model.peers.first() {
        model.world.close(*id);
        model.go_on()?;
    }
    prop_assert_eq!(model.world.broker.usage(), Usage::default());
    Ok(model.reached)
}
