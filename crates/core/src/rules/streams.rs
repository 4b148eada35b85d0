//! Calls whose requests or replies are streams: credit, and more data of a request (rules CA-14 and CA-15).

use gsb_proto::head::{CallHead, DataHead};
use gsb_proto::messages::{Message as _, StreamCredit};
use gsb_proto::{FrameRef, Outgoing, Violation};

use crate::broker::Broker;
use crate::calls::Forward;
use crate::config::STREAMS_LEVEL;
use crate::effect::Effects;
use crate::flow::Purpose;
use crate::ids::{CallKey, ConnId};
use crate::refusal::Refusal;
use crate::rules::groups::Target;

impl Broker {
    /// Whether both ends of a call support the streams that it asks for. If not, the connection that causes the refusal.
    #[inline]
    pub(crate) fn may_stream(
        &self,
        from: ConnId,
        head: &CallHead<'_>,
        target: Target,
    ) -> Result<Target, (ConnId, Refusal)> {
        if !head.steering.more && !head.steering.has_reply_credit {
            return Ok(target);
        }
        if self.level(from) < STREAMS_LEVEL {
            return Err((from, Refusal::CallerUnsupported));
        }
        // A service that does not know `reply_credit` ignores it.
        if head.steering.more && self.level(target.service) < STREAMS_LEVEL {
            return Err((from, Refusal::ServiceUnsupported));
        }
        Ok(target)
    }

    /// Passes more data of a request to the service, as a call.
    pub(crate) fn call_data(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        effects: &mut dyn Effects,
    ) -> Result<bool, Violation> {
        self.check_level(from, frame.kind)?;
        if !self.flow.admit(from, (from, Purpose::Calls), frame.body.bytes.len()) {
            return Ok(false);
        }
        let head = DataHead::read(frame.body.bytes)?;
        let call = self.calls.made_with_id(from, head.request_id.text);
        let Some(call) = call.filter(|&call| self.calls.is_upload(from, call)) else {
            self.dropped(from, Refusal::StrayData, effects);
            return Ok(true);
        };
        if head.end {
            self.calls.end_upload(from, call);
        }
        if let Some(forward) = self.streaming_service(call, effects) {
            let payer = (from, Purpose::Calls);
            self.forward(forward, frame, &head.request_id, payer, None, effects);
        }
        Ok(true)
    }

    /// Passes credit to the other end of a call. Credit for a call that is not open, or to a peer that does not know it, has
    /// no effect.
    pub(crate) fn stream_credit(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        effects: &mut dyn Effects,
    ) -> Result<bool, Violation> {
        self.check_level(from, frame.kind)?;
        let credit: StreamCredit = frame.decode()?;
        let length = frame.body.bytes.len();
        if credit.for_request {
            return self.credit_for_request(from, credit, length, effects);
        }
        if !self.flow.admit(from, (from, Purpose::Calls), length) {
            return Ok(false);
        }
        let call = self.calls.made_with_id(from, &credit.request_id);
        if let Some(forward) = call.and_then(|call| self.streaming_service(call, effects)) {
            self.send_credit(forward, credit, (from, Purpose::Calls), effects);
        }
        Ok(true)
    }

    /// Credit from the service, which its caller pays for as for a reply.
    fn credit_for_request(
        &mut self,
        from: ConnId,
        credit: StreamCredit,
        length: usize,
        effects: &mut dyn Effects,
    ) -> Result<bool, Violation> {
        let Some(call) = self.calls.served(from, &credit.request_id) else {
            return Ok(true);
        };
        if self.calls.caller(call).is_none_or(|caller| self.level(caller) < STREAMS_LEVEL) {
            return Ok(true);
        }
        if !self.admit_reply(from, call, length, false, effects) {
            return Ok(false);
        }
        if let Some(forward) = self.calls.reply(call, false) {
            let payer = (forward.to, Purpose::Replies);
            self.send_credit(forward, credit, payer, effects);
        }
        Ok(true)
    }

    fn send_credit(
        &mut self,
        Forward { to, new_id }: Forward,
        mut credit: StreamCredit,
        payer: (ConnId, Purpose),
        effects: &mut dyn Effects,
    ) {
        if let Some(id) = new_id {
            credit.request_id = (*id).into();
        }
        let frame = credit.to_frame();
        let frame = Outgoing { kind: frame.kind, slices: &frame.body.slices() };
        self.send(to, frame, payer, None, effects);
    }

    /// The service of an open call, if it supports streams. If it has stalled, the call ends: nothing of a stream may be
    /// lost, and no connection waits for a service that has stalled.
    fn streaming_service(&mut self, call: CallKey, effects: &mut dyn Effects) -> Option<Forward> {
        let forward = self
            .calls
            .to_service(call)
            .filter(|forward| self.level(forward.to) >= STREAMS_LEVEL)?;
        if !self.flow.is_stalled(forward.to) {
            return Some(forward);
        }
        let refusal = Refusal::ServiceStalled { timeout: self.flow.config.stall_timeout };
        self.abort(call, forward.to, refusal, effects);
        None
    }
}
