//! Requests for names: registering services and subscribing to topics (rules SV-1 to SV-4, SV-10, TO-6 and TO-7).

use gsb_proto::messages::{
    Message as _, RegisterMode, RegisterReply, RegisterRequest, SubscribeReply, SubscribeRequest,
    UnregisterReply, UnregisterReplyCode, UnregisterRequest, UnsubscribeReply,
    UnsubscribeReplyCode, UnsubscribeRequest,
};

use crate::broker::Broker;
use crate::effect::Effects;
use crate::groups::Terms;
use crate::ids::ConnId;
use crate::refusal::Refusal;

impl Broker {
    pub(crate) fn register(
        &mut self,
        from: ConnId,
        RegisterRequest { service_id, mode, capacity }: RegisterRequest,
        effects: &mut dyn Effects,
    ) {
        let connections = &self.connections;
        let is_live = |id| connections.get(id).is_some();
        let seed = self.instances.seed(from);
        let terms = RegisterMode::try_from(mode).map(|mode| Terms { mode, capacity, seed });
        let registered = match terms {
            Ok(terms) => self.services.register(from, &service_id, terms, is_live),
            Err(_) => Err(Refusal::UnknownMode { mode }),
        };
        let reply = match registered {
            Ok(()) => RegisterReply::default().to_frame(),
            Err(refusal) => self.refused(from, refusal, Refusal::register_reply, effects),
        };
        self.answer(from, reply, effects);
    }

    pub(crate) fn unregister(
        &mut self,
        from: ConnId,
        UnregisterRequest { service_id }: UnregisterRequest,
        effects: &mut dyn Effects,
    ) {
        let code = match self.services.unregister(from, &service_id) {
            true => UnregisterReplyCode::UnregisteredOk,
            false => UnregisterReplyCode::NotRegistered,
        };
        self.answer(from, UnregisterReply { code: code.into() }.to_frame(), effects);
    }

    pub(crate) fn subscribe(
        &mut self,
        from: ConnId,
        SubscribeRequest { topic }: SubscribeRequest,
        effects: &mut dyn Effects,
    ) {
        let reply = match self.subscriptions.subscribe(from, &topic) {
            Ok(()) => SubscribeReply::default().to_frame(),
            Err(refusal) => self.refused(from, refusal, Refusal::subscribe_reply, effects),
        };
        self.answer(from, reply, effects);
    }

    pub(crate) fn unsubscribe(
        &mut self,
        from: ConnId,
        UnsubscribeRequest { topic }: UnsubscribeRequest,
        effects: &mut dyn Effects,
    ) {
        let code = match self.subscriptions.unsubscribe(from, &topic) {
            true => UnsubscribeReplyCode::UnsubscribedOk,
            false => UnsubscribeReplyCode::NotSubscribed,
        };
        self.answer(from, UnsubscribeReply { code: code.into() }.to_frame(), effects);
    }
}
