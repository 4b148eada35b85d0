//! What comes from the router.

use std::sync::Arc;

use gsb_proto::messages::{BroadcastRequest, CallReply, CallRequest, CancelCall, Message, Pong};
use gsb_proto::{Frame, MessageKind, Topic, Violation};
use tokio::time::Instant;

use crate::bus::Scope;
use crate::calls::is_partial;
use crate::control::Then;
use crate::error::LostReason;
use crate::intake::CallIntake;
use crate::queue::detach;
use crate::responder;
use crate::services::ServiceEntry;
use crate::shared::Shared;
use crate::state::Phase;
use crate::subscriptions::{Broadcast, Origin};

impl Shared {
    /// A frame has come.
    pub(crate) fn receive(
        self: &Arc<Self>,
        intake: &Arc<CallIntake>,
        frame: &Frame,
    ) -> Result<(), LostReason> {
        match frame.kind {
            MessageKind::CallReply => self.take_reply(&frame.decode()?),
            MessageKind::CallRequest => {
                let request: CallRequest = frame.decode()?;
                let is_public = |service: &Arc<ServiceEntry>| service.scope == Scope::Everywhere;
                let service =
                    self.state.lock().services.lookup_where(&request.address, is_public).cloned();
                responder::serve(self, intake, service, request);
            }
            MessageKind::BroadcastRequest => self.take_event(frame.decode()?),
            MessageKind::RegisterReply
            | MessageKind::UnregisterReply
            | MessageKind::SubscribeReply
            | MessageKind::UnsubscribeReply
            | MessageKind::BroadcastReply => self.take_answer(frame)?,
            MessageKind::Ping => {
                // A router that does not read gets no more of them than it can take.
                if intake.link().queued() <= self.options().outbox_limit {
                    self.send_urgent(intake.link(), &Pong {}.to_frame());
                }
            }
            MessageKind::Pong | MessageKind::Hello => {}
            // A handler goes on to its end (CA-11).
            MessageKind::CancelCall => drop(frame.decode::<CancelCall>()?),
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
        let pending = self.number(&reply.request_id).and_then(|number| {
            let mut state = self.state.lock();
            let Phase::Up(session) = &mut state.phase else {
                return None;
            };
            let pending = session.calls.reply(number, reply);
            if pending.is_none() && !is_partial(reply) {
                session.unanswered.answered(number);
            }
            Some((number, pending?))
        });
        match pending {
            Some((number, pending)) => {
                if !pending.deliver(reply) && is_partial(reply) {
                    self.give_up_call(number);
                }
            }
            None => {
                let id = &reply.request_id;
                log::debug!("a reply to the call {id:?}, for which nobody waits, is dropped");
            }
        }
    }

    fn take_event(&self, event: BroadcastRequest) {
        if event.missed > 0 {
            log::warn!("the router has dropped {} events to this process", event.missed);
            self.change(|state, after| state.missed(event.missed, after));
        }
        // A router of another make may let through what is no topic; nobody can have subscribed to it.
        let Ok(topic) = Topic::new(&event.topic) else {
            log::debug!("a broadcast to {:?}, which is no topic, is dropped", event.topic);
            return;
        };
        let event = Broadcast::from(BroadcastRequest { data: detach(event.data), ..event });
        self.change(|state, after| state.deliver(&event, &topic, Origin::Router, after));
    }

    fn take_answer(&self, frame: &Frame) -> Result<(), LostReason> {
        let is_retried = self.change(|state, after| {
            let Phase::Up(session) = &mut state.phase else {
                return Ok(false);
            };
            let (request, outcome) = session.control.reply(frame)?;
            let asked = match request.then {
                Then::Tell(waiting) => {
                    after.tell.push((waiting, outcome));
                    after.status_changed |= frame.kind == MessageKind::UnregisterReply;
                    return Ok(false);
                }
                Then::Announced(asked) => asked,
            };
            let delay = |refusals| self.options().retry_delay(refusals);
            let answered = state.announcements.answered(&asked, &outcome, Instant::now(), delay);
            let waiting = answered.waiting.into_iter();
            after.tell.extend(waiting.map(|waiting| (waiting, outcome.clone())));
            after.status_changed = true;
            Ok::<_, LostReason>(answered.is_retried)
        })?;
        if is_retried {
            self.retry.notify_one();
        }
        Ok(())
    }
}
