//! What the handles of a connection and its tasks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gsb_net::Link;
use gsb_proto::messages::{
    BroadcastRequest, CallReply, CallRequest, Message, Pong, RegisterRequest, SubscribeRequest,
    UnregisterRequest, UnsubscribeRequest,
};
use gsb_proto::{Frame, MessageKind, PrefixMap, Topic, Violation};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::builder::BusBuilder;
use crate::calls::{Calls, Waiting};
use crate::control::{self, Answer, Control};
use crate::error::{Error, LostReason};
use crate::queue::Queue;
use crate::services::{self, Service};
use crate::subscriptions::{Broadcast, Subscriptions};

/// What framing and a router's id of a call may add to a message on its way. In bytes.
const FRAME_ROOM: usize = 64;

/// A connection to a router: its socket and everything that waits for something from it.
#[derive(Debug)]
pub(crate) struct Shared {
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

#[derive(Debug, Default)]
struct State {
    lost: Option<LostReason>,
    calls: Calls,
    control: Control,
    services: PrefixMap<Arc<Service>>,
    subscriptions: Subscriptions,
}

impl State {
    fn check(&self) -> Result<(), Error> {
        match &self.lost {
            None => Ok(()),
            Some(reason) => Err(Error::ConnectionLost(reason.clone())),
        }
    }
}

/// `false` if it is not there, or another has its name by now.
fn remove_service(state: &mut State, service: &Arc<Service>) -> bool {
    let id = service.id.as_str();
    let is_there = state.services.get(id).is_some_and(|found| Arc::ptr_eq(found, service));
    if is_there {
        state.services.remove(id);
    }
    is_there
}

impl Shared {
    pub(crate) fn new(link: Link, options: BusBuilder, instance_id: Uuid) -> Self {
        let id_prefix = instance_id.simple().to_string()[..8].to_owned();
        Shared {
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

    /// Sends a frame, when there is room for it.
    pub(crate) async fn send(&self, frame: &Frame) {
        self.link.send(self.options.framing, frame).await;
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

    /// The connection is gone: whatever waits is told so.
    pub(crate) fn lose(&self, reason: LostReason) {
        let mut state = self.state.lock();
        if state.lost.is_some() {
            return;
        }
        state.lost = Some(reason.clone());
        state.calls.lost(&reason);
        state.control.lost(&reason);
        state.subscriptions.lost(&reason);
        drop(state);
        self.link.close();
        self.lost.send_replace(Some(reason));
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
        self.state.lock().calls.forget(request_id);
    }

    /// Makes a service known here and to the router. Calls may come before this returns.
    pub(crate) async fn register(&self, service: &Arc<Service>) -> Result<(), Error> {
        let id = &service.id;
        let service_id = id.to_string();
        let answer = self.ask(id.as_str(), &RegisterRequest { service_id }, |state| match state
            .services
            .insert(id.clone(), service.clone())
        {
            Ok(()) => Ok(true),
            Err(_) => Err(Error::AlreadyRegistered {
                service_id: id.to_string(),
                message: "by this connection".to_owned(),
            }),
        })?;
        let result = self.answered(answer).await;
        if result.is_err() {
            remove_service(&mut self.state.lock(), service);
        }
        result
    }

    /// Takes a service back, here and at the router. Done when this returns; the future only waits
    /// for the router to confirm it.
    pub(crate) fn unregister(
        &self,
        service: &Arc<Service>,
    ) -> impl Future<Output = Result<(), Error>> + use<'_> {
        let service_id = service.id.to_string();
        let asked = self.ask(service.id.as_str(), &UnregisterRequest { service_id }, |state| {
            Ok(remove_service(state, service))
        });
        async { self.answered(asked?).await }
    }

    /// Adds a subscription. It is there from now on; the future waits until the router knows of it.
    pub(crate) fn subscribe(
        &self,
        topic: Topic,
        queue: Arc<Queue<Broadcast>>,
    ) -> Result<(u64, impl Future<Output = Result<(), Error>>), Error> {
        let frame = SubscribeRequest { topic: topic.to_string() }.to_frame();
        let mut state = self.state.lock();
        state.check()?;
        let added = state.subscriptions.add(&topic, queue);
        let must_flush = added.must_ask && self.link.push_urgent(self.options.framing, &frame);
        drop(state);
        if must_flush {
            self.link.flush();
        }
        Ok((added.key, self.answered(added.answer)))
    }

    /// Ends a subscription, here and at the router if it has to be told. Done when this returns; the
    /// future only waits for the router to confirm it.
    pub(crate) fn unsubscribe(
        &self,
        topic: &Topic,
        key: u64,
    ) -> impl Future<Output = Result<(), Error>> + use<'_> {
        let request = UnsubscribeRequest { topic: topic.to_string() };
        let asked =
            self.ask(topic.as_str(), &request, |state| Ok(state.subscriptions.remove(topic, key)));
        async { self.answered(asked?).await }
    }

    /// Announces an event and waits for the router to take it.
    pub(crate) async fn broadcast(&self, event: BroadcastRequest) -> Result<(), Error> {
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
            Ok((Ok(state.control.asked(frame.kind, topic.clone())), must_flush))
        };
        let (asked, must_flush) = self.link.when_room(attempt).await;
        if must_flush {
            self.link.flush();
        }
        self.answered(asked?).await
    }

    /// Changes something here and asks the router to do the same, if `change` says so. Both happen
    /// under one lock: two tasks that undo and redo the same thing must reach the router in the order
    /// in which they changed it here. Therefore it does not wait for room either.
    fn ask(
        &self,
        target: &str,
        request: &impl Message,
        change: impl FnOnce(&mut State) -> Result<bool, Error>,
    ) -> Result<Answer, Error> {
        let frame = request.to_frame();
        let mut state = self.state.lock();
        state.check()?;
        if !change(&mut state)? {
            return Ok(control::answered_already());
        }
        let answer = state.control.asked(frame.kind, target.to_owned());
        let must_flush = self.link.push_urgent(self.options.framing, &frame);
        drop(state);
        if must_flush {
            self.link.flush();
        }
        Ok(answer)
    }

    async fn answered(&self, answer: Answer) -> Result<(), Error> {
        answer.await.unwrap_or_else(|_| Err(self.lost_error()))
    }

    /// A frame has come from the router.
    pub(crate) fn receive(self: &Arc<Self>, frame: &Frame) -> Result<(), LostReason> {
        match frame.kind {
            MessageKind::CallReply => {
                let reply: CallReply = frame.decode()?;
                self.state.lock().calls.reply(&reply);
            }
            MessageKind::CallRequest => {
                let request: CallRequest = frame.decode()?;
                let service = self.state.lock().services.lookup(&request.address).cloned();
                services::serve(self, service, request);
            }
            MessageKind::BroadcastRequest => {
                let event: BroadcastRequest = frame.decode()?;
                self.state.lock().subscriptions.deliver(event);
            }
            MessageKind::SubscribeReply => {
                self.state.lock().subscriptions.answered(frame.decode()?)?;
            }
            MessageKind::RegisterReply
            | MessageKind::UnregisterReply
            | MessageKind::UnsubscribeReply
            | MessageKind::BroadcastReply => self.state.lock().control.reply(frame)?,
            MessageKind::Ping => self.send_urgent(&Pong {}.to_frame()),
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
}
