//! Frames from the router: one function for each kind.

use std::sync::Arc;

use gsb_proto::messages::{
    BroadcastRequest, CallReply, CallRequest, CancelCall, Message, NameLost, Pong, StreamCredit,
};
use gsb_proto::{Frame, MessageKind, Topic, Violation};

use crate::engine::Engine;
use crate::engine::intake::CallIntake;
use crate::engine::owners::Owners;
use crate::engine::pending_calls::is_partial;
use crate::engine::pending_requests::cut;
use crate::engine::queue::detach;
use crate::engine::request::OnReply;
use crate::engine::responder;
use crate::engine::service_entry::ServiceEntry;
use crate::engine::state::Phase;
use crate::engine::subscriptions::Origin;
use crate::error::{Error, LostReason};
use crate::event::Broadcast;
use crate::status::{NameKind, Refused};

impl Engine {
    /// Handles a frame.
    pub(crate) fn receive(
        self: &Arc<Self>,
        intake: &Arc<CallIntake>,
        frame: &Frame,
    ) -> Result<(), LostReason> {
        match frame.kind {
            MessageKind::CallReply => self.take_reply(&frame.decode()?),
            MessageKind::CallRequest => {
                let request: CallRequest = frame.decode()?;
                let service = self.public_service(&request.address);
                responder::serve(self, intake, service, request);
            }
            MessageKind::BroadcastRequest => self.take_event(frame.decode()?),
            MessageKind::RegisterReply
            | MessageKind::UnregisterReply
            | MessageKind::SubscribeReply
            | MessageKind::UnsubscribeReply
            | MessageKind::BroadcastReply => self.take_answer(frame)?,
            MessageKind::Ping => {
                // Answers for a router that does not read must not fill the outbox.
                if intake.link().queued() <= self.options().outbox_limit {
                    self.send_urgent(intake.link(), &Pong {}.to_frame());
                }
            }
            MessageKind::Pong => self.take_pong(frame)?,
            MessageKind::Hello => {}
            MessageKind::CancelCall => intake.cancel(&frame.decode::<CancelCall>()?.request_id),
            MessageKind::NameLost => self.take_lost_name(frame.decode()?),
            MessageKind::StreamCredit => {
                let StreamCredit { request_id, bytes, for_request } = frame.decode()?;
                match for_request {
                    false => intake.add_credit(&request_id, bytes),
                    true => self.add_credit(&request_id, bytes),
                }
            }
            MessageKind::CallData => intake.take_data(frame.decode()?),
            MessageKind::GoAway => self.take_farewell(intake, &frame.decode()?)?,
            MessageKind::RegisterRequest
            | MessageKind::UnregisterRequest
            | MessageKind::SubscribeRequest
            | MessageKind::UnsubscribeRequest => {
                return Err(Violation::WrongDirection(frame.kind).into());
            }
        }
        Ok(())
    }

    /// The service that gets the calls to an address from the router.
    fn public_service(&self, address: &str) -> Option<Arc<ServiceEntry>> {
        let state = self.state.lock();
        let owners = state.services.lookup_where(address, |owners| owners.public().is_some());
        let registered = owners.and_then(Owners::public);
        let given_back = match &state.phase {
            Phase::Up(session) => session.requests.given_back(address),
            _ => None,
        };
        // The service with the longest name gets the call. If two have this name, it is the registered one.
        let services = given_back.into_iter().chain(registered);
        services.max_by_key(|service| service.id.as_str().len()).cloned()
    }

    fn take_reply(&self, reply: &CallReply) {
        let pending = self.call_number(&reply.request_id).and_then(|number| {
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
                    self.cancel_call(number);
                }
            }
            None => {
                let id = &reply.request_id;
                log::debug!("dropped a reply to the call {id:?}, which has ended or was cancelled");
            }
        }
    }

    fn take_event(&self, event: BroadcastRequest) {
        if event.missed > 0 {
            if let Some(left_out) = self.missed_log.allow() {
                log::warn!(
                    "the router has dropped {} events to this process, which reads too slowly{left_out}",
                    event.missed
                );
            }
            self.change(|state, deferred| state.missed(event.missed, deferred));
        }
        // A router of another project may forward an event without a valid topic, which no subscription can match.
        let Ok(topic) = Topic::new(&event.topic) else {
            log::debug!("dropped an event, because its topic {:?} is malformed", event.topic);
            return;
        };
        let event = Broadcast::from(BroadcastRequest { data: detach(event.data), ..event });
        self.change(|state, deferred| state.deliver(&event, &topic, Origin::Router, deferred));
    }

    /// A Pong that no request waits for is ignored (rule CO-11).
    fn take_pong(&self, frame: &Frame) -> Result<(), LostReason> {
        let is_awaited = match &self.state.lock().phase {
            Phase::Up(session) => session.requests.waits_for(MessageKind::Pong),
            _ => false,
        };
        if is_awaited { self.take_answer(frame) } else { Ok(()) }
    }

    fn take_answer(&self, frame: &Frame) -> Result<(), LostReason> {
        self.change(|state, deferred| {
            let Phase::Up(session) = &mut state.phase else {
                return Ok(());
            };
            let (request, outcome) = session.requests.reply(frame)?;
            // Many answers may arrive at once.
            deferred.notify_later = true;
            match request.on_reply {
                OnReply::Count(sender) => deferred.counts.push((sender, outcome)),
                OnReply::Notify(sender) => {
                    deferred.outcomes.push((sender, outcome.map(drop)));
                    deferred.status_changed |= frame.kind == MessageKind::UnregisterReply;
                }
                OnReply::GivenBack(sender, service) => {
                    deferred.outcomes.push((sender, outcome.map(drop)));
                    deferred.dropped.push(service);
                    deferred.status_changed = true;
                }
                OnReply::Announced(asked) => {
                    state.announced(&asked, &outcome.map(drop), deferred);
                }
            }
            Ok(())
        })
    }

    /// The router has taken a name away (rule CO-21).
    fn take_lost_name(&self, lost: NameLost) {
        let (kind, name) = match lost.topic.is_empty() {
            true => (NameKind::Service, lost.service_id),
            false => (NameKind::Topic, lost.topic),
        };
        let message = match lost.message.is_empty() {
            true => "the router has taken it away".to_owned(),
            false => cut(lost.message),
        };
        let error = Error::NameRefused { name: name.clone(), message };
        self.change(|state, deferred| state.name_lost(kind, &name, error, deferred));
    }

    /// Logs that the router refuses a name after the program was told that it is registered.
    pub(crate) fn log_refusal(&self, refused: &Refused) {
        let Some(left_out) = self.refusal_log.allow() else {
            return;
        };
        let kind = match refused.kind {
            NameKind::Service => "service",
            NameKind::Topic => "topic",
        };
        let Refused { name, error, .. } = refused;
        log::warn!(
            "the router refuses the {kind} {name:?} ({error}); the bus keeps asking{left_out}"
        );
    }
}
