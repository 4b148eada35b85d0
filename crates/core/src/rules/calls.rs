//! Calls and their replies (rules CA-1 to CA-10).

use std::time::Instant;

use gsb_proto::head::{CallHead, ReplyHead};
use gsb_proto::{MessageKind, Outgoing, Quoted, Slice};

use crate::broker::{Broker, Unhandled};
use crate::call_ids::HashedId;
use crate::config::MAX_REQUEST_ID;
use crate::effect::Effects;
use crate::flow::{Paused, Purpose};
use crate::groups::Unavailable;
use crate::ids::{CallKey, ConnId};
use crate::refusal::Refusal;
use crate::report::Dropped;
use crate::rules::groups::Target;

impl Broker {
    pub(crate) fn call(
        &mut self,
        from: ConnId,
        message: Slice<'_>,
        head: &CallHead<'_>,
        now: Instant,
        effects: &mut dyn Effects,
    ) {
        let request_id = head.request_id.text;
        let target = self.target(head);
        let (to, key, new_id) = if head.no_reply {
            if head.more {
                return self.dropped(from, Dropped::StreamWithoutReply, effects);
            }
            let target = match target {
                // A push needs no capacity.
                Err(Unavailable::Gone | Unavailable::Full) => {
                    return self.dropped(from, Dropped::NoService, effects);
                }
                _ if self.refuses_calls(from, head.address) => {
                    return self.dropped(from, Dropped::Stopping, effects);
                }
                Err(Unavailable::Stalled(service)) => {
                    let timeout = self.slow_limits.stall_timeout;
                    return self.dropped(service, Dropped::ServiceStalled { timeout }, effects);
                }
                Ok(target) => target,
            };
            self.counters.pushes += 1;
            self.begin_at(target, None);
            let (service, id) = (target.service, self.calls.hash(request_id));
            (service, None, self.calls.id_for_service(service, id))
        } else {
            let id = self.calls.hash(request_id);
            let may_call = self.may_call(from, head.address, id, target);
            let target = match may_call.and_then(|target| self.may_stream(from, head, target)) {
                Ok(target) => target,
                Err((culprit, refusal)) => {
                    let write = |refusal: &Refusal| refusal.call_reply(request_id);
                    let reply = self.refused(culprit, refusal, write, effects);
                    return self.answer(from, reply, effects);
                }
            };
            self.counters.calls += 1;
            let opened = self.calls.open(from, id, target.service);
            if head.timeout_ms > 0 {
                self.calls.set_deadline(opened.key, head.timeout_ms, now);
            }
            if head.more {
                self.calls.begin_upload(from, opened.key);
            }
            self.begin_at(target, Some(opened.key));
            (target.service, Some(opened.key), opened.new_id)
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

    /// Whether a call that wants an answer may be forwarded, and to whom. If not, the connection that causes the refusal.
    fn may_call(
        &self,
        from: ConnId,
        address: &str,
        id: HashedId<'_>,
        target: Result<Target, Unavailable>,
    ) -> Result<Target, (ConnId, Refusal)> {
        if id.text.len() > MAX_REQUEST_ID {
            let length = id.text.len();
            return Err((from, Refusal::RequestIdTooLong { length }));
        }
        if self.refuses_calls(from, address) {
            return Err((from, Refusal::Stopping));
        }
        if self.calls.made(from, id).is_some() {
            return Err((from, Refusal::RequestIdInUse { request_id: Quoted::new(id.text) }));
        }
        let limit = self.limits.open_calls;
        if self.calls.made_by(from) >= limit {
            return Err((from, Refusal::TooManyCalls { limit }));
        }
        target.map_err(|unavailable| match unavailable {
            Unavailable::Gone => (from, Refusal::NoSuchService { address: Quoted::new(address) }),
            Unavailable::Full => (from, Refusal::Busy { address: Quoted::new(address) }),
            Unavailable::Stalled(service) => {
                let timeout = self.slow_limits.stall_timeout;
                (service, Refusal::ServiceStalled { timeout })
            }
        })
    }

    pub(crate) fn reply(
        &mut self,
        from: ConnId,
        message: Slice<'_>,
        head: &ReplyHead<'_>,
        paused: Option<Paused>,
        effects: &mut dyn Effects,
    ) -> Result<(), Unhandled> {
        let key = self.served(from, head.request_id.text, paused);
        if let Some(key) = key {
            self.admit_reply(from, key, message.bytes.len(), head.is_last, effects)?;
        }
        let Some(forward) = key.and_then(|key| self.calls.reply(key, head.is_last)) else {
            self.dropped(from, Dropped::StrayReply, effects);
            return Ok(());
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
        Ok(())
    }

    /// The call that `service` knows by an id, unless the frame has waited for another call to have that id.
    pub(crate) fn served(
        &self,
        service: ConnId,
        request_id: &str,
        paused: Option<Paused>,
    ) -> Option<CallKey> {
        let waited = paused.and_then(|paused| paused.reply_to);
        let key = self.calls.served(service, request_id)?;
        Some(key).filter(|&key| waited.is_none_or(|waited| waited == key))
    }

    /// Makes a reply wait that does not fit, or ends its call if the caller has stalled.
    pub(crate) fn admit_reply(
        &mut self,
        from: ConnId,
        key: CallKey,
        body: usize,
        is_last: bool,
        effects: &mut dyn Effects,
    ) -> Result<(), Unhandled> {
        let Some(caller) = self.calls.caller(key) else {
            return Ok(());
        };
        if !self.flow.is_stalled(caller) {
            return self.admit(from, caller, Purpose::Replies, body, Some(key));
        }
        let refusal = Refusal::CallerStalled { timeout: self.slow_limits.stall_timeout };
        if !is_last {
            self.abort(key, caller, refusal, effects);
        } else if let Some(orphan) = self.calls.cancel(key) {
            // The service has ended the call, so it is not cancelled there.
            self.end_call((orphan.caller, orphan.caller_id), caller, refusal, effects);
        }
        Ok(())
    }
}
