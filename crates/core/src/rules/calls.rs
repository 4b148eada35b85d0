//! Calls and their replies (rules CA-1 to CA-10).

use std::time::Instant;

use gsb_proto::head::{CallHead, Field, ReplyHead};
use gsb_proto::{FrameRef, Outgoing, Quoted};

use crate::broker::Broker;
use crate::call_ids::HashedId;
use crate::calls::Forward;
use crate::config::MAX_REQUEST_ID;
use crate::effect::Effects;
use crate::flow::Purpose;
use crate::groups::Unavailable;
use crate::ids::{CallKey, ConnId};
use crate::refusal::Refusal;
use crate::rules::groups::Target;

impl Broker {
    pub(crate) fn call(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        head: &CallHead<'_>,
        now: Instant,
        effects: &mut dyn Effects,
    ) {
        let id = self.calls.hash(head.request_id.text);
        let target = match self.may_call(from, head, id) {
            Ok(target) => target,
            Err(refused) => return self.refuse_call(from, head, refused, effects),
        };
        let to = target.service;
        let (key, new_id) = if head.no_reply {
            self.counters.pushes += 1;
            self.begin_at(target, None);
            (None, self.calls.id_for_service(to, id))
        } else {
            self.counters.calls += 1;
            let opened = self.calls.open(from, id, to);
            if head.steering.timeout_ms > 0 {
                self.calls.set_deadline(opened.key, head.steering.timeout_ms, now);
            }
            if head.steering.more {
                self.calls.begin_upload(from, opened.key);
            }
            self.begin_at(target, Some(opened.key));
            (Some(opened.key), opened.new_id)
        };
        let payer = (from, Purpose::Calls);
        self.forward(Forward { to, new_id }, frame, &head.request_id, payer, key, effects);
    }

    #[cold]
    fn refuse_call(
        &mut self,
        from: ConnId,
        head: &CallHead<'_>,
        (culprit, refusal): (ConnId, Refusal),
        effects: &mut dyn Effects,
    ) {
        let request_id = head.request_id.text;
        // The data that follows must not pass for data of an open call with the same id.
        if head.steering.more
            && let Some(call) = self.calls.made_with_id(from, request_id)
        {
            self.calls.end_upload(from, call);
        }
        if head.no_reply {
            return self.dropped(culprit, refusal, effects);
        }
        let write = |refusal: &Refusal| refusal.call_reply(request_id);
        let reply = self.refused(culprit, refusal, write, effects);
        self.answer(from, reply, effects);
    }

    /// Passes a frame of a call to its other end, with the request id that this end knows.
    // As a function of its own, it would move the id through memory, twice for each call.
    #[inline(always)]
    pub(crate) fn forward(
        &mut self,
        Forward { to, new_id }: Forward,
        FrameRef { kind, body }: FrameRef<'_>,
        request_id: &Field<'_>,
        payer: (ConnId, Purpose),
        call: Option<CallKey>,
        effects: &mut dyn Effects,
    ) {
        match new_id {
            None => self.send(to, Outgoing { kind, slices: &[body] }, payer, call, effects),
            Some(id) => {
                let pieces = request_id.replace_in(&body.to_bytes(), &id);
                self.send(to, Outgoing { kind, slices: &pieces.slices() }, payer, call, effects);
            }
        }
    }

    /// The service that a call may be forwarded to; or the connection that causes its refusal.
    fn may_call(
        &mut self,
        from: ConnId,
        head: &CallHead<'_>,
        id: HashedId<'_>,
    ) -> Result<Target, (ConnId, Refusal)> {
        let (length, limit) = (id.text.len(), self.limits.open_calls);
        let target = self.target(head);
        let refusal = if head.no_reply && head.steering.more {
            Refusal::StreamWithoutReply
        } else if !head.no_reply && length > MAX_REQUEST_ID {
            Refusal::RequestIdTooLong { length }
        } else if self.refuses_calls(from, head.address) {
            Refusal::Stopping
        } else if !head.no_reply && self.calls.made(from, id).is_some() {
            Refusal::RequestIdInUse { request_id: Quoted::new(id.text) }
        } else if !head.no_reply && self.calls.made_by(from) >= limit {
            Refusal::TooManyCalls { limit }
        } else {
            match target {
                Ok(target) if head.no_reply => return Ok(target),
                Ok(target) => return self.may_stream(from, head, target),
                Err(Unavailable::Gone) => {
                    Refusal::NoSuchService { address: Quoted::new(head.address) }
                }
                Err(Unavailable::Full) => Refusal::Busy { address: Quoted::new(head.address) },
                Err(Unavailable::Stalled(service)) => {
                    let timeout = self.flow.config.stall_timeout;
                    return Err((service, Refusal::ServiceStalled { timeout }));
                }
            }
        };
        Err((from, refusal))
    }

    /// Returns whether the reply is admitted; if not, it has to wait. A call keeps its id at the service until the last
    /// reply, so a reply that waits is for no other call later.
    pub(crate) fn reply(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        head: &ReplyHead<'_>,
        effects: &mut dyn Effects,
    ) -> bool {
        let key = self.calls.served(from, head.request_id.text);
        if let Some(key) = key
            && !self.admit_reply(from, key, frame.body.bytes.len(), head.is_last, effects)
        {
            return false;
        }
        let Some(forward) = key.and_then(|key| self.calls.reply(key, head.is_last)) else {
            self.dropped(from, Refusal::StrayReply, effects);
            return true;
        };
        self.counters.replies += 1;
        let payer = (forward.to, Purpose::Replies);
        self.forward(forward, frame, &head.request_id, payer, None, effects);
        true
    }

    /// Whether a reply is admitted; if not, it has to wait. Ends its call if the caller has stalled.
    pub(crate) fn admit_reply(
        &mut self,
        from: ConnId,
        key: CallKey,
        body: usize,
        is_last: bool,
        effects: &mut dyn Effects,
    ) -> bool {
        let Some(caller) = self.calls.caller(key) else {
            return true;
        };
        if !self.flow.is_stalled(caller) {
            return self.flow.admit(from, (caller, Purpose::Replies), body);
        }
        let refusal = Refusal::CallerStalled { timeout: self.flow.config.stall_timeout };
        if !is_last {
            self.abort(key, caller, refusal, effects);
        } else if let Some(orphan) = self.calls.cancel(key) {
            // The service has ended the call, so it is not cancelled there.
            self.end_call((orphan.caller, orphan.caller_id), caller, refusal, effects);
        }
        true
    }
}
