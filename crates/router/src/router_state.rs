//! The state that all tasks of a router share: the broker, and the links of its connections.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use gsb_core::{
    Broker, BrokerConfig, CallKey, CloseReason, ConnId, Cost, Counters, Effects, Identity,
    LONGEST_TIMEOUT, Limits, Progress, Report, Usage,
};
use gsb_net::{Inbox, LeftOut, Link, LogLimit, Peek};
use gsb_proto::{Framing, MessageKind, Outgoing, Violation};
use log::Level;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::batches::{Batches, Collected};
use crate::clock::Clock;
use crate::deferred::{Deferred, Event};
use crate::queued_frame::QueuedFrame;
use crate::turn::{BATCH, Turn};

/// How many steps of longer work run under one lock.
const STEPS: usize = 256;

/// The state that all tasks of a router share.
#[derive(Debug)]
pub(crate) struct RouterState {
    pub(crate) clock: Clock,
    /// The shorter of the stall timeout and the write timeout.
    pub(crate) read_timeout: Duration,
    state: Mutex<Locked>,
    /// Notified when the router stops and no call is open.
    idle: Notify,
    /// Notified when the deadline of a call is earlier than the next tick.
    next_tick: Notify,
    /// Held by the task that clears up after ended connections.
    turn_to_sweep: Semaphore,
}

/// The result of routing a batch of frames.
#[derive(Debug)]
pub(crate) enum Routed {
    /// No complete frame is left.
    All,
    /// There may be more frames.
    Some,
    /// The next frame has to wait, until the waker of the connection is woken.
    Paused,
}

#[derive(Debug)]
struct Locked {
    broker: Broker,
    /// The peers, by the slots of their connections.
    peers: Vec<Option<Peer>>,
    /// No more connections are accepted.
    is_stopping: bool,
    /// Empty whenever the state is not locked. They are kept for reuse of their memory.
    batches: Batches,
    /// One limit for the log messages of each reason, so that peers that reconnect cannot fill the log.
    logged: HashMap<&'static str, LogLimit>,
    /// The time of the last event.
    now: Instant,
    /// When the broker's timers are looked at next.
    next_tick: Instant,
}

#[derive(Debug)]
struct Peer {
    id: ConnId,
    identity: Identity,
    link: Arc<Link<QueuedFrame>>,
    framing: Option<Framing>,
    /// One limit for its log messages of each reason.
    logged: Vec<(&'static str, LogLimit)>,
}

impl RouterState {
    pub(crate) fn new(config: BrokerConfig, clock: Clock) -> Self {
        let now = clock.now();
        let read_timeout = config.stall_timeout.min(config.write_timeout).min(LONGEST_TIMEOUT);
        RouterState {
            clock,
            read_timeout,
            state: Mutex::new(Locked {
                broker: Broker::new(config),
                peers: Vec::new(),
                batches: Batches::default(),
                is_stopping: false,
                logged: HashMap::new(),
                now,
                next_tick: now,
            }),
            idle: Notify::new(),
            next_tick: Notify::new(),
            turn_to_sweep: Semaphore::new(1),
        }
    }

    /// Adds a connection. `waker` resumes its task after a pause. Returns `None` if the router stops.
    pub(crate) fn connect(
        &self,
        identity: Identity,
        link: Arc<Link<QueuedFrame>>,
        waker: Waker,
    ) -> Option<ConnId> {
        let mut state = self.state.lock();
        if state.is_stopping {
            return None;
        }
        let id = state.broker.connect(identity.clone(), waker, self.clock.now());
        let slot = id.slot();
        if slot >= state.peers.len() {
            state.peers.resize_with(slot + 1, || None);
        }
        state.peers[slot] = Some(Peer { id, identity, link, framing: None, logged: Vec::new() });
        Some(id)
    }

    /// Routes a batch of the complete frames of a peer. The writes to the receivers are done, or left to
    /// [`run_for_a_while`](Deferred::run_for_a_while).
    ///
    /// # Errors
    /// The peer broke the protocol after the frames that were routed.
    pub(crate) fn receive(
        &self,
        from: ConnId,
        inbox: &mut Inbox,
        deferred: &mut Deferred,
    ) -> Result<Routed, Violation> {
        // A large frame is removed from the buffer, which takes time.
        let found = inbox.first().map(drop);
        self.under_lock(deferred, |state, deferred| {
            let (broker, mut effects) = state.split(deferred);
            let now = effects.now;
            broker.heard(from, now);
            if let Some(framing) = inbox.framing()
                && effects.framing_known(from, framing)
            {
                broker.framing_known(from, framing, &mut effects);
            }
            found?;
            // The router's clock may stand still, so this uses the clock of the system.
            let mut turn = Turn::new(tokio::time::Instant::now());
            loop {
                let frame = match inbox.peek()? {
                    Peek::Frame(frame) => frame,
                    Peek::Undecoded => return Ok(Routed::Some),
                    Peek::Incomplete => {
                        broker.unfinished(from, inbox.unfinished(), &mut effects);
                        return Ok(Routed::All);
                    }
                };
                let (kind, length) = (frame.kind, frame.body.bytes.len());
                if broker.receive(from, frame, now, &mut effects).is_err() {
                    return Ok(Routed::Paused);
                }
                inbox.consume();
                turn.add_steps(broker.take_steps());
                if turn.is_over(kind, length, tokio::time::Instant::now) {
                    return Ok(Routed::Some);
                }
            }
        })
    }

    /// See [`Broker::look_at_slow_peer`].
    pub(crate) fn look_at_slow_peer(
        &self,
        peer: ConnId,
        progress: Progress,
        callers: &BTreeSet<ConnId>,
    ) -> bool {
        self.with_broker(|broker, now, effects| {
            broker.look_at_slow_peer(peer, progress, callers, now, effects)
        })
    }

    /// Ends the calls in the outbox of a service that has stalled. There may be many, so other tasks run in between.
    pub(crate) async fn end_stalled_calls(&self, service: ConnId, calls: Vec<CallKey>) {
        for calls in calls.chunks(BATCH) {
            self.with_broker(|broker, _, effects| {
                calls.iter().for_each(|call| broker.end_stalled_call(service, *call, effects));
            });
            tokio::task::yield_now().await;
        }
    }

    /// Reports the end of a connection.
    pub(crate) fn close(&self, connection: ConnId, reason: CloseReason) {
        self.with_broker(|broker, _, effects| broker.close(connection, reason, effects));
    }

    /// Clears up after ended connections in short steps, between which other tasks run.
    pub(crate) async fn sweep(&self) {
        // The semaphore is never closed.
        let _turn = self.turn_to_sweep.acquire().await;
        self.in_steps(|broker, effects| broker.sweep(STEPS, effects)).await;
    }

    /// Time has passed. Returns when to call again, unless the [next tick is earlier](RouterState::earlier_tick) then.
    pub(crate) fn tick(&self) -> Instant {
        self.under_lock(&mut Deferred::default(), |state, deferred| {
            let (broker, mut effects) = state.split(deferred);
            let now = effects.now;
            broker.tick(now, &mut effects);
            // The clock has to be looked at, too.
            let latest = now + self.clock.beat();
            let next = broker.next_deadline().map_or(latest, |deadline| deadline.min(latest));
            drop(effects);
            state.next_tick = next;
            next
        })
    }

    /// Completes when a call was made whose deadline is earlier than the next tick.
    pub(crate) async fn earlier_tick(&self) {
        self.next_tick.notified().await;
    }

    /// Takes no more connections and calls, and tells the peers.
    pub(crate) async fn begin_to_stop(&self) {
        self.state.lock().is_stopping = true;
        self.in_steps(|broker, effects| broker.begin_to_stop(STEPS, effects)).await;
    }

    /// Completes when no call is open, once the router has [begun to stop](RouterState::begin_to_stop).
    pub(crate) async fn is_idle(&self) {
        loop {
            let mut idle = pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.usage().open_calls == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Takes no more calls, ends the open ones, and sends the peers the last message.
    pub(crate) async fn finish_stopping(&self) {
        self.in_steps(|broker, effects| broker.finish_stopping(STEPS, effects)).await;
    }

    /// Accepts no more connections, and returns the links of the open ones.
    pub(crate) fn stop(&self) -> Vec<Arc<Link<QueuedFrame>>> {
        self.state.lock().is_stopping = true;
        let mut links = Vec::new();
        for begin in (0..).step_by(STEPS) {
            let state = self.state.lock();
            let Some(peers) = state.peers.get(begin..) else {
                break;
            };
            links.extend(peers.iter().take(STEPS).flatten().map(|peer| peer.link.clone()));
        }
        links
    }

    pub(crate) fn set_limits(&self, limits: Limits, memory_limit: usize) {
        self.state.lock().broker.set_limits(limits, memory_limit);
    }

    pub(crate) fn counters(&self) -> Counters {
        self.state.lock().broker.counters().clone()
    }

    pub(crate) fn usage(&self) -> Usage {
        self.state.lock().broker.usage()
    }

    /// Lets the broker do work in short steps, between which other tasks run, until it returns that nothing is left.
    async fn in_steps(&self, mut step: impl FnMut(&mut Broker, &mut dyn Effects) -> bool) {
        let mut deferred = Deferred::default();
        loop {
            let is_left = self.under_lock(&mut deferred, |state, deferred| {
                let (broker, mut effects) = state.split(deferred);
                step(broker, &mut effects)
            });
            while deferred.run_for_a_while() {
                tokio::task::yield_now().await;
            }
            if !is_left {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Passes an event to the broker, and does the deferred work after the lock is released.
    fn with_broker<R>(
        &self,
        happen: impl FnOnce(&mut Broker, Instant, &mut dyn Effects) -> R,
    ) -> R {
        let mut deferred = Deferred::default();
        let result = self.under_lock(&mut deferred, |state, deferred| {
            let (broker, mut effects) = state.split(deferred);
            let now = effects.now;
            happen(broker, now, &mut effects)
        });
        deferred.run();
        result
    }

    fn under_lock<R>(
        &self,
        deferred: &mut Deferred,
        happen: impl FnOnce(&mut Locked, &mut Deferred) -> R,
    ) -> R {
        let (result, is_idle, is_due_earlier) = {
            let mut state = self.state.lock();
            state.now = self.clock.now();
            let result = happen(&mut state, deferred);
            let is_idle = state.is_stopping && state.broker.usage().open_calls == 0;
            let deadline = state.broker.next_call_deadline();
            let earlier = deadline.filter(|deadline| *deadline < state.next_tick);
            state.next_tick = earlier.unwrap_or(state.next_tick);
            (result, is_idle, earlier.is_some())
        };
        if is_idle {
            self.idle.notify_waiters();
        }
        if is_due_earlier {
            self.next_tick.notify_one();
        }
        result
    }
}

/// Carries out the effects of the broker at once: queues the frames to send, and removes the connections to close.
/// Frames are queued under the lock, so that the frames from one connection to another, and those that the broker adds,
/// keep their order whichever tasks are at work.
struct Dispatch<'a> {
    peers: &'a mut Vec<Option<Peer>>,
    logged: &'a mut HashMap<&'static str, LogLimit>,
    now: Instant,
    /// They are pushed when the lock is released, at the latest.
    batches: &'a mut Batches,
    deferred: &'a mut Deferred,
}

impl Locked {
    fn split<'a>(&'a mut self, deferred: &'a mut Deferred) -> (&'a mut Broker, Dispatch<'a>) {
        let Locked { broker, peers, batches, logged, now, .. } = self;
        let dispatch = Dispatch { peers, logged, now: *now, batches, deferred };
        (broker, dispatch)
    }
}

impl Effects for Dispatch<'_> {
    fn send(&mut self, to: ConnId, frame: Outgoing<'_>, cost: Cost<'_>) {
        if frame.kind == MessageKind::BroadcastRequest {
            // The next copy is for another peer, so a batch would not help.
            return self.send_alone(to, frame, cost);
        }
        // The broker has checked the limits.
        if let Some(collected) = self.collected(to) {
            collected.push(frame, |before| charge(cost, before));
        }
    }

    fn close(&mut self, connection: ConnId, reason: CloseReason) {
        self.push_all();
        let Some(slot) = self.peers.get_mut(connection.slot()) else {
            return;
        };
        let Some(peer) = slot.take_if(|peer| peer.id == connection) else {
            return;
        };
        self.deferred.close.push(peer.link);
        let allowed = if reason.is_fault() { self.log_allowed(reason.reason()) } else { None };
        let (level, left_out) = match allowed {
            Some(left_out) => (Level::Warn, left_out),
            None => (Level::Debug, LeftOut::NONE),
        };
        if log::log_enabled!(level) {
            let event = Event::Closed(reason);
            self.deferred.log.push((level, connection, peer.identity, event, left_out));
        }
    }

    fn report(&mut self, connection: ConnId, report: Report) {
        let level = if report.is_fault() { Level::Warn } else { Level::Debug };
        let reason = report.reason();
        let Some(Some(peer)) = self.peers.get_mut(connection.slot()) else {
            return;
        };
        if peer.id != connection || !log::log_enabled!(level) {
            return;
        }
        let index = peer.logged.iter().position(|(logged, _)| *logged == reason);
        let index = index.unwrap_or_else(|| {
            peer.logged.push((reason, LogLimit::new(1)));
            peer.logged.len() - 1
        });
        let is_first = peer.logged[index].1.allow().is_some();
        let identity = peer.identity.clone();
        if is_first && let Some(left_out) = self.log_allowed(reason) {
            let event = Event::Report(report);
            self.deferred.log.push((level, connection, identity, event, left_out));
        }
    }
}

/// Pushes collected frames to the link of their receiver.
fn push(collected: &mut Collected, peers: &[Option<Peer>], deferred: &mut Deferred) {
    match collected.to.and_then(|to| peers.get(to.slot())) {
        Some(Some(peer)) => {
            if peer.link.push_batch(&mut collected.frames) {
                deferred.flush.push(peer.link.clone());
            }
        }
        // This does not happen: a connection gets its frames before it is closed.
        _ => collected.frames.clear(),
    }
}

/// See [`Cost::charge`].
fn charge(cost: Cost<'_>, before: Option<&mut QueuedFrame>) -> Option<QueuedFrame> {
    cost.charge(before.map(|before| &mut before.0)).map(QueuedFrame)
}

impl Drop for Dispatch<'_> {
    fn drop(&mut self) {
        self.push_all();
    }
}

impl Dispatch<'_> {
    /// The link of a connection, and its framing. The broker sends nothing to a peer whose framing is not known yet.
    fn peer(&self, id: ConnId) -> Option<(&Arc<Link<QueuedFrame>>, Framing)> {
        let peer = self.peers.get(id.slot())?.as_ref().filter(|peer| peer.id == id)?;
        Some((&peer.link, peer.framing?))
    }

    /// Pushes a frame to its link at once, because no other frame for the same peer follows soon.
    fn send_alone(&mut self, to: ConnId, frame: Outgoing<'_>, cost: Cost<'_>) {
        let Dispatch { peers, deferred, .. } = self;
        if let Some(collected) = self.batches.find(to) {
            push(collected, peers, deferred);
        }
        let Some((link, framing)) = self.peer(to) else {
            return;
        };
        if link.push_unlimited(framing, frame, |before| charge(cost, before)) {
            let link = link.clone();
            self.deferred.flush.push(link);
        }
    }

    /// The collected frames for a connection, in which there may be none yet.
    #[inline]
    fn collected(&mut self, to: ConnId) -> Option<&mut Collected> {
        // The compiler does not accept `if let` with an early return here.
        if self.batches.find(to).is_none() {
            let (_, framing) = self.peer(to)?;
            let Dispatch { peers, deferred, .. } = self;
            return Some(self.batches.open(to, framing, |full| push(full, peers, deferred)));
        }
        self.batches.find(to)
    }

    /// Pushes all collected frames to the links of their receivers.
    fn push_all(&mut self) {
        let Dispatch { peers, deferred, .. } = self;
        self.batches.push_all(|collected| push(collected, peers, deferred));
    }

    /// Records the framing of a connection. Returns whether it was unknown before.
    fn framing_known(&mut self, from: ConnId, framing: Framing) -> bool {
        // The slot may belong to another connection since this one was closed.
        let peer = self.peers.get_mut(from.slot()).and_then(Option::as_mut);
        let peer = peer.filter(|peer| peer.id == from && peer.framing.is_none());
        peer.is_some_and(|peer| peer.framing.replace(framing).is_none())
    }

    /// The suffix of a log message for this reason; `None` if the message must not be logged.
    fn log_allowed(&mut self, reason: &'static str) -> Option<LeftOut> {
        self.logged.entry(reason).or_default().allow()
    }
}

#[cfg(test)]
#[path = "router_state_tests.rs"]
pub(crate) mod tests;
