//! What the handles of a connection and its tasks share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gsb_net::Link;
use gsb_proto::messages::{
    BroadcastRequest, CallReply, CallRequest, Message, Pong, RegisterRequest, SubscribeRequest,
    UnregisterRequest, UnsubscribeRequest,
};
use gsb_proto::{Address, Frame, MessageKind, PrefixMap, Topic, Violation};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use uuid::Uuid;

use crate::builder::BusBuilder;
use crate::calls::{Calls, Waiting};
use crate::control::{Control, Outcome, Request, Then};
use crate::error::{Error, LostReason};
use crate::queue::Queue;
use crate::services::{self, ServiceEntry};
use crate::subscriptions::{self, Broadcast, Subscriptions};

/// What framing and a router's id of a call may add to a message on its way. In bytes.
const FRAME_ROOM: usize = 64;

/// A connection to a router: its socket and everything that waits for something from it.
///
/// Nothing that others wrote runs while the state is locked: whoever waits is woken afterwards, and
/// handlers are dropped afterwards. Either may call back.
pub(crate) struct Shared {
    address: Address,
    link: Link,
    options: BusBuilder,
    state: Mutex<State>,
    /// The last handle was dropped; what was sent may still leave.
    finish: Notify,
    /// Set once, when the connection is gone.
    lost: watch::Sender<Option<LostReason>>,
    /// Makes request ids differ from those of other clients, so that routers need not replace them.
    id_prefix: String,
    next_id: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bus").field(&self.address.to_string()).finish()
    }
}

#[derive(Debug, Default)]
struct State {
    lost: Option<LostReason>,
    calls: Calls,
    control: Control,
    services: PrefixMap<Arc<ServiceEntry>>,
    subscriptions: Subscriptions,
}

impl State {
    fn check(&self) -> Result<(), Error> {
        match &self.lost {
            None => Ok(()),
            Some(reason) => Err(Error::NotSent(reason.clone())),
        }
    }
}

/// `false` if it is not there, or another has its name by now.
fn remove_service(state: &mut State, service: &Arc<ServiceEntry>) -> bool {
    let id = service.id.as_str();
    let is_there = state.services.get(id).is_some_and(|found| Arc::ptr_eq(found, service));
    if is_there {
        state.services.remove(id);
    }
    is_there
}

impl Shared {
    pub(crate) fn new(
        address: Address,
        link: Link,
        options: BusBuilder,
        instance_id: Uuid,
    ) -> Self {
        let id_prefix = instance_id.simple().to_string()[..8].to_owned();
        Shared {
            address,
            link,
            options,
            state: Mutex::default(),
            finish: Notify::new(),
            lost: watch::Sender::new(None),
            id_prefix,
            next_id: AtomicU64::new(0),
        }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn options(&self) -> &BusBuilder {
        &self.options
    }

    /// An id that no other call has.
    pub(crate) fn next_request_id(&self) -> String {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:x}", self.id_prefix)
    }

    /// Whether a router of the usual limit accepts the frame.
    pub(crate) fn check_size(&self, frame: &Frame) -> Result<(), Error> {
        let length = frame.body.len() + FRAME_ROOM;
        let limit = self.options.max_frame;
        if length > limit {
            return Err(Error::TooLarge { length, limit });
        }
        Ok(())
    }

    /// Sends a frame, when there is room for it; `false` if the connection is gone.
    pub(crate) async fn send(&self, frame: &Frame) -> bool {
        self.link.send(self.options.framing, frame).await
    }

    /// Sends a small frame at once.
    pub(crate) fn send_urgent(&self, frame: &Frame) {
        if self.link.push_urgent(self.options.framing, frame) {
            self.link.flush();
        }
    }

    pub(crate) fn check_connection(&self) -> Result<(), Error> {
        self.state.lock().check()
    }

    /// The error of everything on a connection that is gone.
    pub(crate) fn lost_error(&self) -> Error {
        let reason = self.state.lock().lost.clone();
        Error::ConnectionLost(reason.unwrap_or(LostReason::Closed))
    }

    /// Waits until the connection is gone.
    pub(crate) async fn wait_lost(&self) -> LostReason {
        let mut lost = self.lost.subscribe();
        // The sender lives as long as `self`.
        match lost.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(LostReason::Closed),
            Err(_) => LostReason::Closed,
        }
    }

    /// Nobody holds the connection any more. What was sent has some time to leave.
    pub(crate) fn finish(&self) {
        self.finish.notify_one();
    }

    /// Waits for [`finish`](Shared::finish).
    pub(crate) async fn finished(&self) {
        self.finish.notified().await;
    }

    /// The connection is gone: whatever waits is told so, and the services are let go.
    pub(crate) fn lose(&self, reason: LostReason) {
        let mut state = self.state.lock();
        if state.lost.is_some() {
            return;
        }
        let State { mut calls, mut control, services, subscriptions, .. } =
            std::mem::take(&mut *state);
        state.lost = Some(reason.clone());
        drop(state);
        self.link.close();
        for call in calls.drain() {
            call.lost(&reason);
        }
        for request in control.drain() {
            if let Then::Tell(waiting) = request.then {
                let _ = waiting.send(Err(Error::ConnectionLost(reason.clone())));
            }
        }
        subscriptions.lost(&reason);
        self.lost.send_replace(Some(reason));
        drop(services);
    }

    pub(crate) fn open_call(
        &self,
        request_id: String,
        address: String,
        waiting: Waiting,
    ) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.check()?;
        state.calls.open(request_id, address, waiting);
        Ok(())
    }

    pub(crate) fn forget_call(&self, request_id: &str) {
        let forgotten = self.state.lock().calls.forget(request_id);
        drop(forgotten);
    }

    /// Makes a service known here and to the router. Calls may come before this returns.
    pub(crate) async fn register(&self, service: &Arc<ServiceEntry>) -> Outcome {
        let service_id = service.id.to_string();
        let answer =
            self.ask(&service_id, &RegisterRequest { service_id: service_id.clone() }, |state| {
                state.check()?;
                if state.services.insert(service.id.clone(), service.clone()).is_err() {
                    let message = format!("this connection has registered {service_id:?} already");
                    return Err(Error::AlreadyRegistered {
                        service_id: service_id.clone(),
                        message,
                    });
                }
                Ok(true)
            });
        let outcome = self.answered(answer?, &service_id).await;
        // A router that is only late may still register it: then whoever drops the registration has
        // to take it back.
        if !matches!(outcome, Ok(()) | Err(Error::Timeout { .. })) {
            remove_service(&mut self.state.lock(), service);
        }
        outcome
    }

    /// Takes a service back, here and at the router. Done when this returns; the future only waits
    /// for the router to confirm it.
    pub(crate) fn unregister<'a>(
        &'a self,
        service: &'a Arc<ServiceEntry>,
    ) -> impl Future<Output = Outcome> + use<'a> {
        let service_id = service.id.to_string();
        let answer = self.ask(&service_id.clone(), &UnregisterRequest { service_id }, |state| {
            let removed = remove_service(state, service);
            state.check().map(|()| removed)
        });
        async { self.answered(answer?, service.id.as_str()).await }
    }

    /// Adds a subscription. It is there from now on; the future waits until the router knows of it.
    pub(crate) fn subscribe<'a>(
        &'a self,
        topic: &'a Topic,
        queue: Arc<Queue<Broadcast>>,
    ) -> Result<(u64, impl Future<Output = Outcome> + use<'a>), Error> {
        let request = SubscribeRequest { topic: topic.to_string() };
        let frame = request.to_frame();
        let mut state = self.state.lock();
        state.check()?;
        let added = state.subscriptions.add(topic, queue);
        let must_flush = added.must_ask.is_some_and(|serial| {
            let then = Then::TellSubscribers { serial };
            state.control.asked(frame.kind, Request { target: request.topic, then });
            self.link.push_urgent(self.options.framing, &frame)
        });
        drop(state);
        if must_flush {
            self.link.flush();
        }
        Ok((added.key, self.answered(added.answer, topic.as_str())))
    }

    /// Ends a subscription, here and at the router if it has to be told. Done when this returns; the
    /// future only waits for the router to confirm it.
    pub(crate) fn unsubscribe<'a>(
        &'a self,
        topic: &'a Topic,
        key: u64,
    ) -> impl Future<Output = Outcome> + use<'a> {
        let request = UnsubscribeRequest { topic: topic.to_string() };
        let answer = self.ask(topic.as_str(), &request, |state| {
            let must_ask = state.subscriptions.remove(topic, key);
            state.check().map(|()| must_ask)
        });
        async { self.answered(answer?, topic.as_str()).await }
    }

    /// Announces an event and waits for the router to take it.
    pub(crate) async fn broadcast(&self, event: BroadcastRequest) -> Outcome {
        let topic = event.topic.clone();
        let frame = event.into_frame();
        self.check_size(&frame)?;
        // The order of sending is the order of the answers, so both happen under one lock.
        let attempt = || {
            let mut state = self.state.lock();
            if let Err(lost) = state.check() {
                return Ok((Err(lost), false));
            }
            let must_flush = self.link.push(self.options.framing, &frame)?;
            let (waiting, answer) = oneshot::channel();
            let request = Request { target: topic.clone(), then: Then::Tell(waiting) };
            state.control.asked(frame.kind, request);
            Ok((Ok(answer), must_flush))
        };
        let (answer, must_flush) = self.link.when_room(attempt).await;
        if must_flush {
            self.link.flush();
        }
        self.answered(answer?, &topic).await
    }

    /// Changes something here and asks the router to do the same, if `change` says so. Both happen
    /// under one lock: two tasks that undo and redo the same thing must reach the router in the order
    /// in which they changed it here. Therefore it does not wait for room either.
    fn ask(
        &self,
        target: &str,
        request: &impl Message,
        change: impl FnOnce(&mut State) -> Result<bool, Error>,
    ) -> Result<oneshot::Receiver<Outcome>, Error> {
        let frame = request.to_frame();
        let (waiting, answer) = oneshot::channel();
        let mut state = self.state.lock();
        if !change(&mut state)? {
            drop(state);
            let _ = waiting.send(Ok(()));
            return Ok(answer);
        }
        let request = Request { target: target.to_owned(), then: Then::Tell(waiting) };
        state.control.asked(frame.kind, request);
        let must_flush = self.link.push_urgent(self.options.framing, &frame);
        drop(state);
        if must_flush {
            self.link.flush();
        }
        Ok(answer)
    }

    /// Waits for the router's answer to a request about `target`.
    async fn answered(&self, answer: oneshot::Receiver<Outcome>, target: &str) -> Outcome {
        let after = self.options.request_timeout;
        match tokio::time::timeout(after, answer).await {
            Ok(Ok(outcome)) => outcome,
            // Whoever would have told has gone with the connection.
            Ok(Err(_)) => Err(self.lost_error()),
            Err(_) => Err(Error::Timeout { target: target.to_owned(), after }),
        }
    }

    /// A frame has come from the router.
    pub(crate) fn receive(self: &Arc<Self>, frame: &Frame) -> Result<(), LostReason> {
        match frame.kind {
            MessageKind::CallReply => self.take_reply(&frame.decode()?),
            MessageKind::CallRequest => {
                let request: CallRequest = frame.decode()?;
                let service = self.state.lock().services.lookup(&request.address).cloned();
                services::serve(self, service, request);
            }
            MessageKind::BroadcastRequest => self.take_event(frame.decode()?),
            MessageKind::RegisterReply
            | MessageKind::UnregisterReply
            | MessageKind::SubscribeReply
            | MessageKind::UnsubscribeReply
            | MessageKind::BroadcastReply => self.take_answer(frame)?,
            MessageKind::Ping => {
                // A router that does not read gets no more of them than it can take.
                if self.link.queued() <= self.options.outbox_limit {
                    self.send_urgent(&Pong {}.to_frame());
                }
            }
            MessageKind::Pong | MessageKind::Hello => {}
            MessageKind::RegisterRequest
            | MessageKind::UnregisterRequest
            | MessageKind::SubscribeRequest
            | MessageKind::UnsubscribeRequest => {
                return Err(Violation::WrongDirection(frame.kind).into());
            }
        }
        Ok(())
    }

    fn take_reply(&self, reply: &CallReply) {
        let pending = self.state.lock().calls.reply(reply);
        if let Some(pending) = pending
            && !pending.deliver(reply)
        {
            self.forget_call(&reply.request_id);
        }
    }

    fn take_event(&self, event: BroadcastRequest) {
        // A router of another make may let through what is no topic; nobody can have subscribed to it.
        let Ok(topic) = Topic::new(&event.topic) else {
            log::debug!("a broadcast to {:?}, which is no topic, is dropped", event.topic);
            return;
        };
        let subscribers = self.state.lock().subscriptions.find(&topic);
        subscriptions::deliver(event, &subscribers);
    }

    fn take_answer(&self, frame: &Frame) -> Result<(), LostReason> {
        let mut state = self.state.lock();
        let (request, outcome) = state.control.reply(frame)?;
        let waiting = match request.then {
            Then::Tell(waiting) => vec![waiting],
            Then::TellSubscribers { serial } => {
                state.subscriptions.answered(&request.target, serial, outcome.is_ok())
            }
        };
        drop(state);
        for waiting in waiting {
            // Whoever asked may not wait any more.
            let _ = waiting.send(outcome.clone());
        }
        Ok(())
    }
}
