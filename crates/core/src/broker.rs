//! The broker: passes each event to the rule for it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::task::Waker;
use std::time::Instant;

use gsb_proto::head::{BroadcastHead, CallHead, ReplyHead};
use gsb_proto::messages::{Message, Ping, Pong};
use gsb_proto::{Frame, FrameRef, Framing, MessageKind, Outgoing, Violation};

use crate::calls::{Calls, LostCall, RequestId, Swept};
use crate::close_reason::CloseReason;
use crate::config::{BrokerConfig, LONGEST_TIMEOUT, Limits, SHORTEST_TIMEOUT};
use crate::connections::{Connections, Identity};
use crate::counters::{Counters, Usage};
use crate::effect::Effects;
use crate::flow::{Flow, Progress, Purpose, Verdict};
use crate::ids::{CallKey, ConnId};
use crate::instances::Instances;
use crate::liveness::{Due, Liveness};
use crate::refusal::Refusal;
use crate::services::Services;
use crate::subscriptions::Subscriptions;

/// The number of names, subscriptions and calls that closing a connection removes at once. The rest is left to
/// [`Broker::sweep`]. It is small, because many connections may close at the same time.
const AT_ONCE: usize = 16;

/// The number of silent connections that one tick looks at.
const DUE_AT_ONCE: usize = 64;

/// The state of a router.
///
/// The owner reports every event to it, one at a time, and carries out the [`Effects`]. The broker ignores a [`ConnId`] that
/// it has closed.
#[derive(Debug)]
pub struct Broker {
    pub(crate) limits: Limits,
    pub(crate) hello: Frame,
    pub(crate) connections: Connections,
    pub(crate) instances: Instances,
    pub(crate) services: Services,
    pub(crate) calls: Calls,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) flow: Flow,
    pub(crate) liveness: Liveness,
    pub(crate) counters: Counters,
    /// New calls are refused, with exceptions.
    pub(crate) is_stopping: bool,
    /// All calls are refused.
    pub(crate) has_stopped: bool,
    /// The peers in the slots below this one were told that the router stops or, then, that it has stopped.
    pub(crate) told: usize,
    /// The entries of the table of calls that are still to be ended; `None` if no calls are being ended.
    pub(crate) ending: Option<Range<usize>>,
    /// Reused by each broadcast.
    pub(crate) subscribers: Vec<ConnId>,
}

/// A frame does not fit into the account that pays for it. It and all later frames of the peer have to wait. The waker
/// of the connection is woken when the frame is to be received again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backpressure;

impl Broker {
    /// A broker without connections.
    pub fn new(mut config: BrokerConfig) -> Self {
        let limits = config.limits;
        config.stall_timeout = config.stall_timeout.clamp(SHORTEST_TIMEOUT, LONGEST_TIMEOUT);
        config.write_timeout = config.write_timeout.min(LONGEST_TIMEOUT);
        Broker {
            limits,
            hello: config.hello.to_frame(),
            connections: Connections::default(),
            instances: Instances::default(),
            services: Services::new(limits.services),
            calls: Calls::new(limits.open_calls),
            subscriptions: Subscriptions::new(limits.subscriptions),
            liveness: Liveness::new(config.ping_timeout, config.frame_timeout),
            flow: Flow::new(config),
            counters: Counters::default(),
            is_stopping: false,
            has_stopped: false,
            told: 0,
            ending: None,
            subscribers: Vec::new(),
        }
    }

    /// Replaces the limits. What a connection holds stays, also if it is more than a lower limit allows. Nothing new is
    /// admitted then until the connection holds less.
    pub fn set_limits(&mut self, limits: Limits, memory_limit: usize) {
        self.limits = limits;
        self.services.set_limit(limits.services);
        self.calls.set_orphaned_limit(limits.open_calls);
        self.subscriptions.set_limit(limits.subscriptions);
        self.flow.set_limits(limits, memory_limit);
    }

    /// A peer has connected. `waker` is woken, possibly under a lock, when a frame that [had to wait](Backpressure) is to
    /// be received again; it must not use the broker.
    pub fn connect(&mut self, identity: Identity, waker: Waker, now: Instant) -> ConnId {
        let connection = self.connections.add(identity);
        self.flow.add(connection, waker, now);
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
    /// The frame has to wait: receive nothing of the peer before this frame was received again.
    pub fn receive(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Result<(), Backpressure> {
        let Some(connection) = self.connections.get_mut(from) else {
            return Ok(());
        };
        connection.has_begun |= frame.kind != MessageKind::Hello;
        self.release_capacity();
        let was_paused = self.flow.paused(from).is_some();
        if was_paused {
            // A paused connection is exempt from the ping timeout.
            self.liveness.heard(from, now);
        }
        match self.handle(from, frame, now, effects) {
            Ok(true) => {}
            Ok(false) => {
                if let Some((_, purpose)) = self.flow.paused(from).filter(|_| !was_paused) {
                    *self.counters.pauses.entry(purpose.name()).or_default() += 1;
                }
                return Err(Backpressure);
            }
            Err(violation) => self.close(from, violation.into(), effects),
        }
        if was_paused {
            self.flow.resume(from);
        }
        Ok(())
    }

    /// Looks at a peer whose socket is full, or was when it was looked at last; due 16 times in a stall timeout.
    /// `callers` are the [paused callers](crate::Charge::paused_caller) of calls in its outbox. Closes a dead peer.
    ///
    /// Returns whether the peer has just stalled. Then tell so to the [charges](crate::Charge::stall) of its outbox, and
    /// [end](Broker::end_stalled_call) the calls in there.
    pub fn look_at_slow_peer(
        &mut self,
        peer: ConnId,
        progress: Progress,
        callers: &BTreeSet<ConnId>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> bool {
        let verdict = self.flow.look(peer, progress, callers, now);
        if verdict == Verdict::Dead {
            self.close(peer, CloseReason::NotReading(self.flow.config.write_timeout), effects);
        }
        verdict == Verdict::Stalled
    }

    /// A call is in the outbox of a service that has stalled. It may still reach the service.
    pub fn end_stalled_call(&mut self, service: ConnId, call: CallKey, effects: &mut dyn Effects) {
        let refusal = Refusal::ServiceStalled { timeout: self.flow.config.stall_timeout };
        self.abort(call, service, refusal, effects);
    }

    /// The broker has received all whole frames of a peer, and `bytes` of an unfinished frame are left. If the memory
    /// limit is exceeded, the connection with the largest unfinished frame is closed.
    pub fn unfinished(&mut self, connection: ConnId, bytes: usize, effects: &mut dyn Effects) {
        if self.connections.get(connection).is_none() {
            return;
        }
        self.liveness.set_within_frame(connection, bytes > 0);
        if let Some((largest, bytes)) = self.flow.set_unfinished(connection, bytes) {
            self.close(largest, CloseReason::MemoryShort(bytes), effects);
        }
    }

    /// Closes a connection: its names and subscriptions are free, the callers of its services are answered, and its own
    /// calls are orphaned. Does nothing if the connection was closed before. If there is much to remove, call
    /// [`sweep`](Broker::sweep) until nothing is left.
    pub fn close(&mut self, connection: ConnId, reason: CloseReason, effects: &mut dyn Effects) {
        if !self.connections.remove(connection) {
            return;
        }
        *self.counters.closes.entry(reason.reason()).or_default() += 1;
        self.instances.remove_connection(connection);
        self.services.remove_connection(connection);
        self.subscriptions.remove_connection(connection);
        self.liveness.remove_connection(connection);
        self.flow.remove(connection);
        self.calls.remove_connection(connection, &reason);
        effects.close(connection, reason);
        self.sweep(AT_ONCE, effects);
    }

    /// Continues the removal of closed connections: at most `budget` names, subscriptions and calls. Lookups do not find
    /// the names any more. Returns whether something is left.
    pub fn sweep(&mut self, budget: usize, effects: &mut dyn Effects) -> bool {
        let mut swept = Swept::default();
        let left = self.calls.sweep(budget, &mut swept);
        let left = self.services.sweep(left);
        let left = self.subscriptions.sweep(left);
        swept.orphans.sort_unstable_by_key(|call| call.serial);
        for orphan in &swept.orphans {
            self.cancel_at_service(orphan, effects);
        }
        swept.lost.sort_unstable_by_key(|call| call.serial);
        for LostCall { caller, request_id, reason, .. } in swept.lost {
            let refusal = Refusal::ServiceGone { reason };
            self.count(&refusal);
            self.answer(caller, refusal.call_reply(&request_id), effects);
        }
        self.release_capacity();
        left == 0
    }

    /// When [`Broker::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.liveness.next_deadline().into_iter().chain(self.next_call_deadline()).min()
    }

    /// When the deadlines of calls are to be looked at next: when one passes, or before. A frame may make it earlier, and so
    /// the [next deadline](Broker::next_deadline).
    #[inline]
    pub fn next_call_deadline(&self) -> Option<Instant> {
        self.calls.next_deadline()
    }

    /// Ends calls whose deadlines have passed, and sends a Ping to connections that were silent, or closes them: a limited
    /// number of each at once. If more are left, the [next deadline](Broker::next_deadline) is in the past, and `tick` has
    /// to be called again.
    pub fn tick(&mut self, now: Instant, effects: &mut dyn Effects) {
        self.end_expired_calls(now, effects);
        for _ in 0..DUE_AT_ONCE {
            let connections = &self.connections;
            // A connection whose framing is unknown has no form for a Ping.
            let may_ping = |id| connections.get(id).is_some_and(|c| c.framing.is_some());
            // A paused connection is not read, so it is exempt from the ping and frame timeouts.
            let is_excused = |id| self.flow.paused(id).is_some();
            match self.liveness.next_due(now, may_ping, is_excused) {
                None => return,
                Some(Due::Ping(to)) => self.answer(to, Ping {}.to_frame(), effects),
                Some(Due::Close(connection, reason)) => self.close(connection, reason, effects),
                Some(Due::Nothing) => {}
            }
        }
    }

    /// The work of choosing among the owners of names since this was called last: one step for each owner that was looked
    /// up, and for each eight owners that were compared. Most calls have a single owner and take no step, but others may
    /// take thousands.
    #[inline]
    pub fn take_steps(&mut self) -> usize {
        std::mem::take(&mut self.services.groups.steps)
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the broker holds now. All values are zero without connections.
    pub fn usage(&self) -> Usage {
        Usage {
            connections: self.connections.len(),
            services: self.services.len(),
            subscriptions: self.subscriptions.len(),
            open_calls: self.calls.len(),
            orphaned_calls: self.calls.orphaned(),
            instances: self.instances.len(),
            accounts: self.flow.len(),
            deadlines: self.liveness.len() + self.calls.deadlines(),
        }
    }

    /// Returns whether the frame is admitted; if not, it has to wait.
    fn handle(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Result<bool, Violation> {
        let is_admitted = match frame.kind {
            MessageKind::CallRequest => self.flow.admit_call(from, frame.body.bytes.len()),
            // A peer that does not read the router's answers is not read (LI-2).
            _ => self.flow.admit(from, (from, Purpose::Answers), 0),
        };
        if !is_admitted {
            return Ok(false);
        }
        match frame.kind {
            MessageKind::Hello => self.hello(from, &frame.decode()?, effects)?,
            MessageKind::RegisterRequest => self.register(from, frame.decode()?, effects),
            MessageKind::UnregisterRequest => self.unregister(from, frame.decode()?, effects),
            MessageKind::SubscribeRequest => self.subscribe(from, frame.decode()?, effects),
            MessageKind::UnsubscribeRequest => self.unsubscribe(from, frame.decode()?, effects),
            MessageKind::CallRequest => {
                self.call(from, frame, &CallHead::read(frame.body.bytes)?, now, effects);
            }
            MessageKind::CallReply => {
                let head = ReplyHead::read(frame.body.bytes)?;
                return Ok(self.reply(from, frame, &head, effects));
            }
            MessageKind::BroadcastRequest => {
                self.broadcast(from, frame.body, &BroadcastHead::read(frame.body.bytes)?, effects);
            }
            MessageKind::Ping => {
                let Ping {} = frame.decode()?;
                self.answer(from, Pong {}.to_frame(), effects);
            }
            MessageKind::Pong => {
                let Pong {} = frame.decode()?;
            }
            MessageKind::CancelCall => self.cancel(from, frame, effects)?,
            MessageKind::StreamCredit => return self.stream_credit(from, frame, effects),
            MessageKind::CallData => return self.call_data(from, frame, effects),
            MessageKind::RegisterReply
            | MessageKind::UnregisterReply
            | MessageKind::SubscribeReply
            | MessageKind::UnsubscribeReply
            | MessageKind::BroadcastReply
            | MessageKind::GoAway
            | MessageKind::NameLost => {
                return Err(Violation::WrongDirection(frame.kind));
            }
        }
        Ok(true)
    }

    /// Sends a frame of the router itself, charged to its receiver.
    pub(crate) fn answer(&mut self, to: ConnId, frame: Frame, effects: &mut dyn Effects) {
        let frame = Outgoing { kind: frame.kind, slices: &frame.body.slices() };
        self.send(to, frame, (to, Purpose::Answers), None, effects);
    }

    pub(crate) fn send(
        &mut self,
        to: ConnId,
        frame: Outgoing<'_>,
        (payer, purpose): (ConnId, Purpose),
        call: Option<CallKey>,
        effects: &mut dyn Effects,
    ) {
        // Otherwise the caller has gone, and `sweep` has not removed its call yet.
        if let Some(cost) = self.flow.cost(payer, purpose, frame.body_len(), call) {
            effects.send(to, frame, cost);
        }
    }

    /// Sends the caller the last reply of a call that has ended, and reports the connection that caused it.
    pub(crate) fn end_call(
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
    pub(crate) fn refused(
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

    pub(crate) fn count(&mut self, refusal: &Refusal) {
        *self.counters.refusals.entry(refusal.reason()).or_default() += 1;
    }

    pub(crate) fn dropped(&mut self, culprit: ConnId, why: Refusal, effects: &mut dyn Effects) {
        *self.counters.drops.entry(why.reason()).or_default() += 1;
        effects.report(culprit, why.into());
    }
}
