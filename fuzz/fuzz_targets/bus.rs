//! The routing rules, on any sequence of events, with frames of any content, among peers that may not read.
//!
//! What has to follow is told from the traffic alone. A closed connection is sent nothing and does nothing.
//! What does not decode closes its connection, and nothing else does but what is meant to. Each request gets
//! its reply. A call reaches the owner of the longest name, unchanged but for the request id, or is refused;
//! it ends exactly once, with one FULL (rules CA-7, SV-3, SV-5). A broadcast reaches everybody whose
//! subscription meets its topic, once (rule TO-4), unless too many wait for it. What is queued never goes
//! beyond the limit (rule LI-2); a connection that has to wait is woken when its frame is admitted, no connection waits
//! for nothing, and none for a peer that has stalled (LI-3). When all have gone, nothing is held.

#![no_main]

#[path = "bus/ops.rs"]
mod ops;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use gsb_fuzz::frames::packed;
use gsb_fuzz::names::{belongs, is_service_id, is_topic, topics_meet, weight};
use gsb_fuzz::queues::{Payer, Purpose, Queues, cost};
use gsb_fuzz::router::{Did, Peer, Router, Usage};
use gsb_proto::messages::{
    BroadcastReply, BroadcastRequest, CallData, CallReply, CallReplyReason, CallRequest,
    CancelCall, Message, Packet, Pong, RegisterReply, RegisterRequest, StreamCredit,
    SubscribeReply, SubscribeRequest, UnregisterReply, UnregisterRequest, UnsubscribeReply,
    UnsubscribeRequest, packet,
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
    /// The registration that it may count against.
    registration: usize,
    /// It has had its last reply from its service, or never counted.
    has_ended: bool,
}

/// An owner of a name.
struct Owner {
    peer: Peer,
    mode: i32,
    capacity: usize,
    /// The number of its registration.
    registration: usize,
}

/// A connection that is not received from before its frame was.
struct Held {
    frame: Frame,
    /// Where there is no room.
    payer: Payer,
    /// The call that it is a reply to.
    call: Option<usize>,
    /// Whether it is charged as a call.
    is_call: bool,
}

/// The router, and what its traffic tells about it.
struct World {
    router: Router,
    /// In the order in which they came.
    live: Vec<Peer>,
    gone: Vec<Peer>,
    /// Whose they are, in the order of their registrations.
    services: BTreeMap<String, Vec<Owner>>,
    registrations: usize,
    /// For each affinity and two registrations of a name, the one that was chosen although there was the other.
    preferred: BTreeSet<(String, usize, usize)>,
    /// The calls whose requests are streams that have not ended.
    uploads: BTreeSet<usize>,
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
            registrations: 0,
            preferred: BTreeSet::new(),
            uploads: BTreeSet::new(),
            subscriptions: BTreeMap::new(),
            no_echo: Vec::new(),
            levels: BTreeMap::new(),
            calls: Vec::new(),
            open: BTreeMap::new(),
            given: BTreeMap::new(),
            queues: Queues::default(),
            held: BTreeMap::new(),
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

    /// Whether its first frame was a Hello of a level above 0.
    fn has_level(&self, peer: Peer) -> bool {
        self.levels.get(&peer) == Some(&true)
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
            Op::Stream { call, part } => {
                let Some(before) = usize::from(call).checked_rem(self.calls.len()) else {
                    return;
                };
                let call = &self.calls[self.calls.len() - 1 - before];
                let for_caller = (call.caller, call.id.clone());
                let (from, frame) = match part {
                    0..128 => {
                        let ((from, request_id), end) = (for_caller, part.is_multiple_of(8));
                        let data = vec![7; part.into()].into();
                        (from, CallData { request_id, data, end }.into_frame())
                    }
                    _ => {
                        let (for_request, bytes) = (part.is_multiple_of(2), part.into());
                        let for_service = (call.service, call.service_id.clone());
                        let (from, request_id) = if for_request { for_service } else { for_caller };
                        (from, StreamCredit { request_id, bytes, for_request }.to_frame())
                    }
                };
                self.receive(from, frame);
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
                    let more = id >= 224;
                    let call =
                        CallRequest { address, request_id, data, more, ..CallRequest::default() };
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
            Act::Look => self.look(peer),
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
                    MessageKind::CallData => (caller.expect("data of nobody"), Purpose::Calls),
                    MessageKind::StreamCredit => match caller {
                        Some(caller) if !is_reply => (caller, Purpose::Calls),
                        _ => (*to, Purpose::Replies),
                    },
                    MessageKind::CallReply if is_reply => (*to, Purpose::Replies),
                    MessageKind::CancelCall => self.cancelled(*to, frame, &done),
                    MessageKind::BroadcastRequest => (*to, Purpose::Broadcasts),
                    _ => (*to, Purpose::Answers),
                };
                let charge = charge.expect("a connection pays");
                self.queues.send(*to, payer, frame, charge);
                if frame.kind == MessageKind::CancelCall {
                    continue;
                }
            }
            done.push(did);
        }
        done
    }

    /// Rule CA-13: a service is told that no caller waits any more. Returns the account of the message.
    fn cancelled(&self, service: Peer, frame: &Frame, before: &[Did]) -> Payer {
        let CancelCall { request_id } = frame.decode().expect("a cancellation");
        assert!(self.has_level(service), "its level is 0");
        let call = &self.calls[self.given[&(service, request_id)]];
        assert!(!call.has_ended, "it has answered");
        let is_gone = !self.is_live(call.caller) || self.is_closed(call.caller, before);
        match is_gone || self.queues.is_stalled(service) {
            true => (service, Purpose::Answers),
            false => (call.caller, Purpose::Calls),
        }
    }

    fn connect(&mut self, identity: u8) -> Peer {
        let peer = self.router.connect(identity);
        assert!(!self.is_live(peer) && !self.gone.contains(&peer), "an id of another connection");
        assert!(self.live.iter().all(|other| other.slot() != peer.slot()));
        self.live.push(peer);
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

    /// Time passes.
    fn wait(&mut self, time: Duration) {
        self.router.wait(time);
        let done = self.done(None, false);
        for held in self.held.keys() {
            assert!(!self.is_closed(*held, &done), "closed for a silence that is not its own");
        }
        self.follow(done);
    }

    fn try_again(&mut self, peer: Peer) {
        if let Some(held) = self.held.get(&peer) {
            let frame = held.frame.clone();
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
            self.router.begin_to_stop();
            // Rule CO-20.
            let mut told = BTreeSet::new();
            for did in self.done(None, false) {
                match did {
                    Did::Send(to, frame) if frame.kind == MessageKind::GoAway => {
                        assert!(told.insert(to), "told twice");
                    }
                    did => panic!("{did:?} when it began to stop"),
                }
            }
            // Some have said Hello, and it waits.
            let has_said = |peer: &Peer| !self.held.contains_key(peer) || told.contains(peer);
            let levels = self.live.iter().copied().filter(|peer| self.has_level(*peer));
            assert_eq!(told, levels.filter(has_said).collect());
            return;
        }
        self.router.end_calls();
        let done = self.done(None, false);
        self.follow(done);
        assert!(self.open.is_empty(), "a call goes on");
    }

    /// Rules LI-3, LI-4: the router looks at a peer, which stalls or is closed if it takes too little.
    fn look(&mut self, peer: Peer) {
        let own = self.queues.queued.iter().filter(|queued| queued.to == peer);
        let callers = own.filter_map(|queued| queued.charge.paused_caller()).collect();
        let progress = self.queues.progress(peer);
        let has_stalled = self.router.look(peer, progress, &callers);
        if has_stalled {
            let own = self.queues.queued.iter_mut().filter(|queued| queued.to == peer);
            let calls = own.filter_map(|queued| queued.charge.stall());
            for call in calls.collect::<Vec<_>>() {
                self.router.end_stalled_call(peer, call);
            }
        }
        self.queues.look(peer, has_stalled);
        let done = self.done(None, false);
        self.follow(done);
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
                Many::Services => {
                    RegisterRequest { service_id: name, ..RegisterRequest::default() }.to_frame()
                }
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
        let frame = held.as_ref().map_or(frame, |held| held.frame.clone());
        self.receive_next(from, frame, held.map(|held| (held.payer, held.call)));
        let payer = self.held.get(&from).map(|held| held.payer);
        self.queues.wait(from, payer);
    }

    /// `before` is where it had to wait before, and with what call.
    fn receive_next(&mut self, from: Peer, frame: Frame, before: Option<(Payer, Option<usize>)>) {
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
            Some(packet::Packet::StreamCredit(credit)) if has_level && credit.for_request => {
                let call = self.open_call(from, &credit.request_id);
                call.filter(|call| self.has_level(self.calls[*call].caller))
            }
            _ => None,
        };
        let is_call = match &message {
            Some(packet::Packet::StreamCredit(credit)) => has_level && !credit.for_request,
            _ => kind == MessageKind::CallRequest || kind == MessageKind::CallData && has_level,
        };
        // If that has ended, it is to nobody, though another call may have its id now.
        let answered = answered.filter(|&call| before.is_none_or(|it| it.1 == Some(call)));
        let lacking = self.lacking(from, is_call, body.len(), answered, false);
        let copies = match &message {
            Some(packet::Packet::BroadcastRequest(event)) => self.copies(event, &body),
            _ => BTreeMap::new(),
        };
        let waiting = self.router.receive(from, frame);
        let is_stalled =
            answered.is_some_and(|call| self.queues.is_stalled(self.calls[call].caller));
        let done = self.done(Some(from), answered.is_some() && !is_stalled);
        self.check_ignored(from, &done);
        if !self.is_live(from) {
            assert!(waiting.is_none(), "it has nothing to wait for");
            return;
        }
        match (waiting, lacking) {
            (None, None) => {
                let caller = answered.map(|call| self.calls[call].caller);
                if let (Some(call), Some(caller)) = (answered, caller)
                    && self.queues.is_stalled(caller)
                {
                    return self.stalled(call, done);
                }
            }
            (Some(frame), Some(payer)) => {
                assert!(done.is_empty(), "{done:?} while it waits");
                let left = frame.body.clone().into_bytes();
                assert_eq!((frame.kind, left), (kind, body));
                self.held.insert(from, Held { frame, payer, call: answered, is_call });
                return;
            }
            (None, Some(_)) => panic!("there was no room"),
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
            packet::Packet::RegisterRequest(request) => self.register(from, request, &done),
            packet::Packet::UnregisterRequest(UnregisterRequest { service_id }) => {
                let code = self.reply::<UnregisterReply>(from, &done).code;
                let owners = self.services.entry(service_id).or_default();
                let own = owners.iter().position(|owner| owner.peer == from);
                assert_eq!(code, if own.is_some() { 0 } else { 404 });
                own.map(|own| owners.remove(own));
                self.services.retain(|_, owners| !owners.is_empty());
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
            packet::Packet::CancelCall(_)
            | packet::Packet::StreamCredit(_)
            | packet::Packet::CallData(_)
                if !has_level =>
            {
                assert!(is_violation(&done, from), "{done:?} after a {} of level 0", kind.name());
                self.follow(done);
            }
            packet::Packet::StreamCredit(credit) => self.credit(from, answered, credit, done),
            packet::Packet::CallData(data) => self.data(from, data, done),
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
        &self,
        from: Peer,
        is_call: bool,
        length: usize,
        answered: Option<usize>,
        has_waited: bool,
    ) -> Option<Payer> {
        let caller = answered.map(|call| self.calls[call].caller);
        let budgets = [
            Some(((from, Purpose::Answers), cost(0))),
            is_call.then_some(((from, Purpose::Calls), cost(length))),
            caller.map(|caller| ((caller, Purpose::Replies), cost(length))),
        ];
        let mut budgets = budgets.into_iter().flatten();
        budgets
            .find(|(payer, bytes)| !self.queues.admits(*payer, *bytes, from, has_waited))
            .map(|(payer, _)| payer)
    }

    /// Rule LI-3: the call of a caller that does not read ends.
    fn stalled(&mut self, call: usize, done: Vec<Did>) {
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

    /// Rules SV-1, SV-2, SV-10 and LI-1.
    fn register(&mut self, from: Peer, request: RegisterRequest, done: &[Did]) {
        let RegisterRequest { service_id, mode, capacity } = request;
        let code = self.reply::<RegisterReply>(from, done).code;
        let excludes = |owner: &Owner| owner.peer == from || owner.mode != mode || mode == 0;
        let is_taken = self.services.get(&service_id);
        let is_taken = is_taken.is_some_and(|owners| owners.iter().any(excludes));
        let own = self.services.values().flatten().filter(|owner| owner.peer == from);
        let is_allowed = own.count() < self.router.limit();
        let expected = match is_service_id(&service_id) && (0..3).contains(&mode) {
            true if is_taken => 409,
            true if is_allowed => 0,
            _ => 400,
        };
        assert_eq!(code, expected, "{service_id:?}");
        if code == 0 {
            self.registrations += 1;
            let (registration, capacity) = (self.registrations, capacity as usize);
            let owner = Owner { peer: from, mode, capacity, registration };
            self.services.entry(service_id).or_default().push(owner);
        }
    }

    /// How many calls count against a registration at least, and at most: the ends of calls without callers are not
    /// followed.
    fn load(&self, registration: usize) -> (usize, usize) {
        let is_its = |call: &&Call| call.registration == registration;
        let least = self.open.values().map(|call| &self.calls[*call]).filter(is_its);
        let most = self.calls.iter().filter(is_its).filter(|call| !call.has_ended);
        (least.count(), most.count())
    }

    /// Rule CO-17: whether a call is refused because the router stops; `None` if that is not known.
    fn is_refused(&self, from: Peer, address: &str) -> Option<bool> {
        let is_serving = self.open.values().any(|call| self.calls[*call].service == from);
        match self.is_stopping && !belongs(address, "/gsb") && !is_serving {
            // The callers that it serves may be gone and not cleared away.
            true if self.is_unswept => None,
            is_refused => Some(is_refused),
        }
    }

    /// Rules SV-10, SV-11 and LI-3: whether a call may go to an owner, or to none of them for a reason.
    fn check_choice(
        &mut self,
        call: &CallRequest,
        name: &str,
        to: Result<Peer, CallReplyReason>,
    ) -> usize {
        let owners = &self.services[name];
        let mut candidates: Vec<&Owner> = owners.iter().collect();
        if owners[0].mode != 1 {
            candidates.truncate(1);
        } else if call.more && call.affinity.is_empty() {
            candidates.retain(|owner| self.has_level(owner.peer));
            if candidates.is_empty() {
                candidates.extend(owners);
            }
        }
        let is_stalled = |owner: &&Owner| self.queues.is_stalled(owner.peer);
        // Whether it must be full, and whether it may be.
        let is_full = |owner: &&Owner| {
            let (least, most) = self.load(owner.registration);
            let counts = !call.no_reply && owner.capacity != 0;
            (counts && least >= owner.capacity, counts && most >= owner.capacity)
        };
        let has_affinity = candidates.len() > 1 && !call.affinity.is_empty();
        match to {
            Ok(to) => {
                let chosen = candidates.iter().find(|owner| owner.peer == to);
                let chosen = chosen.expect("another than the owners got a call");
                assert!(!is_stalled(chosen) && !is_full(chosen).0);
                assert!(!call.more || self.has_level(to), "it does not support streams");
                let registration = chosen.registration;
                if has_affinity {
                    let others = candidates.iter().map(|owner| owner.registration);
                    for other in others.filter(|other| *other != registration) {
                        let is_new = (call.affinity.clone(), other, registration);
                        assert!(!self.preferred.contains(&is_new), "{:?} moves", call.affinity);
                        self.preferred.insert((call.affinity.clone(), registration, other));
                    }
                }
                return registration;
            }
            Err(CallReplyReason::ReasonUnsupported) => {
                let is_old = |owner: &&Owner| !self.has_level(owner.peer);
                assert!(call.more && candidates.iter().any(is_old));
            }
            Err(CallReplyReason::ReasonBusy) if has_affinity => {
                assert!(candidates.iter().any(|owner| is_full(owner).1));
            }
            Err(CallReplyReason::ReasonBusy) => {
                let mut ready = candidates.iter().filter(|owner| !is_stalled(owner)).peekable();
                assert!(ready.peek().is_some());
                assert!(ready.all(|owner| is_full(owner).1));
            }
            Err(_) if has_affinity => assert!(candidates.iter().any(is_stalled)),
            Err(_) => assert!(candidates.iter().all(is_stalled)),
        }
        0
    }

    fn call(&mut self, from: Peer, call: CallRequest, done: &[Did]) {
        let name = self.services.keys().filter(|id| belongs(&call.address, id));
        let name = name.max_by_key(|id| id.len()).cloned();
        let own = self.open.keys().filter(|(caller, _)| *caller == from);
        let is_good = call.request_id.len() <= 1024
            && own.count() < self.router.limit()
            && !self.open.contains_key(&(from, call.request_id.clone()));
        let is_refused = self.is_refused(from, &call.address);
        let is_stream = call.more || call.reply_credit != 0;
        // Rule CA-15: the data behind a refused call is not that of another call with its id.
        let is_forwarded =
            matches!(done, [Did::Send(_, frame)] if frame.kind == MessageKind::CallRequest);
        if call.more
            && !is_forwarded
            && let Some(open) = self.open.get(&(from, call.request_id.clone()))
        {
            self.uploads.remove(open);
        }
        // That comes before what both ends support.
        let is_choice = |reason| {
            use CallReplyReason::{ReasonBusy, ReasonServiceStalled};
            reason == ReasonBusy || reason == ReasonServiceStalled
        };
        match (name, done) {
            (name, []) => {
                assert!(call.no_reply, "no answer");
                if let Some(name) = name.filter(|_| is_refused == Some(false) && !call.more) {
                    self.check_choice(&call, &name, Err(CallReplyReason::ReasonServiceStalled));
                }
            }
            (name, [Did::Send(to, frame)]) if frame.kind == MessageKind::CallReply => {
                let reply: CallReply = frame.decode().expect("a refusal");
                assert!(*to == from && !call.no_reply);
                assert_eq!((&reply.request_id, reply.reply_type), (&call.request_id, 0));
                assert!(!reply.data.is_empty(), "a refusal without a sentence");
                let reason = reply.reason();
                let is_stalled = reason == CallReplyReason::ReasonServiceStalled;
                assert_eq!(reply.code, if is_stalled { 500 } else { 400 });
                match reason {
                    CallReplyReason::ReasonRouterStops => assert_ne!(is_refused, Some(false)),
                    // The length of its id is checked first.
                    _ => assert!(is_refused != Some(true) || call.request_id.len() > 1024),
                }
                match name {
                    _ if !is_good || reason == CallReplyReason::ReasonRouterStops => {}
                    None => assert_eq!(reason, CallReplyReason::ReasonNoSuchService),
                    _ if is_stream && !self.has_level(from) && !is_choice(reason) => {
                        assert_eq!(reason, CallReplyReason::ReasonUnsupported);
                    }
                    Some(name) => drop(self.check_choice(&call, &name, Err(reason))),
                }
            }
            (Some(name), [Did::Send(to, frame)]) => {
                assert!(is_refused != Some(true) && (call.no_reply || is_good));
                assert!(call.no_reply || !is_stream || self.has_level(from));
                let registration = self.check_choice(&call, &name, Ok(*to));
                let given: CallRequest = frame.decode().expect("a call");
                let service = *to;
                let service_id = given.request_id.clone();
                assert!(self.open_call(service, &service_id).is_none(), "two calls of one id");
                let number = self.calls.len();
                let id = call.request_id.clone();
                if !call.no_reply {
                    self.open.insert((from, id.clone()), number);
                    self.uploads.extend(call.more.then_some(number));
                }
                self.given.insert((service, service_id.clone()), number);
                let has_ended = call.no_reply;
                assert_eq!(given, CallRequest { request_id: service_id.clone(), ..call });
                let call = Call { caller: from, id, service, service_id, registration, has_ended };
                self.calls.push(call);
            }
            (name, _) => panic!("{done:?} after a call to {name:?}"),
        }
    }

    /// Rule CA-15: data goes to the service of an open call whose request is a stream.
    fn data(&mut self, from: Peer, data: CallData, done: Vec<Did>) {
        let call = self.open.get(&(from, data.request_id.clone())).copied();
        let call = call.filter(|call| self.uploads.contains(call));
        if data.end {
            call.map(|call| self.uploads.remove(&call));
        }
        self.to_service(call, done, |service_id, frame| {
            let passed: CallData = frame.decode().expect("data");
            assert_eq!(passed, CallData { request_id: service_id, ..data });
        });
    }

    /// Rule CA-14: credit goes to the other end of an open call.
    fn credit(
        &mut self,
        from: Peer,
        answered: Option<usize>,
        credit: StreamCredit,
        done: Vec<Did>,
    ) {
        let check = |request_id: String, frame: &Frame| {
            let passed: StreamCredit = frame.decode().expect("credit");
            assert_eq!(passed, StreamCredit { request_id, ..credit.clone() });
        };
        if !credit.for_request {
            let call = self.open.get(&(from, credit.request_id.clone())).copied();
            let call = call.filter(|call| self.has_level(self.calls[*call].service));
            return self.to_service(call, done, check);
        }
        match (answered.map(|call| &self.calls[call]), &done[..]) {
            (None, []) => {}
            (Some(call), [Did::Send(to, frame)]) => {
                assert_eq!(*to, call.caller);
                check(call.id.clone(), frame);
            }
            _ => panic!("{done:?} after credit of a service"),
        }
    }

    /// Part of a stream goes to the service of a call. If that has stalled, the call ends.
    fn to_service(
        &mut self,
        call: Option<usize>,
        done: Vec<Did>,
        check: impl FnOnce(String, &Frame),
    ) {
        let Some(call) = call else {
            return assert!(done.is_empty(), "{done:?} for no stream");
        };
        let (service, service_id) = (self.calls[call].service, self.calls[call].service_id.clone());
        match &done[..] {
            [] => assert!(self.is_unswept && !self.is_live(service), "it is lost"),
            [Did::Send(_, frame)] if self.queues.is_stalled(service) => {
                let reply: CallReply = frame.decode().expect("a reply");
                assert_eq!(reply.reason(), CallReplyReason::ReasonServiceStalled);
                self.follow(done);
                assert!(!self.is_open(call));
            }
            [Did::Send(to, frame)] => {
                assert_eq!(*to, service);
                check(service_id, frame);
            }
            _ => panic!("{done:?} after a part of a stream"),
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
                    self.calls[call].has_ended = true;
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
            let has_room = !self.queues.is_stalled(*peer)
                && self.queues.has_room((*peer, Purpose::Broadcasts), cost(copy.len()));
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
        let mut receivers = None;
        for did in done {
            match did {
                Did::Send(to, frame) if frame.kind == MessageKind::BroadcastRequest => {
                    let copy = frame.body.clone().into_bytes();
                    assert!(heard.insert(*to, copy).is_none(), "twice");
                }
                Did::Send(to, frame) if *to == from => {
                    let reply: BroadcastReply = frame.decode().expect("a reply");
                    receivers = reply.receivers;
                }
                _ => panic!("{did:?} after a broadcast"),
            }
        }
        assert_eq!(done.len(), heard.len() + 1, "not one reply");
        assert_eq!(receivers, Some(heard.len() as u32));
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
                        MessageKind::GoAway => assert!(self.is_stopping),
                        kind => assert_eq!(kind, MessageKind::Ping),
                    }
                }
                Did::Close(peer, _) => {
                    assert!(self.is_live(peer), "closed twice");
                    self.live.retain(|other| *other != peer);
                    self.gone.insert(0, peer);
                    self.services.retain(|_, owners| {
                        owners.retain(|owner| owner.peer != peer);
                        !owners.is_empty()
                    });
                    self.subscriptions.retain(|(owner, _), _| *owner != peer);
                    self.open.retain(|(caller, _), _| *caller != peer);
                    self.no_echo.retain(|other| *other != peer);
                    self.held.remove(&peer);
                    self.queues.wait(peer, None);
                    self.queues.take_all(peer);
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
        let services = self.services.values().flatten().count();
        assert_eq!(held, [self.live.len(), services, self.subscriptions.len()]);
        if self.is_unswept {
            assert!(usage.open_calls >= self.open.len());
        } else {
            assert_eq!(usage.open_calls, self.open.len());
            assert!(usage.orphaned_calls <= self.live.len() * self.router.limit());
        }
        // A connection that was woken tries again; no other may go on.
        while let Some(peer) = self.held.keys().copied().find(|peer| self.router.is_woken(*peer)) {
            self.try_again(peer);
        }
        for (peer, Held { frame, payer, call, is_call }) in &self.held {
            let body = frame.body.len();
            let call = call.filter(|call| self.is_open(*call));
            let lacking = self.lacking(*peer, *is_call, body, call, true);
            assert!(lacking.is_some(), "it waits for {payer:?} for ever");
        }
    }

    /// Everybody reads, says what had to wait, and leaves.
    fn end(mut self) {
        for peer in self.live.clone() {
            self.queues.take_all(peer);
            self.look(peer);
        }
        self.check();
        assert!(self.held.is_empty(), "some wait for ever");
        while let Some(peer) = self.live.first() {
            self.hang_up(*peer);
            self.check();
        }
        while self.is_unswept {
            self.sweep(300);
        }
        self.check();
        assert!(self.open.is_empty());
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
        MessageKind::StreamCredit => StreamCredit(prost::Message::decode(message).ok()?),
        MessageKind::CallRequest
        | MessageKind::CallReply
        | MessageKind::CallData
        | MessageKind::BroadcastRequest => {
            let message = Packet::decode(packed(kind, body)).ok()?.packet?;
            // Rule FR-12.
            (text(kind, body) <= 65_536).then_some(message)?
        }
        // Only a router may send these, whatever is in them.
        MessageKind::RegisterReply
        | MessageKind::UnregisterReply
        | MessageKind::SubscribeReply
        | MessageKind::UnsubscribeReply
        | MessageKind::BroadcastReply
        | MessageKind::GoAway
        | MessageKind::NameLost => return None,
    })
}

/// How much text there is in a message that decodes.
fn text(kind: MessageKind, body: &Bytes) -> usize {
    let fields: &[u32] = match kind {
        MessageKind::CallRequest => &[1, 2, 3, 105],
        MessageKind::CallReply | MessageKind::CallData => &[1],
        _ => &[1, 3],
    };
    length_of(fields, body, |header| length_of(&[1, 2], header, |_| 0))
}

/// The bytes of some fields of a message that decodes, and what `of_header` tells of its headers.
fn length_of(fields: &[u32], message: &[u8], of_header: impl Fn(&[u8]) -> usize) -> usize {
    let mut rest = message;
    let mut length = 0;
    while !rest.is_empty() {
        let (field, wire_type) = decode_key(&mut rest).expect("it decodes");
        let mut value = rest;
        skip_field(wire_type, field, &mut rest, DecodeContext::default()).expect("it decodes");
        if fields.contains(&field) {
            length += decode_varint(&mut value).expect("it decodes") as usize;
        } else if field == 102 {
            let bytes = decode_varint(&mut value).expect("it decodes") as usize;
            length += of_header(&value[..bytes]);
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
