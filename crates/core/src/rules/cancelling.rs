//! Calls that end before their services have ended them (rules CA-11 and CA-13).

use gsb_proto::messages::{CancelCall, Message as _};
use gsb_proto::{FrameRef, MessageKind, Outgoing, Violation};

use crate::broker::Broker;
use crate::calls::Orphan;
use crate::effect::Effects;
use crate::flow::Purpose;
use crate::ids::{CallKey, ConnId};
use crate::refusal::Refusal;

impl Broker {
    /// Ends a call that its caller does not want any more, unless it has ended.
    pub(crate) fn cancel(
        &mut self,
        from: ConnId,
        frame: FrameRef<'_>,
        effects: &mut dyn Effects,
    ) -> Result<(), Violation> {
        self.check_level(from, frame.kind)?;
        let CancelCall { request_id } = frame.decode()?;
        if let Some(call) = self.calls.made_with_id(from, &request_id) {
            self.abort(call, from, Refusal::Cancelled, effects);
        }
        Ok(())
    }

    /// Ends a call, unless it has ended: answers its caller, and cancels it at its service.
    pub(crate) fn abort(
        &mut self,
        call: CallKey,
        culprit: ConnId,
        refusal: Refusal,
        effects: &mut dyn Effects,
    ) {
        if let Some(orphan) = self.calls.cancel(call) {
            let (caller, service) = (orphan.caller, orphan.service);
            self.cancel_at_service(&orphan, effects);
            self.end_call((caller, orphan.caller_id), culprit, refusal, effects);
            // The service may wait with a reply to this call.
            self.flow.wake_if_waiting(service, caller);
        }
    }

    /// Tells a service that no caller waits for a call any more. It has not ended the call.
    pub(crate) fn cancel_at_service(&mut self, orphan: &Orphan, effects: &mut dyn Effects) {
        let Orphan { caller, service, .. } = *orphan;
        if self.level(service) < MessageKind::CancelCall.level() {
            return;
        }
        // There is one for each call, so it does not wait until it fits.
        let is_caller_charged =
            self.connections.get(caller).is_some() && !self.flow.is_stalled(service);
        let payer = match is_caller_charged {
            true => (caller, Purpose::Calls),
            false => (service, Purpose::Answers),
        };
        let frame = CancelCall { request_id: orphan.service_id().to_owned() }.to_frame();
        let frame = Outgoing { kind: frame.kind, slices: &frame.body.slices() };
        self.send(service, frame, payer, None, effects);
    }
}
