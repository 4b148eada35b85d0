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
use tokio::sync::{Notify, oneshot, watch};
use uuid::Uuid;

use crate::builder::BusBuilder;
use crate::calls::{Calls, Waiting};
use crate::control::Control;
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
        self.link.send_urgent(self.options.framing, frame);
    }

    pub(crate) fn check_connection(&self) -> Result<(), Error> {
        match &self.state.lock().lost {
            None => Ok(()),
            Some(reason) => Err(Error::ConnectionLost(reason.clone())),
        }
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
        if let Some(reason) = &state.lost {
            return Err(Error::ConnectionLost(reason.clone()));
        }
        state.calls.open(request_id, address, waiting);
        Ok(())
    }

    pub(crate) fn forget_call(&self, request_id: &str) {
        self.state.lock().calls.forget(request_id);
    }

    /// Makes a service known here and to the router. Calls may come before this returns.
    pub(crate) async fn register(&self, service: &Arc<Service>) -> Result<(), Error> {
        let id = &service.id;
        if self
            .state
            .lock()
            .services
            .insert(id.clone(), service.clone())
            .is_err()
        {
            return Err(Error::AlreadyRegistered {
                service_id: id.to_string(),
                message: "by this connection".to_owned(),
            });
        }
        let request = RegisterRequest {
            service_id: id.to_string(),
        };
        let result = self.ask(&request, id.as_str()).await;
        if result.is_err() {
            self.remove_service(service);
        }
        result
    }

    /// Takes a service back and waits for the router to confirm it.
    pub(crate) async fn unregister(&self, service: &Arc<Service>) -> Result<(), Error> {
        self.remove_service(service);
        let service_id = service.id.to_string();
        self.ask(&UnregisterRequest { service_id }, service.id.as_str())
            .await
    }

    /// Takes a service back without waiting for anything.
    pub(crate) fn unregister_now(&self, service: &Arc<Service>) {
        if self.remove_service(service) {
            let service_id = service.id.to_string();
            self.ask_urgently(&UnregisterRequest { service_id }, service.id.as_str());
        }
    }

    /// `false` if it is not there, or another has its name by now.
    fn remove_service(&self, service: &Arc<Service>) -> bool {
        let mut state = self.state.lock();
        let id = service.id.as_str();
        let is_there = state
            .services
            .get(id)
            .is_some_and(|found| Arc::ptr_eq(found, service));
        if is_there {
            state.services.remove(id);
        }
        is_there
    }

    /// Adds a subscription. It is there from now on; the future waits until the router knows of it.
    pub(crate) fn subscribe(
        &self,
        topic: Topic,
        queue: Arc<Queue<Broadcast>>,
    ) -> Result<(u64, impl Future<Output = Result<(), Error>>), Error> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.lost {
            return Err(Error::ConnectionLost(reason.clone()));
        }
        let added = state.subscriptions.add(&topic, queue);
        if added.must_ask {
            // Not to wait for room: others may wait for the same answer.
            let topic = topic.to_string();
            self.send_urgent(&SubscribeRequest { topic }.to_frame());
        }
        Ok((added.key, self.answered(added.answer)))
    }

    /// Ends a subscription and waits for the router to confirm it, if it has to be told.
    pub(crate) async fn unsubscribe(&self, topic: &Topic, key: u64) -> Result<(), Error> {
        if self.state.lock().subscriptions.remove(topic, key) {
            let topic = topic.to_string();
            self.ask(
                &UnsubscribeRequest {
                    topic: topic.clone(),
                },
                &topic,
            )
            .await?;
        }
        Ok(())
    }

    /// Ends a subscription without waiting for anything.
    pub(crate) fn unsubscribe_now(&self, topic: &Topic, key: u64) {
        if self.state.lock().subscriptions.remove(topic, key) {
            let topic = topic.to_string();
            self.ask_urgently(
                &UnsubscribeRequest {
                    topic: topic.clone(),
                },
                &topic,
            );
        }
    }

    /// Announces an event and waits for the router to take it.
    pub(crate) async fn broadcast(&self, event: BroadcastRequest) -> Result<(), Error> {
        let topic = event.topic.clone();
        let frame = event.into_frame();
        self.check_size(&frame)?;
        self.ask_frame(&frame, &topic).await
    }

    async fn ask(&self, request: &impl Message, target: &str) -> Result<(), Error> {
        self.ask_frame(&request.to_frame(), target).await
    }

    /// Sends a request that is answered without an id, and waits for the answer.
    async fn ask_frame(&self, frame: &Frame, target: &str) -> Result<(), Error> {
        let attempt = || {
            // The order of sending is the order of the answers, so both happen under one lock.
            let mut state = self.state.lock();
            if let Some(reason) = &state.lost {
                return Ok((Err(Error::ConnectionLost(reason.clone())), false));
            }
            let answer = state.control.asked(frame.kind, target.to_owned());
            match self.link.push(self.options.framing, frame) {
                Ok(must_flush) => Ok((Ok(answer), must_flush)),
                Err(full) => {
                    state.control.not_asked(frame.kind);
                    Err(full)
                }
            }
        };
        let (asked, must_flush) = self.link.when_room(attempt).await;
        if must_flush {
            self.link.flush();
        }
        self.answered(asked?).await
    }

    async fn answered(&self, answer: oneshot::Receiver<Result<(), Error>>) -> Result<(), Error> {
        answer.await.unwrap_or_else(|_| Err(self.lost_error()))
    }

    /// Sends a request that undoes something; its answer is of no interest.
    fn ask_urgently(&self, request: &impl Message, target: &str) {
        let frame = request.to_frame();
        let mut state = self.state.lock();
        if state.lost.is_none() {
            drop(state.control.asked(frame.kind, target.to_owned()));
            self.send_urgent(&frame);
        }
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
