//! Broadcasts (rules TO-3 to TO-5, TO-9 and TO-11).

use gsb_proto::head::BroadcastHead;
use gsb_proto::messages::{BroadcastReply, Message as _};
use gsb_proto::{Body, MessageKind, Outgoing, Slice, Topic};

use crate::broker::Broker;
use crate::effect::Effects;
use crate::flow::Purpose;
use crate::ids::ConnId;
use crate::refusal::Refusal;

impl Broker {
    pub(crate) fn broadcast(
        &mut self,
        from: ConnId,
        message: Slice<'_>,
        head: &BroadcastHead<'_>,
        effects: &mut dyn Effects,
    ) {
        let topic = match Topic::new(head.topic) {
            Ok(topic) => topic,
            Err(error) => {
                let reply = self.refused(from, error.into(), Refusal::broadcast_reply, effects);
                return self.answer(from, reply, effects);
            }
        };
        self.answer(from, BroadcastReply::default().to_frame(), effects);
        self.counters.broadcasts += 1;
        let connections = &self.connections;
        let is_live = |id| connections.get(id).is_some();
        self.subscriptions.find(&topic, &mut self.subscribers, is_live);
        if self.connections.get(from).is_some_and(|sender| sender.no_echo) {
            self.subscribers.retain(|&to| to != from);
        }
        let subscribers = std::mem::take(&mut self.subscribers);
        let kind = MessageKind::BroadcastRequest;
        // For copies that say what was missed, if there are any.
        let mut shared = None;
        for &to in &subscribers {
            let Some(subscriber) = self.connections.get_mut(to) else {
                continue;
            };
            let body = match subscriber.missed {
                0 if !head.has_missed => None,
                missed => {
                    let message = shared.get_or_insert_with(|| message.to_bytes());
                    Some(BroadcastHead::with_missed(message, missed))
                }
            };
            let pieces = body.as_ref().map_or([message, Slice::EMPTY, Slice::EMPTY], Body::slices);
            let copy = Outgoing { kind, slices: &pieces };
            if !self.flow.is_stalled(to)
                && self.flow.admits(from, (to, Purpose::Broadcasts), copy.body_len())
            {
                subscriber.missed = 0;
                self.counters.deliveries += 1;
                self.send(to, copy, (to, Purpose::Broadcasts), None, effects);
            } else {
                subscriber.missed += 1;
                let limit = self.limits.queued_bytes;
                self.dropped(to, Refusal::SlowSubscriber { limit }, effects);
            }
        }
        self.subscribers = subscribers;
    }
}
