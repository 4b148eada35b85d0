//! Calls, their cancellation, and their replies (rules CA-1 to CA-11).

use gsb_proto::head::{CallHead, ReplyHead};
use gsb_proto::messages::CancelCall;
use gsb_proto::{FrameRef, MessageKind, Outgoing, Quoted, Slice, Violation};

use crate::broker::Broker;
use crate::call_ids::HashedId;
use crate::config::MAX_REQUEST_ID;
use crate::effect::Effects;
use crate::flow::Purpose;
use crate::ids::ConnId;
use crate::refusal::Refusal;

impl Broker {
    pub(crate) fn call(
        &mut self,
        from: ConnId,
        message: Slice<'_>,
        head: &CallHead<'_>,
        effects: &mut dyn Effects,
    ) {
        let request_id = head.request_id.text;
        let id = self.calls.hash(request_id);
        let to = match self.may_call(from, head, id) {
            Ok(to) => to,
            Err((culprit, refusal)) if head.no_reply => {
                return self.dropped(culprit, refusal, effects);
            }
            Err((culprit, refusal)) => {
                let write = |refusal: &Refusal| refusal.call_reply(request_id);
                let reply = self.refused(culprit, refusal, write, effects);
                return self.answer(from, reply, effects);
            }
        };
        let (key, new_id) = if head.no_reply {
            self.counters.pushes += 1;
            (None, self.calls.id_for_service(to, id))
        } else {
            self.counters.calls += 1;
            let opened = self.calls.open(from, id, to);
            (Some(opened.key), opened.new_id)
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

    /// The service that a call may be forwarded to; or the connection that causes its refusal.
    fn may_call(
        &mut self,
        from: ConnId,
        head: &CallHead<'_>,
        id: HashedId<'_>,
    ) -> Result<ConnId, (ConnId, Refusal)> {
        let (length, limit) = (id.text.len(), self.limits.open_calls);
        let service = self.services.find(head.address, |id| self.connections.get(id).is_some());
        let refusal = if !head.no_reply && length > MAX_REQUEST_ID {
            Refusal::RequestIdTooLong { length }
        } else if self.is_stopping {
            Refusal::Stopping
        } else if !head.no_reply && self.calls.made(from, id).is_some() {
            Refusal::RequestIdInUse { request_id: Quoted::new(id.text) }
        } else if !head.no_reply && self.calls.made_by(from) >= limit {
            Refusal::TooManyCalls { limit }
        } else {
            match service {
                None => Refusal::NoSuchService { address: Quoted::new(head.address) },
                Some(service) if self.flow.is_stalled(service) => {
                    let timeout = self.flow.config.stall_timeout;
                    return Err((service, Refusal::ServiceStalled { timeout }));
                }
                Some(service) => return Ok(service),
            }
        };
        Err((from, refusal))
    }

    /// Ends a call that its caller does not want any more, unless it has ended (rule CA-11).
    pub(crate) fn cancel(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        effects: &mut dyn Effects,
    ) -> Result<(), Violation> {
        if self.connections.get(from).is_some_and(|sender| sender.level < 1) {
            return Err(Violation::LevelTooLow(frame.kind));
        }
        let CancelCall { request_id } = frame.decode()?;
        let key = self.calls.made(from, self.calls.hash(&request_id));
        if let Some(call) = key.and_then(|key| self.calls.cancel(key)) {
            self.end_call(call, from, Refusal::Cancelled, effects);
        }
        Ok(())
    }

    /// Returns whether the reply is admitted; if not, it has to wait. A call keeps its id at the service until the last
    /// reply, so a reply that waits is for no other call later.
    pub(crate) fn reply(
        &mut self,
        from: ConnId,
        message: Slice<'_>,
        head: &ReplyHead<'_>,
        effects: &mut dyn Effects,
    ) -> bool {
        let key = self.calls.served(from, head.request_id.text);
        if let Some((key, caller)) = key.and_then(|key| Some((key, self.calls.caller(key)?))) {
            if !self.flow.is_stalled(caller) {
                if !self.flow.admit(from, (caller, Purpose::Replies), message.bytes.len()) {
                    return false;
                }
            } else if let Some(call) = self.calls.cancel(key) {
                let timeout = self.flow.config.stall_timeout;
                self.end_call(call, caller, Refusal::CallerStalled { timeout }, effects);
            }
        }
        let Some(forward) = key.and_then(|key| self.calls.reply(key, head.is_last)) else {
            self.dropped(from, Refusal::StrayReply, effects);
            return true;
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
        true
    }
}
