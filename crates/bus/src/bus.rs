//! The bus itself: which rule applies to which event.

use std::time::Instant;

use bytes::Bytes;
use gsb_proto::head::{BroadcastHead, CallHead, ReplyHead};
use gsb_proto::messages::{
    BroadcastReply, Hello, Message, Ping, Pong, RegisterReply, RegisterRequest, SubscribeReply,
    SubscribeRequest, UnregisterReply, UnregisterReplyCode, UnregisterRequest, UnsubscribeReply,
    UnsubscribeReplyCode, UnsubscribeRequest,
};
use gsb_proto::{Body, Frame, Framing, MessageKind, Topic, Violation};

use crate::calls::Calls;
use crate::config::{BusConfig, Limits, MAX_REQUEST_ID};
use crate::connections::{ConnId, Connections, Identity};
use crate::counters::{Counters, Usage};
use crate::effect::{CloseReason, Effect};
use crate::instances::{Instances, MAX_INSTANCE_ID};
use crate::liveness::{Due, Liveness};
use crate::refusal::{Refusal, quoted};
use crate::services::Services;
use crate::subscriptions::Subscriptions;

/// The state of a router.
///
/// Whoever owns it tells it of every event, one at a time, and carries out the [`Effect`]s that each
/// call appends. A [`ConnId`] that the bus has closed is ignored wherever it is passed in.
#[derive(Debug)]
pub struct Bus {
    limits: Limits,
    hello: Frame,
    connections: Connections,
    instances: Instances,
    services: Services,
    calls: Calls,
    subscriptions: Subscriptions,
    liveness: Liveness,
    counters: Counters,
    /// Reused by each broadcast.
    subscribers: Vec<ConnId>,
}

impl Bus {
    /// A bus that nobody is connected to.
    pub fn new(config: BusConfig) -> Self {
        let limits = config.limits;
        Bus {
            limits,
            hello: config.hello.to_frame(),
            connections: Connections::default(),
            instances: Instances::default(),
            services: Services::new(limits.services),
            calls: Calls::new(limits.open_calls),
            subscriptions: Subscriptions::new(limits.subscriptions),
            liveness: Liveness::new(config.ping_timeout),
            counters: Counters::default(),
            subscribers: Vec::new(),
        }
    }

    /// A peer has connected.
    pub fn connect(&mut self, identity: Identity, now: Instant) -> ConnId {
        let connection = self.connections.add(identity);
        self.liveness.add(connection, now);
        connection
    }

    /// Bytes have come from a peer, whole frames or not.
    pub fn heard(&mut self, connection: ConnId, now: Instant) {
        if self.connections.get(connection).is_some() {
            self.liveness.heard(connection, now);
        }
    }

    /// The framing of a connection is known now. On the packet framing the router introduces itself.
    pub fn framing_known(
        &mut self,
        connection: ConnId,
        framing: Framing,
        effects: &mut Vec<Effect>,
    ) {
        let Some(known) = self.connections.get_mut(connection) else {
            return;
        };
        if known.framing.replace(framing).is_none() && framing == Framing::Packet {
            let frame = self.hello.clone();
            effects.push(Effect::Send { to: connection, frame });
        }
    }

    /// A frame has come from a peer.
    pub fn receive(&mut self, from: ConnId, frame: Frame, effects: &mut Vec<Effect>) {
        if self.connections.get(from).is_none() {
            return;
        }
        if let Err(violation) = self.handle(from, frame, effects) {
            self.close(from, violation.into(), effects);
        }
    }

    /// Ends a connection: its names and subscriptions are free, whoever waits for its answers is
    /// answered, its own calls are forgotten. Does nothing if the connection has ended before.
    pub fn close(&mut self, connection: ConnId, reason: CloseReason, effects: &mut Vec<Effect>) {
        if !self.connections.remove(connection) {
            return;
        }
        *self.counters.closes.entry(reason.reason()).or_default() += 1;
        self.instances.remove_connection(connection);
        self.services.remove_connection(connection);
        self.subscriptions.remove_connection(connection);
        self.liveness.remove_connection(connection);
        let waiting = self.calls.remove_connection(connection);
        if !waiting.is_empty() {
            let refusal = Refusal::ServiceGone { reason: reason.clone() };
            for (caller, request_id) in waiting {
                let frame = self.refused(&refusal).call_reply(&request_id);
                effects.push(Effect::Send { to: caller, frame });
            }
        }
        effects.push(Effect::Close { connection, reason });
    }

    /// When [`Bus::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.liveness.next_deadline()
    }

    /// Time has passed: silent connections are sent a Ping or closed.
    pub fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        loop {
            let connections = &self.connections;
            // A connection whose framing is unknown has no form for a Ping.
            let may_ping = |id| connections.get(id).is_some_and(|c| c.framing.is_some());
            match self.liveness.next_due(now, may_ping) {
                None => return,
                Some(Due::Ping(to)) => effects.push(Effect::Send { to, frame: Ping {}.to_frame() }),
                Some(Due::Close(connection, silence)) => {
                    self.close(connection, CloseReason::Silent(silence), effects);
                }
            }
        }
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the bus holds now. All zero when nobody is connected.
    pub fn usage(&self) -> Usage {
        Usage {
            connections: self.connections.len(),
            services: self.services.len(),
            subscriptions: self.subscriptions.len(),
            open_calls: self.calls.len(),
            abandoned_calls: self.calls.abandoned(),
            instances: self.instances.len(),
            deadlines: self.liveness.len(),
        }
    }

    fn handle(
        &mut self,
        from: ConnId,
        frame: Frame,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        match frame.kind {
            MessageKind::Hello => return self.hello(from, &frame.decode()?, effects),
            MessageKind::RegisterRequest => {
                let RegisterRequest { service_id } = frame.decode()?;
                let reply = match self.services.register(from, &service_id) {
                    Ok(()) => RegisterReply::default().to_frame(),
                    Err(refusal) => self.refused(&refusal).register_reply(),
                };
                send(from, reply, effects);
            }
            MessageKind::UnregisterRequest => {
                let UnregisterRequest { service_id } = frame.decode()?;
                let code = match self.services.unregister(from, &service_id) {
                    true => UnregisterReplyCode::UnregisteredOk,
                    false => UnregisterReplyCode::NotRegistered,
                };
                send(from, UnregisterReply { code: code.into() }.to_frame(), effects);
            }
            MessageKind::SubscribeRequest => {
                let SubscribeRequest { topic } = frame.decode()?;
                let reply = match self.subscriptions.subscribe(from, &topic) {
                    Ok(()) => SubscribeReply::default().to_frame(),
                    Err(refusal) => self.refused(&refusal).subscribe_reply(),
                };
                send(from, reply, effects);
            }
            MessageKind::UnsubscribeRequest => {
                let UnsubscribeRequest { topic } = frame.decode()?;
                let code = match self.subscriptions.unsubscribe(from, &topic) {
                    true => UnsubscribeReplyCode::UnsubscribedOk,
                    false => UnsubscribeReplyCode::NotSubscribed,
                };
                send(from, UnsubscribeReply { code: code.into() }.to_frame(), effects);
            }
            MessageKind::CallRequest => {
                let message = frame.body.into_bytes();
                let head = CallHead::read(&message)?;
                self.call(from, &message, &head, effects);
            }
            MessageKind::CallReply => {
                let message = frame.body.into_bytes();
                let head = ReplyHead::read(&message)?;
                self.reply(from, &message, &head, effects);
            }
            MessageKind::BroadcastRequest => {
                let message = frame.body.into_bytes();
                let head = BroadcastHead::read(&message)?;
                self.broadcast(from, &message, &head, effects);
            }
            MessageKind::Ping => {
                let Ping {} = frame.decode()?;
                send(from, Pong {}.to_frame(), effects);
            }
            MessageKind::Pong => {
                let Pong {} = frame.decode()?;
            }
            MessageKind::RegisterReply
            | MessageKind::UnregisterReply
            | MessageKind::SubscribeReply
            | MessageKind::UnsubscribeReply
            | MessageKind::BroadcastReply => return Err(Violation::WrongDirection(frame.kind)),
        }
        Ok(())
    }

    fn hello(
        &mut self,
        from: ConnId,
        hello: &Hello,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        let Some(newcomer) = self.connections.get_mut(from) else {
            return Ok(());
        };
        if std::mem::replace(&mut newcomer.hello_seen, true) {
            return Err(Violation::SecondHello);
        }
        newcomer.no_echo = hello.no_echo;
        let instance_id = &hello.instance_id;
        if instance_id.len() > MAX_INSTANCE_ID {
            return Err(Violation::InstanceIdTooLong(instance_id.len()));
        }
        if let Some(holder) = self.instances.holder(instance_id) {
            let identity = |id| self.connections.get(id).map(|c| &c.identity);
            let is_same_peer = match (identity(holder), identity(from)) {
                (Some(old), Some(new)) => new.is_same_peer(old),
                _ => false,
            };
            if !is_same_peer {
                self.close(from, CloseReason::ForeignInstanceId, effects);
                return Ok(());
            }
            self.close(holder, CloseReason::Replaced, effects);
        }
        self.instances.set(from, instance_id);
        Ok(())
    }

    fn call(
        &mut self,
        from: ConnId,
        message: &Bytes,
        head: &CallHead<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let request_id = head.request_id.text;
        let service = self.services.find(head.address);
        let (to, new_id) = if head.no_reply {
            let Some(service) = service else {
                self.counters.pushes_dropped += 1;
                return;
            };
            self.counters.pushes += 1;
            (service, self.calls.id_for_service(service, request_id))
        } else {
            let service = match self.may_call(from, head, service) {
                Ok(service) => service,
                Err(refusal) => {
                    let reply = self.refused(&refusal).call_reply(request_id);
                    return send(from, reply, effects);
                }
            };
            self.counters.calls += 1;
            (service, self.calls.open(from, request_id, service))
        };
        let body = match new_id {
            None => Body::Whole(message.clone()),
            Some(id) => head.with_request_id(message, &id),
        };
        let kind = MessageKind::CallRequest;
        send(to, Frame { kind, body }, effects);
    }

    /// Whether a call that wants an answer may be forwarded, and to whom.
    fn may_call(
        &self,
        from: ConnId,
        head: &CallHead<'_>,
        service: Option<ConnId>,
    ) -> Result<ConnId, Refusal> {
        let request_id = head.request_id.text;
        if request_id.len() > MAX_REQUEST_ID {
            let length = request_id.len();
            return Err(Refusal::RequestIdTooLong { length });
        }
        if self.calls.is_open(from, request_id) {
            let request_id = request_id.to_owned();
            return Err(Refusal::RequestIdInUse { request_id });
        }
        let limit = self.limits.open_calls;
        if self.calls.made_by(from) >= limit {
            return Err(Refusal::TooManyCalls { limit });
        }
        service.ok_or_else(|| Refusal::NoSuchService { quoted_address: quoted(head.address) })
    }

    fn reply(
        &mut self,
        from: ConnId,
        message: &Bytes,
        head: &ReplyHead<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(forward) = self.calls.reply(from, head.request_id.text, head.last) else {
            self.counters.replies_dropped += 1;
            return;
        };
        self.counters.replies += 1;
        let body = match forward.new_id {
            None => Body::Whole(message.clone()),
            Some(id) => head.with_request_id(message, &id),
        };
        let kind = MessageKind::CallReply;
        send(forward.caller, Frame { kind, body }, effects);
    }

    fn broadcast(
        &mut self,
        from: ConnId,
        message: &Bytes,
        head: &BroadcastHead<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let topic = match Topic::new(head.topic) {
            Ok(topic) => topic,
            Err(error) => {
                let reply = self.refused(&error.into()).broadcast_reply();
                return send(from, reply, effects);
            }
        };
        send(from, BroadcastReply::default().to_frame(), effects);
        self.counters.broadcasts += 1;
        self.subscriptions.find(&topic, &mut self.subscribers);
        if self.connections.get(from).is_some_and(|sender| sender.no_echo) {
            self.subscribers.retain(|&to| to != from);
        }
        self.counters.deliveries += self.subscribers.len() as u64;
        let kind = MessageKind::BroadcastRequest;
        for &to in &self.subscribers {
            let body = Body::Whole(message.clone());
            send(to, Frame { kind, body }, effects);
        }
    }

    /// Counts a refusal on its way to becoming a reply.
    fn refused<'a>(&mut self, refusal: &'a Refusal) -> &'a Refusal {
        *self.counters.refusals.entry(refusal.reason()).or_default() += 1;
        refusal
    }
}

fn send(to: ConnId, frame: Frame, effects: &mut Vec<Effect>) {
    effects.push(Effect::Send { to, frame });
}
