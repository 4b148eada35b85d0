//! What comes from the router.

use std::sync::Arc;

use gsb_proto::messages::{BroadcastRequest, CallReply, CallRequest, CancelCall, Message, Pong};
use gsb_proto::{Frame, MessageKind, Topic, Violation};
use tokio::time::Instant;

use crate::announcements::Answered;
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
use crate::status::{NameKind, Refused};
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
            MessageKind::Pong => self.take_pong(frame)?,
            MessageKind::Hello => {}
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
            if let Some(left_out) = self.missed_log.allow() {
                log::warn!(
                    "the router has dropped {} events to this process{left_out}",
                    event.missed
                );
            }
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

    /// One that nobody waits for is fine, as it is for a router (rule CO-11).
    fn take_pong(&self, frame: &Frame) -> Result<(), LostReason> {
        let is_awaited = match &self.state.lock().phase {
            Phase::Up(session) => session.control.waits_for(MessageKind::Pong),
            _ => false,
        };
        if is_awaited { self.take_answer(frame) } else { Ok(()) }
    }

    fn take_answer(&self, frame: &Frame) -> Result<(), LostReason> {
        let answered = self.change(|state, after| {
            let Phase::Up(session) = &mut state.phase else {
                return Ok(Answered::default());
            };
            let (request, outcome) = session.control.reply(frame)?;
            // Very many answers may come at once.
            after.is_told_later = true;
            let asked = match request.then {
                Then::Tell(waiting) => {
                    after.tell.push((waiting, outcome));
                    after.status_changed |= frame.kind == MessageKind::UnregisterReply;
                    return Ok(Answered::default());
                }
                Then::Announced(asked) => asked,
            };
            let delay = |refusals| self.options().retry_delay(refusals);
            let mut answered =
                state.announcements.answered(&asked, &outcome, Instant::now(), delay);
            let waiting = answered.waiting.drain(..);
            after.tell.extend(waiting.map(|waiting| (waiting, outcome.clone())));
            after.status_changed = true;
            Ok::<_, LostReason>(answered)
        })?;
        if answered.is_retried {
            self.retry.notify_one();
        }
        if let Some(refused) = answered.refused {
            self.log_refusal(&refused);
        }
        Ok(())
    }

    /// Logs that the router refuses a name of which the program was told that it is there.
    fn log_refusal(&self, refused: &Refused) {
        let Some(left_out) = self.refusal_log.allow() else {
            return;
        };
        let kind = match refused.kind {
            NameKind::Service => "service",
            NameKind::Topic => "topic",
        };
        let Refused { name, error, .. } = refused;
        log::warn!(
            "the router refuses the {kind} {name:?}: {error}; it is asked again until it agrees{left_out}"
        );
    }
}
