//! The broker itself: which rule applies to which event.

use std::time::{Duration, Instant};

use gsb_proto::head::{BroadcastHead, CallHead, ReplyHead};
use gsb_proto::messages::{
    BroadcastReply, CancelCall, Hello, Message, Ping, Pong, RegisterReply, RegisterRequest,
    SubscribeReply, SubscribeRequest, UnregisterReply, UnregisterReplyCode, UnregisterRequest,
    UnsubscribeReply, UnsubscribeReplyCode, UnsubscribeRequest,
};
use gsb_proto::{
    Body, Frame, FrameRef, Framing, LEVEL, MessageKind, Outgoing, Quoted, Slice, Topic, Violation,
};

use crate::budgets::{Admission, Budgets, Purpose, Room, Sender};
use crate::call_ids::HashedId;
use crate::calls::{CallKey, Calls, Forsaken, RequestId};
use crate::config::{BrokerConfig, LONGEST_TIMEOUT, Limits, MAX_REQUEST_ID};
use crate::connections::{ConnId, Connections, Identity};
use crate::counters::{Counters, Usage};
use crate::effect::{CloseReason, Effects};
use crate::instances::{Instances, MAX_INSTANCE_ID};
use crate::liveness::{Due, Liveness};
use crate::refusal::Refusal;
use crate::services::Services;
use crate::subscriptions::Subscriptions;
use crate::trouble::Dropped;
use crate::waiting::{ForCaller, Waiting};

/// So much is done at once for a connection that ends; the rest while others have their turns. Little, since
/// very many may end at the same time.
const AT_ONCE: usize = 16;

/// So many connections are sent a Ping or closed at once.
const DUE_AT_ONCE: usize = 64;

/// The state of a router.
///
/// Whoever owns it tells it of every event, one at a time, and carries out the [`Effects`] that each
/// has. A [`ConnId`] that the broker has closed is ignored wherever it is passed in.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    hello: Frame,
    connections: Connections,
    instances: Instances,
    services: Services,
    calls: Calls,
    subscriptions: Subscriptions,
    budgets: Budgets,
    liveness: Liveness,
    counters: Counters,
    stall_timeout: Duration,
    /// New calls are refused.
    is_stopping: bool,
    /// Reused by each broadcast.
    subscribers: Vec<ConnId>,
}

/// A frame has to wait, because of what is already queued on somebody's account: it is to be received again.
#[derive(Debug)]
pub struct Wait {
    /// Where there may be room for it at some time.
    pub room: Room,
    /// Whether it waits for its sender itself, which does not read.
    pub is_own_fault: bool,
    /// When to receive it again in any case; `None` if only room helps.
    pub until: Option<Instant>,
}

/// Why a frame was not handled.
enum Unhandled {
    Violation(Violation),
    Wait(Wait, Waiting),
}

impl From<Violation> for Unhandled {
    fn from(violation: Violation) -> Self {
        Unhandled::Violation(violation)
    }
}

impl Broker {
    /// A broker that nobody is connected to.
    pub fn new(config: BrokerConfig) -> Self {
        let limits = config.limits;
        let stall_timeout = config.stall_timeout.min(LONGEST_TIMEOUT);
        Broker {
            limits,
            hello: config.hello.to_frame(),
            connections: Connections::default(),
            instances: Instances::default(),
            services: Services::new(limits.services),
            calls: Calls::new(limits.open_calls),
            subscriptions: Subscriptions::new(limits.subscriptions),
            budgets: Budgets::new(limits.queued_bytes, stall_timeout),
            liveness: Liveness::new(config.ping_timeout),
            counters: Counters::default(),
            stall_timeout,
            is_stopping: false,
            subscribers: Vec::new(),
        }
    }

    /// A peer has connected.
    pub fn connect(&mut self, identity: Identity, now: Instant) -> ConnId {
        let connection = self.connections.add(identity);
        self.budgets.add(connection);
        self.liveness.add(connection, now);
        connection
    }

    /// Where to wait until nothing is queued at the cost of a connection; `None` if it is gone.
    pub fn room(&self, connection: ConnId) -> Option<Room> {
        self.budgets.room(connection)
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
        effects: &mut dyn Effects,
    ) {
        let Some(known) = self.connections.get_mut(connection) else {
            return;
        };
        if known.framing.replace(framing).is_none() && framing == Framing::Packet {
            self.answer(connection, self.hello.clone(), effects);
        }
    }

    /// A frame has come from a peer.
    ///
    /// # Errors
    /// The frame has to wait, and with it all that the peer has sent behind it: nothing more of the peer is
    /// to be received before this frame was.
    pub fn receive(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Result<(), Wait> {
        let Some(connection) = self.connections.get_mut(from) else {
            return Ok(());
        };
        connection.has_begun |= frame.kind != MessageKind::Hello;
        let handled = match connection.waiting.as_deref().copied() {
            None => {
                let handled = self.handle(from, frame, None, now, effects);
                if let Err(Unhandled::Wait(_, waiting)) = &handled {
                    *self.counters.pauses.entry(waiting.reason()).or_default() += 1;
                }
                handled
            }
            Some(waited) => self.handle_again(from, frame, waited, now, effects),
        };
        match handled {
            Ok(()) => Ok(()),
            Err(Unhandled::Violation(violation)) => {
                self.close(from, violation.into(), effects);
                Ok(())
            }
            Err(Unhandled::Wait(wait, waiting)) => {
                if let Some(connection) = self.connections.get_mut(from) {
                    connection.waiting = Some(Box::new(waiting));
                }
                Err(wait)
            }
        }
    }

    /// Handles a frame that has had to wait.
    fn handle_again(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        waited: Waiting,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Result<(), Unhandled> {
        if let Some(connection) = self.connections.get_mut(from) {
            connection.waiting = None;
        }
        // It was not its silence.
        self.liveness.heard(from, now);
        let waited_for = waited.for_caller();
        let handled = self.handle(from, frame, waited_for, now, effects);
        let still_waits = matches!(&handled, Err(Unhandled::Wait(_, Waiting::Caller(_))));
        if let Some(ForCaller { caller, .. }) = waited_for
            && !still_waits
        {
            self.budgets.stop_waiting(caller, from);
        }
        handled
    }

    /// A call was not taken by its service within the stall timeout. Its frame was taken back or, if
    /// `is_begun`, cannot be, since some of it was written. `None` is a call whose end nobody waits for.
    pub fn not_taken(
        &mut self,
        service: ConnId,
        call: Option<CallKey>,
        is_begun: bool,
        effects: &mut dyn Effects,
    ) {
        let timeout = self.stall_timeout;
        let Some(key) = call else {
            if !is_begun {
                self.dropped(service, Dropped::PushNotTaken { timeout }, effects);
            }
            return;
        };
        // What the service was sent a part of, it may still answer.
        let (waiting, refusal) = match is_begun {
            true => (self.calls.give_up(key), Refusal::ServiceSlow { timeout }),
            false => (self.calls.take_back(key), Refusal::ServiceStalled { timeout }),
        };
        if let Some(waiting) = waiting {
            self.end_call(waiting, service, refusal, effects);
        }
    }

    /// From now on new calls are refused, while those that are open go on.
    pub fn begin_to_stop(&mut self) {
        self.is_stopping = true;
    }

    /// Ends all calls that are open.
    pub fn end_calls(&mut self, effects: &mut dyn Effects) {
        for key in self.calls.open_calls() {
            if let Some((caller, request_id)) = self.calls.give_up(key) {
                self.end_call((caller, request_id), caller, Refusal::Stopped, effects);
            }
        }
    }

    /// Ends a connection: its names and subscriptions are free, whoever waits for its answers is
    /// answered, its own calls are forgotten. Does nothing if the connection has ended before. If there is
    /// very much to do, the rest is left to [`sweep`](Broker::sweep), which is to be called until nothing is left.
    pub fn close(&mut self, connection: ConnId, reason: CloseReason, effects: &mut dyn Effects) {
        let waiting = self.connections.get(connection);
        let waiting = waiting.and_then(|connection| connection.waiting.as_deref().copied());
        if !self.connections.remove(connection) {
            return;
        }
        if let Some(ForCaller { caller, .. }) = waiting.and_then(|waiting| waiting.for_caller()) {
            self.budgets.stop_waiting(caller, connection);
        }
        *self.counters.closes.entry(reason.reason()).or_default() += 1;
        self.instances.remove_connection(connection);
        self.services.remove_connection(connection);
        self.subscriptions.remove_connection(connection);
        self.liveness.remove_connection(connection);
        self.budgets.remove_connection(connection);
        self.calls.remove_connection(connection, &reason);
        effects.close(connection, reason);
        self.sweep(AT_ONCE, effects);
    }

    /// Goes on with what is left to do for connections that have ended: removes up to so many of their names
    /// and subscriptions, which nobody finds any more, and ends as many of their calls. Returns whether
    /// something is left.
    pub fn sweep(&mut self, budget: usize, effects: &mut dyn Effects) -> bool {
        let mut forsaken = Vec::new();
        let left = self.calls.sweep(budget, &mut forsaken);
        let left = self.services.sweep(left);
        let left = self.subscriptions.sweep(left);
        forsaken.sort_unstable_by_key(|call| call.serial);
        for Forsaken { caller, request_id, reason, .. } in forsaken {
            let refusal = Refusal::ServiceGone { reason };
            self.count(&refusal);
            self.answer(caller, refusal.call_reply(&request_id), effects);
        }
        left == 0
    }

    /// When [`Broker::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.liveness.next_deadline()
    }

    /// Time has passed: silent connections are sent a Ping or closed. If they are very many, only some are,
    /// and the [next deadline](Broker::next_deadline) is over still.
    pub fn tick(&mut self, now: Instant, effects: &mut dyn Effects) {
        for _ in 0..DUE_AT_ONCE {
            let connections = &self.connections;
            // A connection whose framing is unknown has no form for a Ping.
            let may_ping = |id| connections.get(id).is_some_and(|c| c.framing.is_some());
            // Nothing is heard of one that nothing is read from.
            let is_excused = |id| connections.get(id).is_some_and(|c| c.waiting.is_some());
            match self.liveness.next_due(now, may_ping, is_excused) {
                None => return,
                Some(Due::Ping(to)) => self.answer(to, Ping {}.to_frame(), effects),
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

    /// What the broker holds now. All zero when nobody is connected.
    pub fn usage(&self) -> Usage {
        Usage {
            connections: self.connections.len(),
            services: self.services.len(),
            subscriptions: self.subscriptions.len(),
            open_calls: self.calls.len(),
            abandoned_calls: self.calls.abandoned(),
            instances: self.instances.len(),
            budgets: self.budgets.len(),
            deadlines: self.liveness.len(),
        }
    }

    fn handle(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        waited: Option<ForCaller>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Result<(), Unhandled> {
        // Whatever comes may have to be answered.
        if let Admission::Wait(room, _) | Admission::Stalled(room) =
            self.budgets.admit_answer(from, now)
        {
            let wait = Wait { room, is_own_fault: true, until: None };
            return Err(Unhandled::Wait(wait, Waiting::Answers));
        }
        match frame.kind {
            MessageKind::Hello => self.hello(from, &frame.decode()?, effects)?,
            MessageKind::RegisterRequest => {
                let RegisterRequest { service_id } = frame.decode()?;
                let connections = &self.connections;
                let is_live = |id| connections.get(id).is_some();
                let reply = match self.services.register(from, &service_id, is_live) {
                    Ok(()) => RegisterReply::default().to_frame(),
                    Err(refusal) => self.refused(from, refusal, Refusal::register_reply, effects),
                };
                self.answer(from, reply, effects);
            }
            MessageKind::UnregisterRequest => {
                let UnregisterRequest { service_id } = frame.decode()?;
                let code = match self.services.unregister(from, &service_id) {
                    true => UnregisterReplyCode::UnregisteredOk,
                    false => UnregisterReplyCode::NotRegistered,
                };
                self.answer(from, UnregisterReply { code: code.into() }.to_frame(), effects);
            }
            MessageKind::SubscribeRequest => {
                let SubscribeRequest { topic } = frame.decode()?;
                let reply = match self.subscriptions.subscribe(from, &topic) {
                    Ok(()) => SubscribeReply::default().to_frame(),
                    Err(refusal) => self.refused(from, refusal, Refusal::subscribe_reply, effects),
                };
                self.answer(from, reply, effects);
            }
            MessageKind::UnsubscribeRequest => {
                let UnsubscribeRequest { topic } = frame.decode()?;
                let code = match self.subscriptions.unsubscribe(from, &topic) {
                    true => UnsubscribeReplyCode::UnsubscribedOk,
                    false => UnsubscribeReplyCode::NotSubscribed,
                };
                self.answer(from, UnsubscribeReply { code: code.into() }.to_frame(), effects);
            }
            MessageKind::CallRequest => {
                if let Admission::Wait(room, _) | Admission::Stalled(room) =
                    self.budgets.admit(from, Purpose::Calls, frame.body.bytes.len(), now)
                {
                    let wait = Wait { room, is_own_fault: false, until: None };
                    return Err(Unhandled::Wait(wait, Waiting::Calls));
                }
                let head = CallHead::read(frame.body.bytes)?;
                self.call(from, frame.body, &head, effects);
            }
            MessageKind::CallReply => {
                let head = ReplyHead::read(frame.body.bytes)?;
                self.reply(from, frame.body, &head, waited, now, effects)?;
            }
            MessageKind::BroadcastRequest => {
                let head = BroadcastHead::read(frame.body.bytes)?;
                self.broadcast(from, frame.body, &head, effects);
            }
            MessageKind::Ping => {
                let Ping {} = frame.decode()?;
                self.answer(from, Pong {}.to_frame(), effects);
            }
            MessageKind::Pong => {
                let Pong {} = frame.decode()?;
            }
            MessageKind::CancelCall => {
                if self.connections.get(from).is_some_and(|sender| sender.level < 1) {
                    return Err(Violation::LevelTooLow(frame.kind).into());
                }
                let CancelCall { request_id } = frame.decode()?;
                self.cancel(from, &request_id, effects);
            }
            MessageKind::RegisterReply
            | MessageKind::UnregisterReply
            | MessageKind::SubscribeReply
            | MessageKind::UnsubscribeReply
            | MessageKind::BroadcastReply => {
                return Err(Violation::WrongDirection(frame.kind).into());
            }
        }
        Ok(())
    }

    fn hello(
        &mut self,
        from: ConnId,
        hello: &Hello,
        effects: &mut dyn Effects,
    ) -> Result<(), Violation> {
        let Some(newcomer) = self.connections.get_mut(from) else {
            return Ok(());
        };
        if std::mem::replace(&mut newcomer.hello_seen, true) {
            return Err(Violation::SecondHello);
        }
        newcomer.no_echo = hello.no_echo;
        if !newcomer.has_begun {
            newcomer.level = hello.level.min(LEVEL);
        }
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
        message: Slice<'_>,
        head: &CallHead<'_>,
        effects: &mut dyn Effects,
    ) {
        let request_id = head.request_id.text;
        let service = self.services.find(head.address, |id| self.connections.get(id).is_some());
        let (to, key, new_id) = if head.no_reply {
            let service = match service {
                Some(_) if self.is_stopping => Err(Dropped::Stopping),
                Some(service) => Ok(service),
                None => Err(Dropped::NoService),
            };
            let service = match service {
                Ok(service) => service,
                Err(dropped) => return self.dropped(from, dropped, effects),
            };
            self.counters.pushes += 1;
            let id = self.calls.hash(request_id);
            (service, None, self.calls.id_for_service(service, id))
        } else {
            let id = self.calls.hash(request_id);
            let service = match self.may_call(from, head.address, id, service) {
                Ok(service) => service,
                Err(refusal) => {
                    let write = |refusal: &Refusal| refusal.call_reply(request_id);
                    let reply = self.refused(from, refusal, write, effects);
                    return self.answer(from, reply, effects);
                }
            };
            self.counters.calls += 1;
            let opened = self.calls.open(from, id, service);
            (service, Some(opened.key), opened.new_id)
        };
        let kind = MessageKind::CallRequest;
        let payer = (from, Purpose::Calls);
        match new_id {
            None => self.send(to, Outgoing { kind, slices: &[message] }, payer, key, effects),
            Some(id) => {
                let pieces = head.with_request_id(&message.to_bytes(), &id);
                let frame = Outgoing { kind, slices: &pieces.slices() };
                self.send(to, frame, payer, key, effects);
            }
        }
    }

    /// Ends a call of which its caller wants nothing more, unless it has ended.
    fn cancel(&mut self, from: ConnId, request_id: &str, effects: &mut dyn Effects) {
        let key = self.calls.made(from, self.calls.hash(request_id));
        if let Some(call) = key.and_then(|key| self.calls.give_up(key)) {
            self.end_call(call, from, Refusal::Cancelled, effects);
            // A service may wait for room for a reply to this call.
            self.budgets.wake(from);
        }
    }

    /// Whether a call that wants an answer may be forwarded, and to whom.
    fn may_call(
        &self,
        from: ConnId,
        address: &str,
        id: HashedId<'_>,
        service: Option<ConnId>,
    ) -> Result<ConnId, Refusal> {
        if id.text.len() > MAX_REQUEST_ID {
            let length = id.text.len();
            return Err(Refusal::RequestIdTooLong { length });
        }
        if self.is_stopping {
            return Err(Refusal::Stopping);
        }
        if self.calls.made(from, id).is_some() {
            return Err(Refusal::RequestIdInUse { request_id: Quoted::new(id.text) });
        }
        let limit = self.limits.open_calls;
        if self.calls.made_by(from) >= limit {
            return Err(Refusal::TooManyCalls { limit });
        }
        service.ok_or_else(|| Refusal::NoSuchService { address: Quoted::new(address) })
    }

    fn reply(
        &mut self,
        from: ConnId,
        message: Slice<'_>,
        head: &ReplyHead<'_>,
        waited: Option<ForCaller>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Result<(), Unhandled> {
        let key = self.calls.served(from, head.request_id.text);
        let key = key.filter(|&key| waited.is_none_or(|waited| waited.call == key));
        if let Some(key) = key {
            self.admit_reply(from, key, message, waited, now, effects)?;
        }
        let Some(forward) = key.and_then(|key| self.calls.reply(key, head.is_last)) else {
            if let Some(ForCaller { since, .. }) = waited
                && let Some(service) = self.connections.get_mut(from)
            {
                let time = now.saturating_duration_since(since);
                service.in_vain.add(time, self.stall_timeout, now);
            }
            self.dropped(from, Dropped::StrayReply, effects);
            return Ok(());
        };
        self.counters.replies += 1;
        let kind = MessageKind::CallReply;
        let payer = (forward.caller, Purpose::Replies);
        match forward.new_id {
            None => self.send(
                forward.caller,
                Outgoing { kind, slices: &[message] },
                payer,
                None,
                effects,
            ),
            Some(id) => {
                let pieces = head.with_request_id(&message.to_bytes(), &id);
                let frame = Outgoing { kind, slices: &pieces.slices() };
                self.send(forward.caller, frame, payer, None, effects);
            }
        }
        Ok(())
    }

    /// Makes a reply wait if there is no room for it, or ends its call if it has for too long.
    fn admit_reply(
        &mut self,
        from: ConnId,
        key: CallKey,
        message: Slice<'_>,
        waited: Option<ForCaller>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Result<(), Unhandled> {
        let (Some(caller), Some(service)) = (self.calls.caller(key), self.connections.get(from))
        else {
            return Ok(());
        };
        if self.connections.get(caller).is_none() {
            // Not come to yet since its caller has gone.
            self.calls.give_up(key);
            return Ok(());
        }
        if self.budgets.admit_reply_at_once(caller, message.bytes.len(), from) {
            return Ok(());
        }
        let patience = match waited {
            Some(waited) => waited.patience,
            None => service.in_vain.patience(self.stall_timeout, now),
        };
        let until = waited.map(|waited| waited.until);
        let sender = Sender { id: from, patience, until };
        match self.budgets.admit_reply(caller, message.bytes.len(), sender, now) {
            Admission::Yes => {}
            Admission::Wait(room, until) => {
                let wait = Wait { room, is_own_fault: false, until: Some(until) };
                let waiting = waited.unwrap_or_else(|| {
                    let longest = self.budgets.longest_wait(message.bytes.len());
                    ForCaller { caller, call: key, since: now, patience, until: now + longest }
                });
                return Err(Unhandled::Wait(wait, Waiting::Caller(waiting)));
            }
            Admission::Stalled(_) => {
                if let Some(waiting) = self.calls.give_up(key) {
                    let limit = self.limits.queued_bytes;
                    let refusal = Refusal::CallerStalled { limit, timeout: patience };
                    self.end_call(waiting, caller, refusal, effects);
                }
            }
        }
        Ok(())
    }

    fn broadcast(
        &mut self,
        from: ConnId,
        message: Slice<'_>,
        head: &BroadcastHead<'_>,
        effects: &mut dyn Effects,
    ) {
        let topic = match Topic::new(head.topic) {
            Ok(topic) => topic,
            Err(error) => {
                let reply = self.refused(from, error.into(), Refusal::broadcast_reply, effects);
                return self.answer(from, reply, effects);
            }
        };
        self.answer(from, BroadcastReply::default().to_frame(), effects);
        self.counters.broadcasts += 1;
        let connections = &self.connections;
        let is_live = |id| connections.get(id).is_some();
        self.subscriptions.find(&topic, &mut self.subscribers, is_live);
        if self.connections.get(from).is_some_and(|sender| sender.no_echo) {
            self.subscribers.retain(|&to| to != from);
        }
        let subscribers = std::mem::take(&mut self.subscribers);
        let kind = MessageKind::BroadcastRequest;
        // For copies that say what was missed, if there are any.
        let mut shared = None;
        for &to in &subscribers {
            let Some(subscriber) = self.connections.get_mut(to) else {
                continue;
            };
            let body = match subscriber.missed {
                0 if !head.has_missed => None,
                missed => {
                    let message = shared.get_or_insert_with(|| message.to_bytes());
                    Some(BroadcastHead::with_missed(message, missed))
                }
            };
            let pieces = body.as_ref().map_or([message, Slice::EMPTY, Slice::EMPTY], Body::slices);
            let copy = Outgoing { kind, slices: &pieces };
            if self.budgets.has_room_for_broadcast(to, copy.body_len()) {
                subscriber.missed = 0;
                self.counters.deliveries += 1;
                self.send(to, copy, (to, Purpose::Broadcasts), None, effects);
            } else {
                subscriber.missed += 1;
                let limit = self.limits.queued_bytes;
                self.dropped(to, Dropped::SlowSubscriber { limit }, effects);
            }
        }
        self.subscribers = subscribers;
    }

    /// Says something for the router itself.
    fn answer(&mut self, to: ConnId, frame: Frame, effects: &mut dyn Effects) {
        let frame = Outgoing { kind: frame.kind, slices: &frame.body.slices() };
        self.send(to, frame, (to, Purpose::Answers), None, effects);
    }

    fn send(
        &mut self,
        to: ConnId,
        frame: Outgoing<'_>,
        (payer, purpose): (ConnId, Purpose),
        call: Option<CallKey>,
        effects: &mut dyn Effects,
    ) {
        if self.connections.get(to).is_none() {
            // A caller that has gone, of whose calls one was not come to yet.
            return;
        }
        let cost = self.budgets.cost(payer, purpose, frame.body_len(), call);
        effects.send(to, frame, cost);
    }

    /// Answers somebody who has waited for the end of a call, and says whose fault it is.
    fn end_call(
        &mut self,
        (caller, request_id): (ConnId, RequestId),
        culprit: ConnId,
        refusal: Refusal,
        effects: &mut dyn Effects,
    ) {
        let write = |refusal: &Refusal| refusal.call_reply(&request_id);
        let reply = self.refused(culprit, refusal, write, effects);
        self.answer(caller, reply, effects);
    }

    /// Counts and reports a refusal on its way to becoming a reply.
    fn refused(
        &mut self,
        culprit: ConnId,
        refusal: Refusal,
        write: impl FnOnce(&Refusal) -> Frame,
        effects: &mut dyn Effects,
    ) -> Frame {
        self.count(&refusal);
        let reply = write(&refusal);
        effects.report(culprit, refusal.into());
        reply
    }

    fn count(&mut self, refusal: &Refusal) {
        *self.counters.refusals.entry(refusal.reason()).or_default() += 1;
    }

    fn dropped(&mut self, culprit: ConnId, dropped: Dropped, effects: &mut dyn Effects) {
        *self.counters.drops.entry(dropped.reason()).or_default() += 1;
        effects.report(culprit, dropped.into());
    }
}
