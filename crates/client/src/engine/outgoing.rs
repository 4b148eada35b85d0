//! Sending to the router: calls and their cancellation, pushes, broadcasts, pings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gsb_net::Link;
use gsb_proto::messages::{BroadcastRequest, CallRequest};
use gsb_proto::{Frame, Topic};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::engine::Engine;
use crate::engine::credit::Credit;
use crate::engine::deferred::Deferred;
use crate::engine::farewell::Sending;
use crate::engine::limits::{check_size, check_text};
use crate::engine::pending_calls::{PendingCall, ReplyTo};
use crate::engine::request::{Counted, OnReply, Outcome, Request};
use crate::engine::scope::Scope;
use crate::engine::state::{Phase, State};
use crate::engine::subscriptions::Origin;
use crate::error::Error;
use crate::event::Broadcast;
use crate::timeouts::{FOREVER, with_timeout};

/// A call that is about to be sent.
struct Opening {
    number: u64,
    call: PendingCall,
    /// The frame for a router of level 0, or the error there, if that differs.
    plain: Option<Result<Frame, Error>>,
}

impl Engine {
    /// The request id of a call, which no other call has.
    pub(crate) fn request_id(&self, number: u64) -> String {
        format!("{}-{number:x}", self.id_prefix)
    }

    /// The number of the call with this [request id](Engine::request_id).
    pub(crate) fn call_number(&self, request_id: &str) -> Option<u64> {
        let number = request_id.strip_prefix(&self.id_prefix)?.strip_prefix('-')?;
        u64::from_str_radix(number, 16).ok()
    }

    fn next_call(&self) -> u64 {
        self.last_call.fetch_add(1, Ordering::Relaxed)
    }

    fn call_frame(&self, number: u64, request: CallRequest) -> Result<Frame, Error> {
        let mut request = CallRequest { request_id: self.request_id(number), ..request };
        if !request.affinity.is_empty() && self.level.load(Ordering::Relaxed) == 0 {
            request.affinity.clear();
        }
        let texts = [&request.caller, &request.address, &request.request_id, &request.affinity];
        check_text(texts, &request.headers)?;
        Ok(request.into_frame())
    }

    /// Sends a call to the router, whose replies go to `reply_to`. Returns the number of the call.
    pub(crate) async fn open_call(
        &self,
        request: CallRequest,
        reply_to: ReplyTo,
        upload: Option<Arc<Credit>>,
        wait_for_router: Duration,
    ) -> Result<u64, Error> {
        let number = self.next_call();
        let request = CallRequest { more: upload.is_some(), ..request };
        let plain = match (&upload, request.reply_credit) {
            (None, 0) => None,
            (None, _) => {
                let plain = CallRequest { reply_credit: 0, ..request.clone() };
                Some(Ok(self.call_frame(number, plain)?))
            }
            (Some(_), _) => {
                let message = "the connection to the router does not support uploads; they need a router that supports \
                               level 1 of the protocol, and the packet framing";
                let (target, message) = (request.address.clone(), message.to_owned());
                Some(Err(Error::Unsupported { target, message }))
            }
        };
        let call = PendingCall::new(&request, reply_to, upload);
        let opening = Opening { number, call, plain };
        let frame = self.call_frame(number, request)?;
        let sending = Sending::call(opening.call.address());
        self.send(&frame, sending, wait_for_router, Some(opening), |_, _| ()).await?;
        Ok(number)
    }

    /// Sends a push to the router.
    pub(crate) async fn push(
        &self,
        request: CallRequest,
        wait_for_router: Duration,
    ) -> Result<(), Error> {
        let request = CallRequest { no_reply: true, ..request };
        let sending = Sending::call(&request.address);
        let frame = self.call_frame(self.next_call(), request)?;
        let sent = |state: &mut State, _: &mut Deferred| {
            state.with_session(|session| session.has_unflushed = true);
        };
        self.send(&frame, sending, wait_for_router, None, sent).await
    }

    /// Announces an event here and to the router, and waits until the router has taken it. Both happen under one
    /// lock, so that all subscribers see the events of a publisher in the same order. Returns how many receive it: the
    /// connections that the router states, and the subscribers of this process.
    pub(crate) async fn broadcast(
        &self,
        topic: &Topic,
        event: &Broadcast,
        scope: Scope,
    ) -> Counted {
        if scope == Scope::InProcess || !self.has_router {
            tokio::task::coop::consume_budget().await;
            return self.change(|state, deferred| {
                state.check()?;
                Ok(Some(state.deliver(event, topic, Origin::Here, deferred)))
            });
        }
        let Broadcast { topic: name, caller, data, headers } = event.clone();
        let headers = headers.to_proto();
        check_text([&caller, &name], &headers)?;
        let frame = BroadcastRequest { caller, data, topic: name, missed: 0, headers }.into_frame();
        let sent = |state: &mut State, deferred: &mut Deferred| {
            let (sender, answer) = oneshot::channel();
            let (mut origin, mut counts) = (Origin::Here, false);
            state.with_session(|session| {
                let (target, on_reply) = (topic.to_string(), OnReply::Count(sender));
                session.requests.record(Request { kind: frame.kind, target, on_reply });
                if session.echoes {
                    origin = Origin::HereAndRouter;
                }
                counts = session.level >= 1;
            });
            let here = state.deliver(event, topic, origin, deferred);
            (answer, counts.then_some(here))
        };
        let wait_for_router = self.options.wait_for_router;
        let timeout = self.options.request_timeout.max(wait_for_router);
        let answer = self.send(&frame, Sending::Other, wait_for_router, None, sent);
        let answer = with_timeout(Some(timeout), "", answer).await;
        let (answer, here) = answer.map_err(|error| match error {
            Error::Timeout { after, .. } => self.not_sent(Sending::Other, after),
            error => error,
        })?;
        let there = self.answer(answer, topic.as_str()).await?;
        Ok(here.zip(there).map(|(here, there)| there.saturating_add(here)))
    }

    /// Sends a frame to the router when there is room for it. Records the call that it opens, and lets `sent` record
    /// what else follows, before an answer can arrive.
    async fn send<R>(
        &self,
        frame: &Frame,
        mut sending: Sending,
        wait_for_router: Duration,
        mut opening: Option<Opening>,
        mut sent: impl FnMut(&mut State, &mut Deferred) -> R,
    ) -> Result<R, Error> {
        check_size(frame, self.options.max_frame)?;
        // A task that sends without a pause must not starve the others.
        tokio::task::coop::consume_budget().await;
        let deadline =
            (!wait_for_router.is_zero()).then(|| Instant::now() + wait_for_router.min(FOREVER));
        loop {
            let link = self.link(&mut sending, deadline).await?;
            let attempt = || {
                self.change(|state, deferred| {
                    // The connection may have been lost, and made again, while there was no room.
                    let now = state.link_for(sending, self.running_calls.bus());
                    if !now.is_ok_and(|now| Arc::ptr_eq(now, &link)) {
                        return Ok(None);
                    }
                    if let Phase::Up(session) = &mut state.phase {
                        let plain = opening.as_ref().and_then(|opening| opening.plain.as_ref());
                        let plain = plain.filter(|_| session.level < 1);
                        let frame = match plain {
                            Some(Err(error)) => return Ok(Some(Err(error.clone()))),
                            Some(Ok(plain)) => plain,
                            None => frame,
                        };
                        let checked = session.check_size(frame).and_then(|()| match &opening {
                            Some(opening) => session.unanswered.check(opening.call.address()),
                            None => session.requests.check(frame.kind),
                        });
                        if let Err(error) = checked {
                            return Ok(Some(Err(error)));
                        }
                        if link.push(session.framing, frame)? {
                            deferred.flush = Some(link.clone());
                        }
                        if let Some(Opening { number, call, .. }) = opening.take() {
                            if session.level < 1 {
                                call.has_no_credit();
                            }
                            session.calls.open(number, call);
                        }
                    }
                    Ok(Some(Ok(sent(state, deferred))))
                })
            };
            if let Some(result) = link.when_room(attempt).await {
                return result;
            }
        }
    }

    /// The caller no longer waits for a call. A call that has not ended is cancelled at the router.
    pub(crate) fn cancel_call(&self, number: u64) {
        if let Some(link) = self.queue_cancellation(number) {
            link.flush();
        }
    }

    /// [`cancel_call`](Engine::cancel_call) for destructors.
    pub(crate) fn cancel_call_in_destructor(&self, number: u64) {
        if self.queue_cancellation(number).is_some() {
            self.flush_soon();
        }
    }

    /// Queues the cancellation of a call that has not ended. Returns the link if it has to be flushed.
    fn queue_cancellation(&self, number: u64) -> Option<Arc<Link>> {
        let mut state = self.state.lock();
        let Phase::Up(session) = &mut state.phase else {
            return None;
        };
        let call = session.calls.cancel(number)?;
        let limit = self.options.outbox_limit;
        let flush = session.cancel(number, self.request_id(number), &call, limit);
        drop(state);
        // Its waker is code of users.
        drop(call);
        self.look_again();
        flush
    }

    /// Grants the service more credit for the replies to a call. Without effect if the call has ended.
    pub(crate) fn grant(&self, number: u64, bytes: usize) {
        let request_id = self.request_id(number);
        let limit = self.options.outbox_limit;
        let flush = match &mut self.state.lock().phase {
            Phase::Up(session) => session.grant(number, request_id, bytes, limit),
            _ => None,
        };
        if let Some(link) = flush {
            link.flush();
        }
    }

    /// Whether the router accepts the frame.
    pub(crate) fn check_size(&self, frame: &Frame) -> Result<(), Error> {
        check_size(frame, self.max_frame.load(Ordering::Relaxed))
    }

    /// Sends a Ping. Its answer shows that the router is alive.
    pub(crate) fn ping(&self) {
        self.change(|state, deferred| drop(state.ping(deferred)));
    }

    /// Waits until the router has handled all that was sent before.
    pub(crate) async fn flush(&self) -> Outcome {
        if !self.has_router {
            return self.state.lock().check();
        }
        let answer = self.change(State::flush)?;
        self.answer(answer, "the router").await
    }

    /// Sends a small frame at once.
    pub(crate) fn send_urgent(&self, link: &Link, frame: &Frame) {
        if link.push_urgent(self.options.framing, frame) {
            link.flush();
        }
    }

    /// Writes what destructors have queued, for as long as it is polled.
    pub(crate) async fn keep_flushing(&self, link: &Link) {
        loop {
            self.flush_wanted.notified().await;
            link.flush();
        }
    }
}
