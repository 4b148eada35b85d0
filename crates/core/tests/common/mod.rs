//! A broker whose peers are only numbers, and the messages that each of them was sent.

#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gsb_core::{
    Broker, BrokerConfig, Charge, CloseReason, ConnId, Effect, Identity, Progress, Usage,
};
use gsb_proto::messages::*;
use gsb_proto::{Frame, Framing, MessageKind};

/// An event that a peer sees: a message, or the end of its connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Hello(Hello),
    Registered(i32),
    Unregistered(i32),
    Subscribed(i32),
    Unsubscribed(i32),
    /// The code, and the number of receivers.
    Broadcasted(i32, u32),
    Call(CallRequest),
    Reply(CallReply),
    Broadcast(BroadcastRequest),
    Cancel(String),
    Credit(StreamCredit),
    Data(CallData),
    Ping,
    Pong,
    GoAway(GoAway),
    Closed(&'static str),
}

/// A frame in the outbox of a peer that does not read.
#[derive(Debug)]
pub struct Queued {
    pub to: ConnId,
    /// The unread bytes.
    pub left: usize,
    pub charge: Option<Charge>,
    pub seen: Seen,
    /// Whether its receiver has stalled since, so that the frame counts for the memory limit alone.
    pub is_moved: bool,
}

/// Whether a paused connection was woken.
#[derive(Debug, Default)]
pub struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub struct World {
    pub broker: Broker,
    pub now: Instant,
    pub effects: Vec<Effect>,
    /// The messages that were sent and not checked yet, with their receivers.
    pub seen: VecDeque<(ConnId, Seen)>,
    /// The same as frames, with their exact bytes.
    pub frames: Vec<(ConnId, Frame)>,
    /// The messages of refusals, newest last.
    pub sentences: Vec<String>,
    /// Peers that do not read: frames for them stay queued. All other peers read at once.
    pub deaf: BTreeSet<ConnId>,
    /// The frames that are queued for them.
    pub queued: Vec<Queued>,
    /// How many bytes each of them has read so far.
    pub written: BTreeMap<ConnId, u64>,
    pub wakers: BTreeMap<ConnId, Arc<Woken>>,
    stall_timeout: Duration,
    /// The reports to the operator: the connection and the reason.
    pub reports: Vec<(ConnId, &'static str)>,
}

pub const UID: Identity = Identity::Uid(1000);

impl World {
    pub fn new(config: BrokerConfig) -> Self {
        World {
            stall_timeout: config.stall_timeout,
            broker: Broker::new(config),
            now: Instant::now(),
            effects: Vec::new(),
            seen: VecDeque::new(),
            frames: Vec::new(),
            sentences: Vec::new(),
            deaf: BTreeSet::new(),
            queued: Vec::new(),
            written: BTreeMap::new(),
            wakers: BTreeMap::new(),
            reports: Vec::new(),
        }
    }

    /// A peer of the packet framing that has read the router's Hello.
    pub fn peer(&mut self) -> ConnId {
        let peer = self.peer_of(Framing::Packet, UID);
        self.take(peer);
        peer
    }

    /// A peer whose first frame was a Hello of this level.
    pub fn peer_of_level(&mut self, level: u32) -> ConnId {
        let peer = self.peer();
        self.send(peer, Hello { level, ..Hello::default() });
        peer
    }

    pub fn peer_of(&mut self, framing: Framing, identity: Identity) -> ConnId {
        let peer = self.connect(identity);
        self.broker.framing_known(peer, framing, &mut self.effects);
        self.settle();
        peer
    }

    /// A connection whose framing is not known.
    pub fn connect(&mut self, identity: Identity) -> ConnId {
        let woken = Arc::new(Woken::default());
        let peer = self.broker.connect(identity, Waker::from(woken.clone()), self.now);
        self.wakers.insert(peer, woken);
        peer
    }

    pub fn send(&mut self, from: ConnId, message: impl Message) {
        self.send_frame(from, message.to_frame());
    }

    pub fn send_raw(&mut self, from: ConnId, kind: MessageKind, body: impl Into<Bytes>) {
        self.send_frame(from, Frame::new(kind, body));
    }

    pub fn send_frame(&mut self, from: ConnId, frame: Frame) {
        if self.try_send(from, frame).is_err() {
            panic!("the frame has to wait");
        }
    }

    /// Sends a frame. Returns the frame if it has to wait.
    pub fn try_send(&mut self, from: ConnId, mut frame: Frame) -> Result<(), Frame> {
        let result = self.broker.receive(from, frame.whole(), self.now, &mut self.effects);
        self.settle();
        result.map_err(|_| frame)
    }

    /// Whether a paused connection was woken since the last check.
    pub fn is_woken(&self, peer: ConnId) -> bool {
        self.wakers[&peer].0.swap(false, Ordering::SeqCst)
    }

    /// Makes a peer that does not read by itself read this many bytes.
    pub fn read(&mut self, peer: ConnId, mut bytes: usize) {
        let read = &mut *self.written.entry(peer).or_default();
        self.queued.retain_mut(|queued| {
            if queued.to != peer || bytes == 0 {
                return true;
            }
            let taken = bytes.min(queued.left);
            queued.charge.iter_mut().for_each(|charge| charge.written(taken));
            (queued.left, bytes) = (queued.left - taken, bytes - taken);
            *read += taken as u64;
            queued.left > 0
        });
    }

    /// Makes a peer read all its frames, and from now on at once.
    pub fn read_all(&mut self, peer: ConnId) {
        self.deaf.remove(&peer);
        self.read(peer, usize::MAX);
        self.look(peer);
    }

    pub fn queued_for(&self, peer: ConnId) -> usize {
        self.queued.iter().filter(|queued| queued.to == peer).map(|queued| queued.left).sum()
    }

    /// Checks a peer that does not read. Returns whether it has just stalled.
    pub fn look(&mut self, peer: ConnId) -> bool {
        let written = self.written.get(&peer).copied().unwrap_or_default();
        let progress = Progress { queued: self.queued_for(peer), written };
        let own = self.queued.iter().filter(|queued| queued.to == peer);
        let callers = own.filter_map(|queued| queued.charge.as_ref()?.paused_caller()).collect();
        let effects = &mut self.effects;
        let has_stalled =
            self.broker.look_at_slow_peer(peer, progress, &callers, self.now, effects);
        if has_stalled {
            let own = self.queued.iter_mut().filter(|queued| queued.to == peer);
            let calls = own.filter_map(|queued| {
                queued.is_moved = true;
                queued.charge.as_mut()?.stall()
            });
            for call in calls.collect::<Vec<_>>() {
                self.broker.end_stalled_call(peer, call, effects);
            }
        }
        self.settle();
        has_stalled
    }

    /// Advances the time, and checks all peers that do not read meanwhile.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            for peer in self.deaf.clone() {
                self.look(peer);
            }
            if self.now == end {
                return;
            }
            self.now = end.min(self.now + self.stall_timeout / 16);
        }
    }

    /// Does one step of clearing up after ended connections. Returns whether there is more.
    pub fn sweep(&mut self, budget: usize) -> bool {
        let is_left = self.broker.sweep(budget, &mut self.effects);
        self.settle();
        is_left
    }

    pub fn unfinished(&mut self, peer: ConnId, bytes: usize) {
        self.broker.unfinished(peer, bytes, &mut self.effects);
        self.settle();
    }

    pub fn begin_to_stop(&mut self) {
        while self.broker.begin_to_stop(100, &mut self.effects) {}
        self.settle();
    }

    pub fn finish_stopping(&mut self) {
        while self.broker.finish_stopping(100, &mut self.effects) {}
        self.settle();
    }

    pub fn end_calls(&mut self) {
        while self.broker.end_calls(100, &mut self.effects) {}
        self.settle();
    }

    pub fn close(&mut self, connection: ConnId) {
        self.broker.close(connection, CloseReason::HungUp, &mut self.effects);
        self.settle();
    }

    /// Closes all connections, and checks that the broker holds nothing afterwards.
    pub fn close_all(&mut self, peers: &[ConnId]) {
        for &peer in peers {
            self.close(peer);
        }
        while self.sweep(100) {}
        assert_eq!(self.broker.usage(), Usage::default());
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        while self.broker.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.broker.tick(self.now, &mut self.effects);
        }
        self.settle();
    }

    pub fn heard(&mut self, connection: ConnId) {
        self.broker.heard(connection, self.now);
    }

    pub fn framing_known(&mut self, connection: ConnId, framing: Framing) {
        self.broker.framing_known(connection, framing, &mut self.effects);
        self.settle();
    }

    pub fn register(&mut self, peer: ConnId, service_id: &str) -> Vec<Seen> {
        self.send(peer, RegisterRequest { service_id: service_id.into(), ..Default::default() });
        self.take(peer)
    }

    pub fn unregister(&mut self, peer: ConnId, service_id: &str) -> Vec<Seen> {
        self.send(peer, UnregisterRequest { service_id: service_id.into() });
        self.take(peer)
    }

    pub fn subscribe(&mut self, peer: ConnId, topic: &str) -> Vec<Seen> {
        self.send(peer, SubscribeRequest { topic: topic.into() });
        self.take(peer)
    }

    pub fn unsubscribe(&mut self, peer: ConnId, topic: &str) -> Vec<Seen> {
        self.send(peer, UnsubscribeRequest { topic: topic.into() });
        self.take(peer)
    }

    pub fn broadcast(&mut self, peer: ConnId, topic: &str) {
        self.send(peer, broadcast(topic));
    }

    /// The messages that this peer was sent since the last check, in order.
    pub fn take(&mut self, peer: ConnId) -> Vec<Seen> {
        let (own, others) = self.seen.drain(..).partition(|(to, _)| *to == peer);
        self.seen = others;
        VecDeque::into_iter(own).map(|(_, seen)| seen).collect()
    }

    /// The only message that this peer was sent, which must be a call.
    pub fn take_call(&mut self, peer: ConnId) -> CallRequest {
        match self.take(peer).as_slice() {
            [Seen::Call(call)] => call.clone(),
            other => panic!("not one call but {other:?}"),
        }
    }

    /// The only message that this peer was sent, which must be a reply.
    pub fn take_reply(&mut self, peer: ConnId) -> CallReply {
        match self.take(peer).as_slice() {
            [Seen::Reply(reply)] => reply.clone(),
            other => panic!("not one reply but {other:?}"),
        }
    }

    /// The last message that this peer was sent, which must be a reply to this call.
    pub fn take_reply_to(&mut self, peer: ConnId, request_id: &str) -> CallReply {
        match self.take(peer).pop() {
            Some(Seen::Reply(reply)) if reply.request_id == request_id => reply,
            other => panic!("not a reply to {request_id} but {other:?}"),
        }
    }

    /// Turns effects into the events that peers see.
    fn settle(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send { to, frame, charge } => {
                    let (seen, sentence) = read(&frame);
                    if self.deaf.contains(&to) {
                        let left = frame.body.len() + 64;
                        let (seen, is_moved) = (seen.clone(), false);
                        self.queued.push(Queued { to, left, charge, seen, is_moved });
                    }
                    self.sentences.extend(sentence);
                    self.frames.push((to, frame));
                    self.seen.push_back((to, seen));
                }
                Effect::Report { connection, report } => {
                    self.reports.push((connection, report.reason()));
                }
                Effect::Close { connection, reason } => {
                    self.queued.retain(|queued| queued.to != connection);
                    self.deaf.remove(&connection);
                    self.seen.push_back((connection, Seen::Closed(reason.reason())));
                }
            }
        }
    }
}

pub fn call(address: &str, request_id: &str) -> CallRequest {
    CallRequest {
        caller: "/caller".into(),
        address: address.into(),
        request_id: request_id.into(),
        data: Bytes::from(format!("to {address}")),
        no_reply: false,
        ..Default::default()
    }
}

pub fn push(address: &str, request_id: &str) -> CallRequest {
    CallRequest { no_reply: true, ..call(address, request_id) }
}

pub fn cancel(request_id: &str) -> CancelCall {
    CancelCall { request_id: request_id.into() }
}

pub fn credit(request_id: &str, bytes: u64, for_request: bool) -> StreamCredit {
    StreamCredit { request_id: request_id.into(), bytes, for_request }
}

pub fn data(request_id: &str, data: &str, end: bool) -> CallData {
    CallData { request_id: request_id.into(), data: Bytes::from(data.to_owned()), end }
}

pub fn full(request_id: &str, data: &str) -> CallReply {
    CallReply {
        request_id: request_id.into(),
        data: Bytes::from(data.to_owned()),
        ..Default::default()
    }
}

pub fn partial(request_id: &str, data: &str) -> CallReply {
    CallReply { reply_type: CallReplyType::Partial.into(), ..full(request_id, data) }
}

pub fn broadcast(topic: &str) -> BroadcastRequest {
    BroadcastRequest {
        caller: "/announcer".into(),
        data: Bytes::from_static(b"event"),
        topic: topic.into(),
        missed: 0,
        ..Default::default()
    }
}

/// Decodes a message of the broker, and the text of a refusal.
fn read(frame: &Frame) -> (Seen, Option<String>) {
    let mut sentence = None;
    let mut said = |message: String| {
        sentence = Some(message).filter(|message| !message.is_empty());
    };
    let seen = match frame.kind {
        MessageKind::Hello => Seen::Hello(frame.decode().unwrap()),
        MessageKind::RegisterReply => {
            let reply: RegisterReply = frame.decode().unwrap();
            said(reply.message);
            Seen::Registered(reply.code)
        }
        MessageKind::UnregisterReply => {
            Seen::Unregistered(frame.decode::<UnregisterReply>().unwrap().code)
        }
        MessageKind::SubscribeReply => {
            let reply: SubscribeReply = frame.decode().unwrap();
            said(reply.message);
            Seen::Subscribed(reply.code)
        }
        MessageKind::UnsubscribeReply => {
            Seen::Unsubscribed(frame.decode::<UnsubscribeReply>().unwrap().code)
        }
        MessageKind::BroadcastReply => {
            let reply: BroadcastReply = frame.decode().unwrap();
            said(reply.message);
            Seen::Broadcasted(reply.code, reply.receivers.unwrap())
        }
        MessageKind::CallRequest => Seen::Call(frame.decode().unwrap()),
        MessageKind::CallReply => {
            let reply: CallReply = frame.decode().unwrap();
            if reply.reason != 0 {
                said(String::from_utf8(reply.data.to_vec()).unwrap());
            }
            Seen::Reply(reply)
        }
        MessageKind::BroadcastRequest => Seen::Broadcast(frame.decode().unwrap()),
        MessageKind::CancelCall => Seen::Cancel(frame.decode::<CancelCall>().unwrap().request_id),
        MessageKind::StreamCredit => Seen::Credit(frame.decode().unwrap()),
        MessageKind::CallData => Seen::Data(frame.decode().unwrap()),
        MessageKind::Ping => Seen::Ping,
        MessageKind::Pong => Seen::Pong,
        MessageKind::GoAway => Seen::GoAway(frame.decode().unwrap()),
        kind => panic!("the broker sent a {}", kind.name()),
    };
    (seen, sentence)
}
