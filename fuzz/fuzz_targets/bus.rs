//! The routing rules, on any sequence of events, with frames of any content, among peers that may not read.
//!
//! What has to follow is told from the traffic alone. A closed connection is sent nothing and does nothing.
//! What does not decode closes its connection, and nothing else does but what is meant to. Each request gets
//! its reply. A call reaches the owner of the longest name, unchanged but for the request id, or is refused;
//! it ends exactly once, with one FULL (rules CA-7, SV-3, SV-5). A broadcast reaches everybody whose
//! subscription meets its topic, once (rule TO-4), unless too many wait for it. What is queued never goes
//! beyond the limit (rule LI-2); whoever has to wait is told when there is room, and nobody waits for nothing.
//! When everybody has gone, nothing is held, and nothing charged to anybody.

#![no_main]

#[path = "bus/ops.rs"]
mod ops;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gsb_fuzz::frames::packed;
use gsb_fuzz::names::{belongs, is_service_id, is_topic, topics_meet, weight};
use gsb_fuzz::queues::{Payer, Purpose, Queues, cost};
use gsb_fuzz::router::{Did, Peer, Room, Router, STALL, Usage, Waiting, is_free};
use gsb_proto::messages::{
    BroadcastRequest, CallReply, CallReplyReason, CallRequest, CancelCall, Message, Packet, Pong,
    RegisterReply, RegisterRequest, SubscribeReply, SubscribeRequest, UnregisterReply,
    UnregisterRequest, UnsubscribeReply, UnsubscribeRequest, packet,
};
use gsb_proto::{Frame, Framing, MessageKind, Topic};
use libfuzzer_sys::fuzz_target;
use ops::{Act, Input, MANY, Many, Op};
use prost::Message as _;
use prost::encoding::{DecodeContext, decode_key, decode_varint, encode_varint, skip_field};

/// More would only dilute the collisions.
const MAX_PEERS: usize = 4;

/// In seconds: what the timeouts are, and around them.
const TIMES: [u64; 8] = [1, 2, 5, 5, 6, 29, 60, 121];

/// A call that was forwarded.
struct Call {
    caller: Peer,
    id: String,
    service: Peer,
    /// The id that the service was given.
    service_id: String,
}

/// A connection that is not received from before its frame was.
struct Held {
    waiting: Waiting,
    /// Where there is no room.
    payer: Payer,
    /// The call that it is a reply to.
    call: Option<usize>,
    since: Instant,
}

/// The router, and what its traffic tells about it.
struct World {
    router: Router,
    /// In the order in which they came.
    live: Vec<Peer>,
    gone: Vec<Peer>,
    /// Whose they are.
    services: BTreeMap<String, Peer>,
    /// As how many each counts.
    subscriptions: BTreeMap<(Peer, String), usize>,
    no_echo: Vec<Peer>,
    /// Whose first frame has come, and whether that was a Hello of a level above 0.
    levels: BTreeMap<Peer, bool>,
    /// All that there ever were, the newest last.
    calls: Vec<Call>,
    /// Those that wait for their last reply, by their callers and ids.
    open: BTreeMap<(Peer, String), usize>,
    /// The last that a service was given under an id.
    given: BTreeMap<(Peer, String), usize>,
    queues: Queues,
    held: BTreeMap<Peer, Held>,
    /// Of all to whom something is charged, gone or not.
    rooms: Vec<(Peer, Room)>,
    /// How many events were dropped since the last one that was not.
    missed: BTreeMap<Peer, u64>,
    is_stopping: bool,
    /// Something may be left to clear away.
    is_unswept: bool,
    /// How often very many things may yet come at once: it takes its time.
    many_left: u8,
}

impl World {
    fn new(limit: usize) -> Self {
        World {
            router: Router::new(limit),
            live: Vec::new(),
            gone: Vec::new(),
            services: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            no_echo: Vec::new(),
            levels: BTreeMap::new(),
            calls: Vec::new(),
            open: BTreeMap::new(),
            given: BTreeMap::new(),
            queues: Queues::default(),
            held: BTreeMap::new(),
            rooms: Vec::new(),
            missed: BTreeMap::new(),
            is_stopping: false,
            is_unswept: false,
            many_left: if limit > MANY { 2 } else { 0 },
        }
    }

    /// A connection, gone or not.
    fn who(&self, at: u8) -> Option<Peer> {
        let everybody = self.live.iter().chain(&self.gone);
        let at = usize::from(at).checked_rem(self.live.len() + self.gone.len().min(2))?;
        everybody.skip(at).copied().next()
    }

    fn is_live(&self, peer: Peer) -> bool {
        self.live.contains(&peer)
    }

    fn apply(&mut self, op: &Op<'_>) {
        match *op {
            Op::Connect(identity, framing) if self.live.len() < MAX_PEERS => {
                let peer = self.connect(identity);
                self.detect(peer, framing);
            }
            Op::ConnectQuietly(identity) if self.live.len() < MAX_PEERS => {
                self.connect(identity);
            }
            Op::Connect(..) | Op::ConnectQuietly(_) => {}
            Op::Wait(at) => self.wait(Duration::from_secs(TIMES[usize::from(at) % TIMES.len()])),
            Op::Sweep(budget) => self.sweep(budget.into()),
            Op::Stop => self.stop(),
            Op::Answer { call, by, reply_type, length } => {
                let Some(before) = usize::from(call).checked_rem(self.calls.len()) else {
                    return;
                };
                // Of very many, those that came last.
                let call = &self.calls[self.calls.len() - 1 - before];
                let by = by.and_then(|who| self.who(who)).unwrap_or(call.service);
                let request_id = call.service_id.clone();
                let data = vec![7; length.into()].into();
                let reply_type = reply_type.into();
                let reply = CallReply { request_id, reply_type, data, ..CallReply::default() };
                self.receive(by, reply.into_frame());
            }
            Op::Cancel(call) => {
                let Some(before) = usize::from(call).checked_rem(self.calls.len()) else {
                    return;
                };
                let call = &self.calls[self.calls.len() - 1 - before];
                let (caller, request_id) = (call.caller, call.id.clone());
                self.receive(caller, CancelCall { request_id }.to_frame());
            }
            Op::Peer(who, ref act) => {
                if let Some(peer) = self.who(who) {
                    self.act(peer, act);
                }
            }
        }
    }

    fn act(&mut self, peer: Peer, act: &Act<'_>) {
        match *act {
            Act::Detect(framing) => self.detect(peer, framing),
            Act::Hear => {
                self.router.hear(peer);
                assert!(self.router.done().is_empty());
            }
            Act::HangUp => self.hang_up(peer),
            Act::Say(ref say) => self.receive(peer, say.frame()),
            Act::Call { service, id, length } => {
                let at = usize::from(service).checked_rem(self.services.len()).unwrap_or(0);
                if let Some(address) = self.services.keys().nth(at).cloned() {
                    let request_id = id.to_string();
                    let data = vec![7; length.into()].into();
                    let call = CallRequest { address, request_id, data, ..CallRequest::default() };
                    self.receive(peer, call.into_frame());
                }
            }
            Act::Broadcast { topic, length } => {
                let at = usize::from(topic).checked_rem(self.subscriptions.len()).unwrap_or(0);
                if let Some((_, topic)) = self.subscriptions.keys().nth(at).cloned() {
                    let data = vec![7; length.into()].into();
                    let event = BroadcastRequest { topic, data, ..BroadcastRequest::default() };
                    self.receive(peer, event.into_frame());
                }
            }
            Act::Raw(kind, body) => {
                let kind = MessageKind::ALL[usize::from(kind) % MessageKind::ALL.len()];
                self.receive(peer, Frame::new(kind, Bytes::copy_from_slice(body)));
            }
            Act::SayMany(what) => self.receive_many(peer, what),
            Act::Deafen => self.queues.deafen(peer),
            Act::Take(bytes) => self.queues.take(peer, 4 * usize::from(bytes)),
            Act::TakeAll => self.queues.take_all(peer),
            Act::TakeBack(count) => {
                // Between taking calls back and saying so, the router may do other things.
                self.not_taken();
                self.queues.take_back(peer, count.into());
            }
            Act::GiveUp => self.give_up(peer),
        }
    }

    /// What was done; what is sent is queued. `caller` pays for calls, and a reply is the router's own unless it
    /// `is_reply` of a service.
    fn done(&mut self, caller: Option<Peer>, is_reply: bool) -> Vec<Did> {
        let mut done = Vec::new();
        for (did, charge) in self.router.done() {
            if let Did::Send(to, frame) = &did {
                let payer = match frame.kind {
                    MessageKind::CallRequest => {
                        (caller.expect("nobody has called"), Purpose::Calls)
                    }
                    MessageKind::CallReply if is_reply => (*to, Purpose::Replies),
                    MessageKind::BroadcastRequest => (*to, Purpose::Broadcasts),
                    _ => (*to, Purpose::Answers),
                };
                let charge = charge.expect("somebody pays");
                // It is about to be noted.
                let call = charge.call().map(|_| self.calls.len());
                self.queues.send(*to, payer, frame, call, charge);
            }
            done.push(did);
        }
        done
    }

    fn connect(&mut self, identity: u8) -> Peer {
        let peer = self.router.connect(identity);
        let room = self.router.room(peer).expect("it has just connected");
        assert!(!self.is_live(peer) && !self.gone.contains(&peer), "an id of another connection");
        assert!(self.live.iter().all(|other| other.slot() != peer.slot()));
        self.live.push(peer);
        self.rooms.push((peer, room));
        assert!(self.router.done().is_empty());
        peer
    }

    fn detect(&mut self, peer: Peer, framing: Framing) {
        self.router.detect(peer, framing);
        for did in self.done(None, false) {
            let Did::Send(to, frame) = did else {
                panic!("{did:?} when the framing became known");
            };
            assert!(to == peer && self.is_live(to) && framing == Framing::Packet);
            assert_eq!(frame.kind, MessageKind::Hello);
        }
    }

    fn hang_up(&mut self, peer: Peer) {
        self.router.hang_up(peer);
        let done = self.done(None, false);
        self.check_ignored(peer, &done);
        self.follow(done);
        assert!(!self.is_live(peer));
    }

    /// Time passes, and whoever has waited until now tries again.
    fn wait(&mut self, time: Duration) {
        self.router.wait(time);
        let done = self.done(None, false);
        for held in self.held.keys() {
            assert!(!self.is_closed(*held, &done), "closed for a silence that is not its own");
        }
        self.follow(done);
        let now = self.router.now();
        let is_over = |held: &Held| held.waiting.until.is_some_and(|until| until <= now);
        let over = self.held.iter().filter(|(_, held)| is_over(held));
        for peer in Vec::from_iter(over.map(|(peer, _)| *peer)) {
            self.try_again(peer);
        }
    }

    fn try_again(&mut self, peer: Peer) {
        if let Some(held) = self.held.get(&peer) {
            let frame = held.waiting.frame.clone();
            self.receive(peer, frame);
        }
    }

    fn sweep(&mut self, budget: usize) {
        self.is_unswept &= self.router.sweep(budget);
        let done = self.done(None, false);
        self.follow(done);
    }

    fn stop(&mut self) {
        if !self.is_stopping {
            self.is_stopping = true;
            return self.router.begin_to_stop();
        }
        self.router.end_calls();
        let done = self.done(None, false);
        self.follow(done);
        assert!(self.open.is_empty(), "a call goes on");
    }

    /// Rule LI-4: calls that were taken back end.
    fn not_taken(&mut self) {
        for queued in self.queues.taken_back() {
            self.router.not_taken(queued.to, queued.charge.call(), false);
            let done = self.done(None, false);
            self.follow(done);
            assert!(!queued.call.is_some_and(|call| self.is_open(call)), "it goes on");
        }
    }

    /// Rules LI-4, CO-8: so does one of which the service has a part, and may yet take the rest. It pays for
    /// that itself.
    fn give_up(&mut self, service: Peer) {
        let Some((call, key)) = self.queues.begin_call(service) else {
            return;
        };
        self.router.not_taken(service, key, true);
        let done = self.done(None, false);
        self.follow(done);
        assert!(!call.is_some_and(|call| self.is_open(call)), "it goes on");
        if let Some(room) = self.router.room(service) {
            self.queues.pass_begun(service, &room);
        }
    }

    fn receive_many(&mut self, from: Peer, what: Many) {
        if self.many_left == 0 {
            return;
        }
        self.many_left -= 1;
        for number in 0..MANY {
            let name = format!("a/{number}");
            let (address, request_id) = ("a".to_owned(), number.to_string());
            let frame = match what {
                Many::Calls => {
                    CallRequest { address, request_id, ..CallRequest::default() }.to_frame()
                }
                Many::Services => RegisterRequest { service_id: name }.to_frame(),
                Many::Subscriptions => SubscribeRequest { topic: name }.to_frame(),
            };
            self.receive(from, frame);
            if self.held.contains_key(&from) {
                return;
            }
        }
    }

    fn check_ignored(&self, peer: Peer, done: &[Did]) {
        assert!(self.is_live(peer) || done.is_empty(), "{done:?} for a connection that is gone");
    }

    fn receive(&mut self, from: Peer, frame: Frame) {
        // What has to wait comes before all that came later, which is forgotten here.
        let held = self.held.remove(&from);
        let frame = held.as_ref().map_or(frame, |held| held.waiting.frame.clone());
        let before = held.map(|held| (held.payer, held.call, held.since));
        self.receive_next(from, frame, before);
        let payer = |(payer, ..): (Payer, Option<usize>, Instant)| payer;
        if self.held.get(&from).map(|held| held.payer) != before.map(payer) {
            let waits_first = self.held.get(&from).map(|held| held.payer);
            self.queues.stop_waiting(from);
            if let Some(payer) = waits_first.filter(|payer| payer.1 == Purpose::Replies) {
                self.queues.wait(payer, from, self.others_wait(payer, from));
            }
        }
    }

    /// `before` is where it had to wait before, with what call, and since when.
    fn receive_next(
        &mut self,
        from: Peer,
        frame: Frame,
        before: Option<(Payer, Option<usize>, Instant)>,
    ) {
        let before = before.filter(|(payer, ..)| payer.1 == Purpose::Replies);
        let (kind, body) = (frame.kind, frame.body.clone().into_bytes());
        let message = decoded(kind, &body);
        let said = match &message {
            Some(packet::Packet::Hello(hello)) => hello.level > 0,
            _ => false,
        };
        let has_level = *self.levels.entry(from).or_insert(said);
        let answered = match &message {
            Some(packet::Packet::CallReply(reply)) => self.open_call(from, &reply.request_id),
            _ => None,
        };
        // If that has ended, it is to nobody, though another call may have its id now.
        let answered = answered.filter(|&call| before.is_none_or(|it| it.1 == Some(call)));
        let lacking = self.lacking(from, kind, body.len(), answered);
        let copies = match &message {
            Some(packet::Packet::BroadcastRequest(event)) => self.copies(event, &body),
            _ => BTreeMap::new(),
        };
        let waiting = self.router.receive(from, frame);
        let done = self.done(Some(from), answered.is_some() && lacking.is_none());
        self.check_ignored(from, &done);
        if !self.is_live(from) {
            assert!(waiting.is_none(), "it has nothing to wait for");
            return;
        }
        match (waiting, lacking) {
            (None, None) => {}
            (Some(waiting), Some(payer)) => {
                assert!(done.is_empty(), "{done:?} while it waits");
                let frame = waiting.frame.clone();
                assert_eq!((frame.kind, frame.body.into_bytes()), (kind, body));
                let since = before.map_or(self.router.now(), |(.., since)| since);
                return self.hold(from, Held { waiting, payer, call: answered, since });
            }
            (None, Some(payer)) => {
                assert_eq!(payer.1, Purpose::Replies, "there was no room");
                let call = answered.expect("replies belong to calls");
                return self.stalled(call, payer, done);
            }
            (Some(_), None) => panic!("it waits for nothing"),
        }
        let Some(message) = message else {
            assert!(is_violation(&done, from), "{done:?} after a bad {}", kind.name());
            return self.follow(done);
        };
        match message {
            // Other rules than these may end these connections.
            packet::Packet::Hello(hello) => {
                if !self.is_closed(from, &done) && hello.no_echo {
                    self.no_echo.push(from);
                }
                self.follow(done);
            }
            packet::Packet::RegisterRequest(RegisterRequest { service_id }) => {
                let code = self.reply::<RegisterReply>(from, &done).code;
                let is_free = !self.services.contains_key(&service_id);
                let own = self.services.values().filter(|owner| **owner == from);
                let is_allowed = own.count() < self.router.limit();
                let expected = match (is_service_id(&service_id), is_free) {
                    (true, false) => 409,
                    (true, true) if is_allowed => 0,
                    _ => 400,
                };
                assert_eq!(code, expected, "{service_id:?}");
                if code == 0 {
                    self.services.insert(service_id, from);
                }
            }
            packet::Packet::UnregisterRequest(UnregisterRequest { service_id }) => {
                let code = self.reply::<UnregisterReply>(from, &done).code;
                let is_own = self.services.get(&service_id) == Some(&from);
                assert_eq!(code, if is_own { 0 } else { 404 });
                if is_own {
                    self.services.remove(&service_id);
                }
            }
            packet::Packet::SubscribeRequest(SubscribeRequest { topic }) => {
                let code = self.reply::<SubscribeReply>(from, &done).code;
                let own = self.subscriptions.iter().filter(|((peer, _), _)| *peer == from);
                let held: usize = own.map(|(_, weight)| weight).sum();
                let entry = (from, topic);
                let topic = &entry.1;
                let is_new = !self.subscriptions.contains_key(&entry);
                let is_allowed = held + weight(topic) <= self.router.limit();
                let is_good = is_topic(topic) && is_new && is_allowed;
                assert_eq!(code, if is_good { 0 } else { 400 }, "{topic:?}");
                if is_good {
                    let weight = weight(topic);
                    self.subscriptions.insert(entry, weight);
                }
            }
            packet::Packet::UnsubscribeRequest(UnsubscribeRequest { topic }) => {
                let code = self.reply::<UnsubscribeReply>(from, &done).code;
                let was_there = self.subscriptions.remove(&(from, topic)).is_some();
                assert_eq!(code, if was_there { 0 } else { 404 });
            }
            packet::Packet::CancelCall(_) if !has_level => {
                assert!(is_violation(&done, from), "{done:?} after a CancelCall of level 0");
                self.follow(done);
            }
            packet::Packet::CancelCall(CancelCall { request_id }) => {
                self.cancel(from, &request_id, done);
            }
            packet::Packet::CallRequest(call) => self.call(from, call, &done),
            packet::Packet::CallReply(reply) => self.forwarded_reply(answered, reply, &done),
            packet::Packet::BroadcastRequest(event) => {
                self.broadcast(from, &event, &copies, &done);
            }
            packet::Packet::Ping(_) => drop(self.reply::<Pong>(from, &done)),
            packet::Packet::Pong(_) => assert!(done.is_empty()),
            message => panic!("{message:?} was not refused"),
        }
    }

    /// The first budget in which there is no room for a frame. The answers that may be due come first.
    fn lacking(
        &mut self,
        from: Peer,
        kind: MessageKind,
        length: usize,
        answered: Option<usize>,
    ) -> Option<Payer> {
        let now = self.router.now();
        let caller = answered.map(|call| self.calls[call].caller);
        let budgets = [
            Some(((from, Purpose::Answers), 0)),
            (kind == MessageKind::CallRequest).then_some(((from, Purpose::Calls), cost(length))),
            caller.map(|caller| ((caller, Purpose::Replies), cost(length))),
        ];
        let mut budgets = budgets.into_iter().flatten();
        budgets
            .find(|(payer, bytes)| {
                let others_wait = self.others_wait(*payer, from);
                !self.queues.lets_in(*payer, *bytes, (from, others_wait), now)
            })
            .map(|(payer, _)| payer)
    }

    fn is_turn(&self, payer: Payer, peer: Peer) -> bool {
        self.queues.is_turn(payer, peer, self.others_wait(payer, peer))
    }

    fn others_wait(&self, payer: Payer, sender: Peer) -> bool {
        self.held.iter().any(|(peer, held)| *peer != sender && held.payer == payer)
    }

    fn hold(&mut self, from: Peer, held: Held) {
        let now = self.router.now();
        // Rule LI-5: of those that need much room.
        let latest = held.since + 2 * STALL;
        let is_soon = |until| now < until && until <= latest.min(now + STALL);
        match held.payer.1 {
            Purpose::Replies => {
                assert!(held.waiting.until.is_some_and(is_soon));
                self.queues.wait(held.payer, from, self.others_wait(held.payer, from));
            }
            _ => assert_eq!(held.waiting.until, None),
        }
        self.held.insert(from, held);
    }

    /// Rule LI-5: the call of somebody who does not read ends.
    fn stalled(&mut self, call: usize, payer: Payer, done: Vec<Did>) {
        self.queues.stall(payer, self.router.now());
        match &done[..] {
            [Did::Send(_, frame)] => {
                let reply: CallReply = frame.decode().expect("a reply");
                assert_eq!(reply.reason(), CallReplyReason::ReasonCallerStalled);
            }
            _ => panic!("{done:?} instead of a reply"),
        }
        self.follow(done);
        assert!(!self.is_open(call));
    }

    /// The one thing that was done: a reply.
    fn reply<M: Message>(&self, to: Peer, done: &[Did]) -> M {
        match done {
            [Did::Send(peer, frame)] if *peer == to => frame.decode().expect("a reply"),
            _ => panic!("not one reply but {done:?}"),
        }
    }

    fn is_closed(&self, peer: Peer, done: &[Did]) -> bool {
        done.iter().any(|did| matches!(did, Did::Close(closed, _) if *closed == peer))
    }

    fn is_open(&self, call: usize) -> bool {
        let Call { caller, id, .. } = &self.calls[call];
        self.open.get(&(*caller, id.clone())) == Some(&call)
    }

    /// The call that a service knows by an id, if it is open. Of several it is the last: no other has an id
    /// before the one that had it has ended.
    fn open_call(&self, service: Peer, id: &str) -> Option<usize> {
        let last = *self.given.get(&(service, id.to_owned()))?;
        self.is_open(last).then_some(last)
    }

    fn call(&mut self, from: Peer, call: CallRequest, done: &[Did]) {
        let owner = self.services.iter().filter(|(id, _)| belongs(&call.address, id));
        let owner = owner.max_by_key(|(id, _)| id.len()).map(|(_, owner)| *owner);
        let own = self.open.keys().filter(|(caller, _)| *caller == from);
        let is_good = call.request_id.len() <= 1024
            && own.count() < self.router.limit()
            && !self.open.contains_key(&(from, call.request_id.clone()));
        let is_allowed = !self.is_stopping && (call.no_reply || is_good);
        match (owner.filter(|_| is_allowed), done) {
            (None, []) => assert!(call.no_reply, "no answer"),
            (None, [Did::Send(to, frame)]) => {
                let reply: CallReply = frame.decode().expect("a refusal");
                assert!(*to == from && !call.no_reply);
                assert_eq!(
                    (reply.request_id, reply.code, reply.reply_type),
                    (call.request_id, 400, 0)
                );
                assert!(!reply.data.is_empty(), "a refusal without a sentence");
            }
            (Some(owner), [Did::Send(to, frame)]) => {
                let given: CallRequest = frame.decode().expect("a call");
                assert_eq!(*to, owner);
                let service_id = given.request_id.clone();
                assert!(self.open_call(owner, &service_id).is_none(), "two calls of one id");
                let number = self.calls.len();
                let id = call.request_id.clone();
                if !call.no_reply {
                    self.open.insert((from, id.clone()), number);
                }
                self.given.insert((owner, service_id.clone()), number);
                assert_eq!(given, CallRequest { request_id: service_id.clone(), ..call });
                self.calls.push(Call { caller: from, id, service: owner, service_id });
            }
            (owner, _) => panic!("{done:?} after a call to {owner:?}"),
        }
    }

    /// Rule CA-11: the call ends, if it is open.
    fn cancel(&mut self, from: Peer, id: &str, done: Vec<Did>) {
        if !self.open.contains_key(&(from, id.to_owned())) {
            return assert!(done.is_empty(), "{done:?} for a call that is not open");
        }
        let reply: CallReply = self.reply(from, &done);
        assert_eq!(reply.request_id, id);
        assert_eq!(reply.reason(), CallReplyReason::ReasonCancelled);
        self.follow(done);
        assert!(!self.open.contains_key(&(from, id.to_owned())), "it goes on");
    }

    fn forwarded_reply(&mut self, call: Option<usize>, reply: CallReply, done: &[Did]) {
        match (call, done) {
            (None, []) => {}
            (Some(call), [Did::Send(to, frame)]) => {
                let (caller, id) = (self.calls[call].caller, self.calls[call].id.clone());
                let is_last = reply.reply_type != 1;
                let seen: CallReply = frame.decode().expect("a reply");
                assert_eq!(*to, caller);
                assert_eq!(seen, CallReply { request_id: id.clone(), ..reply });
                if is_last {
                    self.open.remove(&(caller, id));
                }
            }
            (call, _) => panic!("{done:?} after a reply to {call:?}"),
        }
    }

    /// Rules LI-6 and TO-11: what everybody would get of a broadcast, if there is room for it.
    fn copies(&self, event: &BroadcastRequest, body: &Bytes) -> BTreeMap<Peer, Option<Bytes>> {
        // Where it says something, that overrides what was said before.
        let before = [&missed(7)[..], &body[..]].concat();
        let before = BroadcastRequest::decode(&before[..]).expect("it was readable by itself");
        let is_said = event.missed != 0 || before.missed != 7;
        let copy = |peer: &Peer| {
            let count = self.missed.get(peer).copied().unwrap_or(0);
            let copy = match count {
                0 if !is_said => body.clone(),
                _ => [&body[..], &missed(count)[..]].concat().into(),
            };
            let has_room = self.queues.has_room((*peer, Purpose::Broadcasts), cost(copy.len()));
            (*peer, has_room.then_some(copy))
        };
        self.live.iter().map(copy).collect()
    }

    fn broadcast(
        &mut self,
        from: Peer,
        event: &BroadcastRequest,
        copies: &BTreeMap<Peer, Option<Bytes>>,
        done: &[Did],
    ) {
        let mut heard = BTreeMap::new();
        for did in done {
            match did {
                Did::Send(to, frame) if frame.kind == MessageKind::BroadcastRequest => {
                    let copy = frame.body.clone().into_bytes();
                    assert!(heard.insert(*to, copy).is_none(), "twice");
                }
                Did::Send(to, frame) if *to == from => {
                    assert_eq!(frame.kind, MessageKind::BroadcastReply);
                }
                _ => panic!("{did:?} after a broadcast"),
            }
        }
        assert_eq!(done.len(), heard.len() + 1, "not one reply");
        let topic = Topic::new(&event.topic);
        let meets = |other: &str| {
            let other = Topic::new(other).expect("it was subscribed");
            topic.as_ref().is_ok_and(|topic| topics_meet(topic, &other))
        };
        let meeting = self.subscriptions.keys().filter(|(_, topic)| meets(topic));
        let mut meeting: BTreeSet<Peer> = meeting.map(|(peer, _)| *peer).collect();
        meeting.retain(|peer| *peer != from || !self.no_echo.contains(&from));
        let mut expected = BTreeMap::new();
        for peer in meeting {
            match &copies[&peer] {
                Some(copy) => {
                    expected.insert(peer, copy.clone());
                    self.missed.remove(&peer);
                }
                None => *self.missed.entry(peer).or_default() += 1,
            }
        }
        assert_eq!(heard, expected, "{:?} among {:?}", event.topic, self.subscriptions);
    }

    /// Keeps account of what was done: who is gone, and which calls have ended.
    fn follow(&mut self, done: Vec<Did>) {
        for did in done {
            match did {
                Did::Send(to, frame) => {
                    assert!(self.is_live(to), "sent to a connection that is gone");
                    match frame.kind {
                        MessageKind::CallReply => {
                            self.refused(to, &frame.decode().expect("a reply"));
                        }
                        kind => assert_eq!(kind, MessageKind::Ping),
                    }
                }
                Did::Close(peer, _) => {
                    assert!(self.is_live(peer), "closed twice");
                    self.live.retain(|other| *other != peer);
                    self.gone.insert(0, peer);
                    self.services.retain(|_, owner| *owner != peer);
                    self.subscriptions.retain(|(owner, _), _| *owner != peer);
                    self.open.retain(|(caller, _), _| *caller != peer);
                    self.no_echo.retain(|other| *other != peer);
                    self.held.remove(&peer);
                    self.queues.stop_waiting(peer);
                    self.is_unswept = self.router.limit() > MANY;
                }
            }
        }
    }

    /// The router itself ends a call.
    fn refused(&mut self, to: Peer, reply: &CallReply) {
        assert_eq!((reply.code, reply.reply_type), (500, 0));
        assert!(!reply.data.is_empty(), "a refusal without a sentence");
        let was_open = self.open.remove(&(to, reply.request_id.clone())).is_some();
        assert!(was_open, "nobody waits for {reply:?}");
    }

    fn check(&mut self) {
        let usage = self.router.holds();
        let held = [usage.connections, usage.services, usage.subscriptions];
        assert_eq!(held, [self.live.len(), self.services.len(), self.subscriptions.len()]);
        if self.is_unswept {
            assert!(usage.open_calls >= self.open.len());
        } else {
            assert_eq!(usage.open_calls, self.open.len());
            assert!(usage.abandoned_calls <= self.live.len() * self.router.limit());
        }
        // It is not asked about others, who would be told of room for having been asked.
        let (live, queues) = (&self.live, &self.queues);
        self.rooms.retain(|(peer, room)| {
            let is_live = live.contains(peer);
            let is_charged = queues.is_charged(*peer);
            assert!(is_live || is_free(room) != is_charged, "what {peer} pays for");
            is_live || is_charged
        });
        let payers: Vec<_> = self.held.iter().map(|(peer, held)| (*peer, held.payer)).collect();
        for (peer, payer) in payers {
            let is_next = self.queues.used(payer) == 0 && self.is_turn(payer, peer);
            let held = self.held.get_mut(&peer).expect("it is held");
            assert!(!is_next || held.waiting.is_woken(), "it waits for ever");
        }
    }

    /// Everybody reads, says what had to wait, and leaves.
    fn end(mut self) {
        self.not_taken();
        for peer in self.live.iter().chain(&self.gone) {
            self.queues.take_all(*peer);
        }
        self.check();
        while !self.held.is_empty() {
            let is_next = |(peer, held): &(&Peer, &Held)| self.is_turn(held.payer, **peer);
            let next = self.held.iter().find(is_next).map(|(peer, _)| *peer);
            let peer = next.expect("it is somebody's turn");
            self.try_again(peer);
            assert!(!self.held.contains_key(&peer), "there is room");
            self.check();
        }
        while let Some(peer) = self.live.first() {
            self.hang_up(*peer);
            self.check();
        }
        while self.is_unswept {
            self.sweep(300);
        }
        self.check();
        assert!(self.rooms.is_empty() && self.open.is_empty());
        assert_eq!(self.router.holds(), Usage::default());
    }
}

/// What a protobuf decoder finds in a message. Those that are passed on have to be readable inside of a
/// `Packet`, where groups may nest one level less deep (rule SV-6).
fn decoded(kind: MessageKind, body: &Bytes) -> Option<packet::Packet> {
    use packet::Packet::*;
    let message = body.clone();
    Some(match kind {
        MessageKind::Hello => Hello(prost::Message::decode(message).ok()?),
        MessageKind::RegisterRequest => RegisterRequest(prost::Message::decode(message).ok()?),
        MessageKind::UnregisterRequest => UnregisterRequest(prost::Message::decode(message).ok()?),
        MessageKind::SubscribeRequest => SubscribeRequest(prost::Message::decode(message).ok()?),
        MessageKind::UnsubscribeRequest => {
            UnsubscribeRequest(prost::Message::decode(message).ok()?)
        }
        MessageKind::CancelCall => CancelCall(prost::Message::decode(message).ok()?),
        MessageKind::Ping => Ping(prost::Message::decode(message).ok()?),
        MessageKind::Pong => Pong(prost::Message::decode(message).ok()?),
        MessageKind::CallRequest | MessageKind::CallReply | MessageKind::BroadcastRequest => {
            let message = Packet::decode(packed(kind, body)).ok()?.packet?;
            // Rule FR-12.
            (text(kind, body) <= 65_536).then_some(message)?
        }
        // Only a router may send these, whatever is in them.
        MessageKind::RegisterReply
        | MessageKind::UnregisterReply
        | MessageKind::SubscribeReply
        | MessageKind::UnsubscribeReply
        | MessageKind::BroadcastReply => return None,
    })
}

/// How much text there is in a message that decodes.
fn text(kind: MessageKind, body: &Bytes) -> usize {
    let fields: &[u32] = match kind {
        MessageKind::CallRequest => &[1, 2, 3],
        MessageKind::CallReply => &[1],
        _ => &[1, 3],
    };
    let mut rest = body.clone();
    let mut length = 0;
    while !rest.is_empty() {
        let (field, wire_type) = decode_key(&mut rest).expect("it decodes");
        let before = rest.clone();
        skip_field(wire_type, field, &mut rest, DecodeContext::default()).expect("it decodes");
        if fields.contains(&field) {
            length += decode_varint(&mut &before[..]).expect("it decodes") as usize;
        }
    }
    length
}

/// The field of a `BroadcastRequest` that says how many events were missed.
fn missed(count: u64) -> Vec<u8> {
    let mut field = vec![0xa0, 0x06];
    encode_varint(count, &mut field);
    field
}

fn is_violation(done: &[Did], peer: Peer) -> bool {
    done.iter().any(|did| matches!(did, Did::Close(closed, true) if *closed == peer))
}

fuzz_target!(|input: Input<'_>| {
    let mut world = World::new(input.limit);
    for op in input.ops.0.iter().take(200) {
        world.apply(op);
        world.check();
    }
    world.end();
});
