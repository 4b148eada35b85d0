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

use crate::common::*;

/// The limit of services, of subscriptions and of open calls. It is small, so that it is reached often.
pub(super) const LIMIT: usize = 3;
pub(super) const PARTIAL: i32 = CallReplyType::Partial as i32;

#[derive(Debug, Clone)]
pub(super) enum Say {
    /// The instance id, whether the peer wants no echo, and its level.
    Hello(&'static [u8], bool, u32),
    Register(&'static str),
    Unregister(&'static str),
    Subscribe(&'static str),
    Unsubscribe(&'static str),
    Broadcast(&'static str),
    Call(&'static str, &'static str),
    Push(&'static str, &'static str),
    Reply(String, i32),
    Cancel(String),
    Ping,
    Pong,
    Bad(MessageKind, &'static [u8], &'static str),
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
            Say::Register(name) => RegisterRequest { service_id: (*name).into() }.to_frame(),
            Say::Unregister(name) => UnregisterRequest { service_id: (*name).into() }.to_frame(),
            Say::Subscribe(topic) => SubscribeRequest { topic: (*topic).into() }.to_frame(),
            Say::Unsubscribe(topic) => UnsubscribeRequest { topic: (*topic).into() }.to_frame(),
            Say::Broadcast(topic) => event(topic, number).to_frame(),
            Say::Call(address, id) => request(call(address, id), number).to_frame(),
            Say::Push(address, id) => request(push(address, id), number).to_frame(),
            Say::Reply(id, reply_type) => reply(id, *reply_type, number).to_frame(),
            Say::Cancel(id) => cancel(id).to_frame(),
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

fn event(topic: &str, number: u32) -> BroadcastRequest {
    BroadcastRequest { data: data(number), ..broadcast(topic) }
}

/// A reply of the router itself, without its sentence.
fn refusal(request_id: &str, code: i32, reason: CallReplyReason) -> Seen {
    Seen::Reply(CallReply { code, reason: reason.into(), ..full(request_id, "") })
}

fn is_name(text: &str) -> bool {
    let segments = text.strip_prefix('/').unwrap_or(text);
    text.len() <= 1024
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        && !segments.split('/').any(str::is_empty)
}

fn topics_meet(a: &str, b: &str) -> bool {
    // The one segment of `*` cannot be the empty one before a slash: there is no empty topic.
    let is_empty = |a: &str, b: &str| a == "*" && b.starts_with('/');
    let (left, right): (Vec<_>, Vec<_>) = (a.split('/').collect(), b.split('/').collect());
    !is_empty(a, b) && !is_empty(b, a) && segments_meet(&left, &right)
}

fn segments_meet(a: &[&str], b: &[&str]) -> bool {
    let any = |side: &[&str]| side.first() == Some(&"**");
    match (a, b) {
        ([], []) => true,
        // `**` takes nothing or one segment more.
        ([_, rest @ ..], _) if any(a) => {
            segments_meet(rest, b) || (!b.is_empty() && segments_meet(a, &b[1..]))
        }
        (_, [_, ..]) if any(b) => segments_meet(b, a),
        ([x, a @ ..], [y, b @ ..]) => (x == y || *x == "*" || *y == "*") && segments_meet(a, b),
        _ => false,
    }
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
    caller: Option<ConnId>,
    caller_id: String,
    pub(super) service: ConnId,
    pub(super) service_id: String,
}

impl Call {
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
    services: Vec<(ConnId, &'static str)>,
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
    pub(super) reached: BTreeSet<&'static str>,
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

    fn close(&mut self, id: ConnId, reason: &'static str) {
        self.peers.retain(|peer| peer.id != id);
        self.services.retain(|(owner, _)| *owner != id);
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
        for call in &mut self.calls {
            call.caller = call.caller.filter(|caller| *caller != id);
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
            Say::Cancel(ref id) => self.cancel(from, id),
            Say::Bad(_, _, reason) => self.close(from, reason),
            Say::Call(address, id) => self.call(from, request(call(address, id), number), seen)?,
            Say::Push(address, id) => self.call(from, request(push(address, id), number), seen)?,
            Say::Reply(ref id, reply_type) => self.reply(from, reply(id, reply_type, number)),
            Say::Broadcast(topic) => self.broadcast(from, event(topic, number)),
            Say::Register(name) => {
                let taken = self.services.iter().any(|(_, held)| *held == name);
                let code = add(&mut self.services, from, name, taken.then_some(409));
                self.tell(from, Seen::Registered(code));
            }
            Say::Subscribe(topic) => {
                let held = self.subscriptions.contains(&(from, topic));
                let code = add(&mut self.subscriptions, from, topic, held.then_some(400));
                self.tell(from, Seen::Subscribed(code));
            }
            Say::Unregister(name) => {
                let code = remove(&mut self.services, from, name);
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
        let address = &request.address;
        let service = (self.services.iter())
            .filter(|(_, name)| address == name || address.starts_with(&format!("{name}/")))
            .max_by_key(|(_, name)| name.len())
            .map(|(owner, _)| *owner);
        if !request.no_reply
            && let Some(reason) = self.objection(from, &request.request_id, service)
        {
            self.tell(from, refusal(&request.request_id, 400, reason));
            return Ok(());
        }
        let Some(service) = service else {
            return Ok(());
        };
        let service_id = self.id_at(service, &request.request_id, seen)?;
        self.given.push((service, service_id.clone()));
        if !request.no_reply {
            self.calls.push(Call {
                caller: Some(from),
                caller_id: request.request_id.clone(),
                service,
                service_id: service_id.clone(),
            });
        }
        let request_id = service_id;
        self.tell(service, Seen::Call(CallRequest { request_id, ..request }));
        Ok(())
    }

    fn objection(
        &self,
        from: ConnId,
        id: &str,
        service: Option<ConnId>,
    ) -> Option<CallReplyReason> {
        let own = || self.calls.iter().filter(|call| call.caller == Some(from));
        if id.len() > 1024 {
            Some(CallReplyReason::ReasonLimitReached)
        } else if own().any(|call| call.caller_id == id) {
            Some(CallReplyReason::ReasonRequestIdInUse)
        } else if own().count() == LIMIT {
            Some(CallReplyReason::ReasonLimitReached)
        } else if service.is_none() {
            Some(CallReplyReason::ReasonNoSuchService)
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
        if self.peer(from).unwrap().level == Some(0) {
            return self.close(from, "level too low");
        }
        let Some(call) = self.calls.iter_mut().find(|call| call.is_of(from, id)) else {
            if self.ended.contains(&(from, id.to_owned())) {
                self.reached.insert("cancelled after the last reply");
            }
            return;
        };
        call.caller = None;
        if call.service_id != id {
            self.reached.insert("made-up id for a cancelled call");
        }
        let service = call.service;
        self.tell(from, refusal(id, 500, CallReplyReason::ReasonCancelled));
        self.forget_abandoned(service);
    }

    fn broadcast(&mut self, from: ConnId, event: BroadcastRequest) {
        if !is_name(&event.topic) {
            return self.tell(from, Seen::Broadcasted(400));
        }
        self.tell(from, Seen::Broadcasted(0));
        for at in 0..self.peers.len() {
            let to = self.peers[at].id;
            let meets = |held: &str| topics_meet(held, &event.topic);
            if !self.subscriptions.iter().any(|(id, held)| *id == to && meets(held)) {
                continue;
            }
            if to == from && self.peers[at].no_echo {
                self.reached.insert("no echo");
            } else {
                self.tell(to, Seen::Broadcast(event.clone()));
            }
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let open_calls = self.open_calls().len();
        Usage {
            accounts: self.peers.len(),
            connections: self.peers.len(),
            services: self.services.len(),
            subscriptions: self.subscriptions.len(),
            open_calls,
            orphaned_calls: self.calls.len() - open_calls,
            instances: self.peers.iter().filter(|peer| !peer.instance.is_empty()).count(),
            deadlines: self.peers.len(),
        }
    }

    /// The caller that waits for an answer, and its request id.
    pub(super) fn open_calls(&self) -> Vec<(ConnId, String)> {
        let open = |call: &Call| call.caller.map(|caller| (caller, call.caller_id.clone()));
        self.calls.iter().filter_map(open).collect()
    }
}

type Held = Vec<(ConnId, &'static str)>;

fn add(held: &mut Held, by: ConnId, name: &'static str, objection: Option<i32>) -> i32 {
    if !is_name(name) {
        return 400;
    }
    let is_full = held.iter().filter(|(owner, _)| *owner == by).count() == LIMIT;
    let code = objection.or(is_full.then_some(400)).unwrap_or(0);
    if code == 0 {
        held.push((by, name));
    }
    code
}

fn remove(held: &mut Held, by: ConnId, name: &'static str) -> i32 {
    let before = held.len();
    held.retain(|entry| *entry != (by, name));
    if held.len() < before { 0 } else { 404 }
}

pub(super) fn router_hello() -> Hello {
    Hello { name: "router".into(), ..Hello::default() }
}
