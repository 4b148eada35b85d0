//! The oracle: a slow and simple model of a broker, which says what each event should cause.
//!
//! It shares only the messages with the code that it checks.

use std::collections::BTreeSet;

use bytes::Bytes;
use gsb_core::{ConnId, Identity, Usage};
use gsb_proto::messages::*;
use gsb_proto::{Frame, Framing, MessageKind};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::owners::{Choice, Owners};
use crate::common::*;
use crate::names::{is_name, topics_meet};

/// The limit of services, of subscriptions and of open calls. It is small, so that it is reached often.
pub(super) const LIMIT: usize = 3;
pub(super) const PARTIAL: i32 = CallReplyType::Partial as i32;

#[derive(Debug, Clone)]
pub(super) enum Say {
    /// The instance id, whether the peer wants no echo, and its level.
    Hello(&'static [u8], bool, u32),
    /// In a mode, with a capacity.
    Register(&'static str, i32, u32),
    Unregister(&'static str),
    Subscribe(&'static str),
    Unsubscribe(&'static str),
    Broadcast(&'static str),
    /// To an address, with a request id.
    Call(&'static str, &'static str, Steering),
    Push(&'static str, &'static str, Steering),
    Reply(String, i32),
    Cancel(String),
    /// More data of a request; whether it is the last.
    Data(String, bool),
    /// Credit; whether it is for the request.
    Credit(String, bool),
    Ping,
    Pong,
    Bad(MessageKind, &'static [u8], &'static str),
}

/// How the caller steers a call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Steering {
    pub(super) affinity: &'static str,
    /// For how many halves it waits; 0 is for ever.
    pub(super) halves: u32,
    /// Whether its request is a stream.
    pub(super) more: bool,
    /// Whether its replies need credit.
    pub(super) credit: bool,
}

impl Steering {
    fn of(self, call: CallRequest) -> CallRequest {
        let Steering { affinity, halves, more, credit } = self;
        CallRequest {
            affinity: affinity.into(),
            timeout_ms: halves * 30_000,
            more,
            reply_credit: u64::from(credit),
            ..call
        }
    }
}

/// An event. The number makes the data of each message different.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Connected(ConnId, Identity),
    Detected(ConnId, Framing),
    Bytes(ConnId),
    HungUp(ConnId),
    Waited(u32),
    Said(ConnId, Say, u32),
}

impl Say {
    pub(super) fn to_frame(&self, number: u32) -> Frame {
        match self {
            Say::Hello(instance_id, no_echo, level) => {
                let (instance_id, no_echo) = ((*instance_id).into(), *no_echo);
                Hello { instance_id, no_echo, level: *level, ..Hello::default() }.to_frame()
            }
            Say::Register(name, mode, capacity) => {
                let (service_id, mode, capacity) = ((*name).into(), *mode, *capacity);
                RegisterRequest { service_id, mode, capacity }.to_frame()
            }
            Say::Unregister(name) => UnregisterRequest { service_id: (*name).into() }.to_frame(),
            Say::Subscribe(topic) => SubscribeRequest { topic: (*topic).into() }.to_frame(),
            Say::Unsubscribe(topic) => UnsubscribeRequest { topic: (*topic).into() }.to_frame(),
            Say::Broadcast(topic) => event(topic, number).to_frame(),
            Say::Call(address, id, steering) => {
                steering.of(request(call(address, id), number)).to_frame()
            }
            Say::Push(address, id, steering) => {
                steering.of(request(push(address, id), number)).to_frame()
            }
            Say::Reply(id, reply_type) => reply(id, *reply_type, number).to_frame(),
            Say::Cancel(id) => cancel(id).to_frame(),
            Say::Data(id, end) => more(id, *end, number).to_frame(),
            Say::Credit(id, for_request) => credit(id, number.into(), *for_request).to_frame(),
            Say::Ping => Ping {}.to_frame(),
            Say::Pong => Pong {}.to_frame(),
            Say::Bad(kind, body, _) => Frame::new(*kind, Bytes::from_static(body)),
        }
    }
}

fn data(number: u32) -> Bytes {
    number.to_be_bytes().to_vec().into()
}

fn request(call: CallRequest, number: u32) -> CallRequest {
    CallRequest { data: data(number), ..call }
}

fn reply(request_id: &str, reply_type: i32, number: u32) -> CallReply {
    CallReply { reply_type, code: 777, data: data(number), ..full(request_id, "") }
}

fn more(request_id: &str, end: bool, number: u32) -> CallData {
    CallData { request_id: request_id.into(), data: data(number), end }
}

fn event(topic: &str, number: u32) -> BroadcastRequest {
    BroadcastRequest { data: data(number), ..broadcast(topic) }
}

/// A reply of the router itself, without its sentence.
fn refusal(request_id: &str, code: i32, reason: CallReplyReason) -> Seen {
    Seen::Reply(CallReply { code, reason: reason.into(), ..full(request_id, "") })
}

pub(super) struct Peer {
    pub(super) id: ConnId,
    identity: Identity,
    pub(super) framing: Option<Framing>,
    hello: bool,
    instance: &'static [u8],
    no_echo: bool,
    /// `None` before its first frame.
    level: Option<u32>,
    heard: u32,
    pinged: bool,
}

impl Peer {
    /// When its silence causes a Ping or a close.
    pub(super) fn due(&self) -> u32 {
        let is_pinged_first = self.framing.is_some() && !self.pinged;
        self.heard + if is_pinged_first { 2 } else { 4 }
    }
}

pub(super) struct Call {
    /// `None` once it is gone.
    pub(super) caller: Option<ConnId>,
    pub(super) caller_id: String,
    pub(super) service: ConnId,
    pub(super) service_id: String,
    /// The registration that it counts against.
    registration: u64,
    due: Option<u32>,
    /// Whether more data of its request may follow.
    more: bool,
}

impl Call {
    /// When its deadline passes, if its caller waits for it.
    pub(super) fn due(&self) -> Option<u32> {
        self.due.filter(|_| self.caller.is_some())
    }

    /// Whether it is open, and was made by this connection under this id.
    pub(super) fn is_of(&self, caller: ConnId, id: &str) -> bool {
        self.caller == Some(caller) && self.caller_id == id
    }
}

/// The expected state. Lists are in the order of creation.
#[derive(Default)]
pub(super) struct Oracle {
    now: u32,
    pub(super) peers: Vec<Peer>,
    owners: Owners,
    subscriptions: Vec<(ConnId, &'static str)>,
    pub(super) calls: Vec<Call>,
    /// Services with an evicted orphaned call.
    pub(super) forgetful: BTreeSet<ConnId>,
    /// The messages that the current event should send, with their receivers.
    pub(super) sent: Vec<(ConnId, Seen)>,
    /// Every request id that a service was ever given.
    pub(super) given: Vec<(ConnId, String)>,
    /// Every call that has had its last reply from its service.
    ended: BTreeSet<(ConnId, String)>,
    /// Rare rules that were applied.
    reached: BTreeSet<&'static str>,
}

impl Oracle {
    /// `seen` is what the broker did. It decides what the rules leave open: generated request ids, and the order in
    /// which silent connections are handled.
    pub(super) fn follow(&mut self, event: &Event, seen: &[(ConnId, Seen)]) -> TestCaseResult {
        match *event {
            Event::Connected(id, ref identity) => self.peers.push(Peer {
                id,
                identity: identity.clone(),
                framing: None,
                hello: false,
                instance: b"",
                no_echo: false,
                level: None,
                heard: self.now,
                pinged: false,
            }),
            Event::Waited(halves) => self.wait(halves, seen)?,
            Event::Detected(id, _) | Event::Bytes(id) | Event::HungUp(id) | Event::Said(id, ..)
                if self.peer(id).is_none() => {}
            Event::HungUp(id) => self.close(id, "hung up"),
            Event::Bytes(id) => self.hear(id),
            Event::Detected(id, framing) => {
                self.hear(id);
                self.peer(id).unwrap().framing = Some(framing);
                if framing == Framing::Packet {
                    self.tell(id, Seen::Hello(router_hello()));
                }
            }
            Event::Said(id, ref say, number) => {
                self.hear(id);
                self.said(id, say, number, seen)?;
            }
        }
        Ok(())
    }

    pub(super) fn peer(&mut self, id: ConnId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.id == id)
    }

    fn hear(&mut self, id: ConnId) {
        let now = self.now;
        let peer = self.peer(id).unwrap();
        (peer.heard, peer.pinged) = (now, false);
    }

    fn tell(&mut self, to: ConnId, seen: Seen) {
        self.sent.push((to, seen));
    }

    fn wait(&mut self, halves: u32, seen: &[(ConnId, Seen)]) -> TestCaseResult {
        self.now += halves;
        self.expire();
        let due = |peer: &Peer| match self.now - peer.heard {
            4.. => Some((peer.id, Seen::Closed("silent"))),
            2.. if peer.due() <= self.now => Some((peer.id, Seen::Ping)),
            _ => None,
        };
        let mut due: Vec<_> = self.peers.iter().filter_map(due).collect();
        let is_due = |seen: &Seen| matches!(seen, Seen::Ping | Seen::Closed("silent"));
        let done: Vec<_> = seen.iter().filter(|(_, s)| is_due(s)).cloned().collect();
        let mut sorted = done.clone();
        due.sort_by_key(|(id, _)| *id);
        sorted.sort_by_key(|(id, _)| *id);
        prop_assert_eq!(sorted, due, "silence (left: the broker)");
        for (id, seen) in done {
            if seen == Seen::Ping {
                self.peer(id).unwrap().pinged = true;
                self.tell(id, seen);
            } else {
                self.close(id, "silent");
            }
        }
        Ok(())
    }

    /// Rule CA-12.
    fn expire(&mut self) {
        let now = self.now;
        let due = |call: &Call| Some((call.due().filter(|due| *due <= now)?, call.caller?));
        let mut expired: Vec<_> = (self.calls.iter())
            .filter_map(|call| Some((due(call)?, call.caller_id.clone())))
            .collect();
        expired.sort_by_key(|((due, _), _)| *due);
        for ((_, caller), id) in expired {
            let at = self.calls.iter().position(|call| call.is_of(caller, &id)).unwrap();
            self.abandon(at);
            self.tell(caller, refusal(&id, 500, CallReplyReason::ReasonDeadlineExceeded));
            self.forget_abandoned(self.calls[at].service);
        }
    }

    /// Rule CA-13: the caller of a call waits no more.
    fn abandon(&mut self, at: usize) {
        let call = &mut self.calls[at];
        call.caller = None;
        let (service, id) = (call.service, call.service_id.clone());
        let is_renamed = call.caller_id != id;
        if self.peer(service).is_some_and(|service| service.level > Some(0)) {
            self.reached.insert("cancelled at the service");
            if is_renamed {
                self.reached.insert("cancelled at the service under made-up id");
            }
            self.tell(service, Seen::Cancel(id));
        }
    }

    fn close(&mut self, id: ConnId, reason: &'static str) {
        self.peers.retain(|peer| peer.id != id);
        for at in 0..self.calls.len() {
            if self.calls[at].caller == Some(id) {
                self.abandon(at);
            }
        }
        self.owners.close(id);
        self.subscriptions.retain(|(owner, _)| *owner != id);
        let (served, kept) =
            std::mem::take(&mut self.calls).into_iter().partition(|call| call.service == id);
        self.calls = kept;
        for call in Vec::into_iter(served) {
            if let Some(caller) = call.caller.filter(|caller| *caller != id) {
                let gone = CallReplyReason::ReasonServiceGone;
                self.tell(caller, refusal(&call.caller_id, 500, gone));
            }
        }
        for at in 0..self.peers.len() {
            self.forget_abandoned(self.peers[at].id);
        }
        self.tell(id, Seen::Closed(reason));
    }

    fn forget_abandoned(&mut self, service: ConnId) {
        let is_abandoned = |call: &Call| call.service == service && call.caller.is_none();
        while self.calls.iter().filter(|call| is_abandoned(call)).count() > LIMIT {
            let oldest = self.calls.iter().position(is_abandoned).unwrap();
            self.calls.remove(oldest);
            self.forgetful.insert(service);
            self.reached.insert("orphaned call forgotten");
        }
    }

    fn said(
        &mut self,
        from: ConnId,
        say: &Say,
        number: u32,
        seen: &[(ConnId, Seen)],
    ) -> TestCaseResult {
        if !matches!(say, Say::Hello(..) | Say::Bad(MessageKind::Hello, ..)) {
            self.peer(from).unwrap().level.get_or_insert(0);
        }
        match *say {
            Say::Pong => {}
            Say::Ping => self.tell(from, Seen::Pong),
            Say::Hello(instance, no_echo, level) => {
                self.peer(from).unwrap().level.get_or_insert(level);
                self.hello(from, instance, no_echo);
            }
            Say::Cancel(_) | Say::Data(..) | Say::Credit(..)
                if self.peer(from).unwrap().level == Some(0) =>
            {
                self.close(from, "level too low");
            }
            Say::Cancel(ref id) => self.cancel(from, id),
            Say::Data(ref id, end) => self.data(from, more(id, end, number)),
            Say::Credit(ref id, for_request) => {
                self.credit(from, credit(id, number.into(), for_request));
            }
            Say::Bad(_, _, reason) => self.close(from, reason),
            Say::Call(address, id, steering) => {
                self.call(from, steering.of(request(call(address, id), number)), seen)?;
            }
            Say::Push(address, id, steering) => {
                self.call(from, steering.of(request(push(address, id), number)), seen)?;
            }
            Say::Reply(ref id, reply_type) => self.reply(from, reply(id, reply_type, number)),
            Say::Broadcast(topic) => self.broadcast(from, event(topic, number)),
            Say::Register(name, mode, capacity) => {
                let instance = self.peer(from).unwrap().instance;
                let code = self.owners.register(from, instance, name, (mode, capacity));
                self.tell(from, Seen::Registered(code));
            }
            Say::Subscribe(topic) => {
                let held = self.subscriptions.contains(&(from, topic));
                let code = if held { 400 } else { add(&mut self.subscriptions, from, topic) };
                self.tell(from, Seen::Subscribed(code));
            }
            Say::Unregister(name) => {
                let code = self.owners.unregister(from, name);
                self.tell(from, Seen::Unregistered(code));
            }
            Say::Unsubscribe(topic) => {
                let code = remove(&mut self.subscriptions, from, topic);
                self.tell(from, Seen::Unsubscribed(code));
            }
        }
        Ok(())
    }

    fn hello(&mut self, from: ConnId, instance: &'static [u8], no_echo: bool) {
        let newcomer = self.peer(from).unwrap();
        if std::mem::replace(&mut newcomer.hello, true) {
            return self.close(from, "second hello");
        }
        if instance.len() > 64 {
            return self.close(from, "instance id too long");
        }
        let identity = newcomer.identity.clone();
        let holder = |peer: &&Peer| !instance.is_empty() && peer.instance == instance;
        if let Some(holder) = self.peers.iter().find(holder) {
            if holder.identity != identity || identity == Identity::Unknown {
                return self.close(from, "foreign instance id");
            }
            self.close(holder.id, "replaced");
        }
        let newcomer = self.peer(from).unwrap();
        (newcomer.instance, newcomer.no_echo) = (instance, no_echo);
    }

    fn call(
        &mut self,
        from: ConnId,
        request: CallRequest,
        seen: &[(ConnId, Seen)],
    ) -> TestCaseResult {
        if request.no_reply && request.more {
            self.reached.insert("stream without reply");
            self.cut_upload(from, &request);
            return Ok(());
        }
        let refuse = |oracle: &mut Self, reason| {
            oracle.cut_upload(from, &request);
            if !request.no_reply {
                oracle.tell(from, refusal(&request.request_id, 400, reason));
            }
            Ok(())
        };
        if !request.no_reply
            && let Some(reason) = self.objection(from, &request.request_id)
        {
            return refuse(self, reason);
        }
        let mut served_by = seen.iter().filter(|(_, seen)| matches!(seen, Seen::Call(_)));
        let served_by = served_by.next().map(|(to, _)| *to);
        let calls = &self.calls;
        let load = |number| calls.iter().filter(|call| call.registration == number).count();
        let peers = &self.peers;
        let is_level_0 = |id| peers.iter().any(|peer| peer.id == id && peer.level == Some(0));
        let choice = self.owners.choose(&request, load, served_by, is_level_0)?;
        let (service, registration) = match choice {
            Choice::NoSuchService => return refuse(self, CallReplyReason::ReasonNoSuchService),
            Choice::Busy => return refuse(self, CallReplyReason::ReasonBusy),
            Choice::Owner(service, registration) => (service, registration),
        };
        let peers = &self.peers;
        let is_level_0 = |id| peers.iter().any(|peer| peer.id == id && peer.level == Some(0));
        let streams = !request.no_reply && (request.more || request.reply_credit > 0);
        if streams && is_level_0(from) || request.more && is_level_0(service) {
            return refuse(self, CallReplyReason::ReasonUnsupported);
        }
        self.owners.begin(registration);
        let service_id = self.id_at(service, &request.request_id, seen)?;
        self.given.push((service, service_id.clone()));
        if !request.no_reply {
            self.calls.push(Call {
                caller: Some(from),
                caller_id: request.request_id.clone(),
                service,
                service_id: service_id.clone(),
                registration,
                due: (request.timeout_ms > 0).then(|| self.now + request.timeout_ms / 30_000),
                more: request.more,
            });
        }
        let request_id = service_id;
        self.tell(service, Seen::Call(CallRequest { request_id, ..request }));
        Ok(())
    }

    fn objection(&self, from: ConnId, id: &str) -> Option<CallReplyReason> {
        let own = || self.calls.iter().filter(|call| call.caller == Some(from));
        if id.len() > 1024 {
            Some(CallReplyReason::ReasonLimitReached)
        } else if own().any(|call| call.caller_id == id) {
            Some(CallReplyReason::ReasonRequestIdInUse)
        } else if own().count() == LIMIT {
            Some(CallReplyReason::ReasonLimitReached)
        } else {
            None
        }
    }

    /// The request id that a call has at its service.
    fn id_at(
        &mut self,
        service: ConnId,
        wanted: &str,
        seen: &[(ConnId, Seen)],
    ) -> Result<String, TestCaseError> {
        let calls = &self.calls;
        let taken =
            |id: &str| calls.iter().any(|call| call.service == service && call.service_id == id);
        let has_evicted = self.forgetful.contains(&service);
        if !taken(wanted) && !has_evicted {
            return Ok(wanted.to_owned());
        }
        let forwarded = seen.iter().find_map(|(to, seen)| match seen {
            Seen::Call(call) if *to == service => Some(call.request_id.clone()),
            _ => None,
        });
        let Some(made_up) = forwarded else {
            return Err(TestCaseError::fail("a call was not forwarded"));
        };
        prop_assert!(!taken(&made_up), "{made_up:?} is taken at {service}");
        self.reached.insert("made-up id");
        if has_evicted {
            let is_new = self.given.iter().all(|(to, id)| (*to, id) != (service, &made_up));
            prop_assert!(is_new, "{made_up:?} was given to {service} before");
            self.reached.insert("new id after one was forgotten");
        }
        Ok(made_up)
    }

    fn reply(&mut self, from: ConnId, reply: CallReply) {
        let is_answered = |call: &Call| call.service == from && call.service_id == reply.request_id;
        let Some(at) = self.calls.iter().position(is_answered) else {
            self.reached.insert("stray reply");
            return;
        };
        let (caller, request_id) = (self.calls[at].caller, self.calls[at].caller_id.clone());
        if reply.reply_type != PARTIAL {
            self.calls.remove(at);
            self.ended.extend(caller.map(|caller| (caller, request_id.clone())));
        }
        let Some(caller) = caller else {
            self.reached.insert("reply to orphaned call");
            return;
        };
        if request_id != reply.request_id {
            self.reached.insert("reply under made-up id");
        }
        self.tell(caller, Seen::Reply(CallReply { request_id, ..reply }));
    }

    fn cancel(&mut self, from: ConnId, id: &str) {
        let Some(at) = self.calls.iter().position(|call| call.is_of(from, id)) else {
            if self.ended.contains(&(from, id.to_owned())) {
                self.reached.insert("cancelled after the last reply");
            }
            return;
        };
        if self.calls[at].service_id != id {
            self.reached.insert("made-up id for a cancelled call");
        }
        self.abandon(at);
        self.tell(from, refusal(id, 500, CallReplyReason::ReasonCancelled));
        self.forget_abandoned(self.calls[at].service);
    }

    /// Rule CA-15: a call was refused.
    fn cut_upload(&mut self, from: ConnId, request: &CallRequest) {
        let is_cut = |call: &&mut Call| call.is_of(from, &request.request_id) && call.more;
        if request.more
            && let Some(call) = self.calls.iter_mut().find(is_cut)
        {
            call.more = false;
            self.reached.insert("upload cut by a refused call");
        }
    }

    /// Rule CA-15.
    fn data(&mut self, from: ConnId, data: CallData) {
        let is_upload = |call: &&mut Call| call.is_of(from, &data.request_id) && call.more;
        let Some(call) = self.calls.iter_mut().find(is_upload) else {
            self.reached.insert("stray data");
            return;
        };
        call.more = !data.end;
        let (service, request_id) = (call.service, call.service_id.clone());
        if request_id != data.request_id {
            self.reached.insert("data under made-up id");
        }
        self.tell(service, Seen::Data(CallData { request_id, ..data }));
    }

    /// Rule CA-14.
    fn credit(&mut self, from: ConnId, credit: StreamCredit) {
        let id = &credit.request_id;
        let is_it = |call: &&Call| match credit.for_request {
            true => call.service == from && call.service_id == *id,
            false => call.is_of(from, id),
        };
        let Some(call) = self.calls.iter().find(is_it) else {
            self.reached.insert("stray credit");
            return;
        };
        let (to, request_id) = match (credit.for_request, call.caller) {
            (true, Some(caller)) => (caller, call.caller_id.clone()),
            (true, None) => return,
            (false, _) => (call.service, call.service_id.clone()),
        };
        if self.peer(to).is_some_and(|peer| peer.level > Some(0)) {
            self.reached.insert(match credit.for_request {
                true => "credit for a request",
                false => "credit for replies",
            });
            self.tell(to, Seen::Credit(StreamCredit { request_id, ..credit }));
        }
    }

    fn broadcast(&mut self, from: ConnId, event: BroadcastRequest) {
        if !is_name(&event.topic) {
            return self.tell(from, Seen::Broadcasted(400, 0));
        }
        let meets = |held: &str| topics_meet(held, &event.topic);
        let listens = |id| self.subscriptions.iter().any(|(by, held)| *by == id && meets(held));
        let mut to: Vec<_> = self.peers.iter().filter(|peer| listens(peer.id)).collect();
        let all = to.len();
        to.retain(|peer| peer.id != from || !peer.no_echo);
        if to.len() < all {
            self.reached.insert("no echo");
        }
        let to: Vec<_> = to.iter().map(|peer| peer.id).collect();
        self.tell(from, Seen::Broadcasted(0, to.len() as u32));
        for to in to {
            self.tell(to, Seen::Broadcast(event.clone()));
        }
    }

    /// Rules that were applied and are hard to come by.
    pub(super) fn reached(self) -> BTreeSet<&'static str> {
        self.reached.into_iter().chain(self.owners.reached).collect()
    }

    pub(super) fn usage(&self) -> Usage {
        let open_calls = self.open_calls().len();
        Usage {
            accounts: self.peers.len(),
            connections: self.peers.len(),
            services: self.owners.len(),
            subscriptions: self.subscriptions.len(),
            open_calls,
            orphaned_calls: self.calls.len() - open_calls,
            instances: self.peers.iter().filter(|peer| !peer.instance.is_empty()).count(),
            deadlines: self.peers.len() + self.calls.iter().filter_map(Call::due).count(),
        }
    }

    /// The callers of open calls whose requests are streams that have not ended, and their request ids.
    pub(super) fn uploads(&self) -> Vec<(ConnId, String)> {
        let uploads = self.calls.iter().filter(|call| call.more);
        uploads.filter_map(|call| Some((call.caller?, call.caller_id.clone()))).collect()
    }

    /// The caller that waits for an answer, and its request id.
    pub(super) fn open_calls(&self) -> Vec<(ConnId, String)> {
        let open = |call: &Call| call.caller.map(|caller| (caller, call.caller_id.clone()));
        self.calls.iter().filter_map(open).collect()
    }
}

type Held = Vec<(ConnId, &'static str)>;

fn add(held: &mut Held, by: ConnId, name: &'static str) -> i32 {
    if !is_name(name) {
        return 400;
    }
    let is_full = held.iter().filter(|(owner, _)| *owner == by).count() == LIMIT;
    if is_full {
        return 400;
    }
    held.push((by, name));
    0
}

fn remove(held: &mut Held, by: ConnId, name: &'static str) -> i32 {
    let before = held.len();
    held.retain(|entry| *entry != (by, name));
    if held.len() < before { 0 } else { 404 }
}

pub(super) fn router_hello() -> Hello {
    Hello { name: "router".into(), ..Hello::default() }
}
