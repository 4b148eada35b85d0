//! Broadcasts (rules TO-3 to TO-5, TO-9, TO-11 and TO-13).

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
        self.counters.broadcasts += 1;
        let connections = &self.connections;
        let is_live = |id| connections.get(id).is_some();
        self.subscriptions.find(&topic, &mut self.subscribers, is_live);
        if self.connections.get(from).is_some_and(|sender| sender.no_echo) {
            self.subscribers.retain(|&to| to != from);
        }
        let mut subscribers = std::mem::take(&mut self.subscribers);
        // The reply says how many copies are queued, and precedes the copy for the sender: that one comes last.
        let own = subscribers.iter().position(|&to| to == from);
        if let Some(own) = own {
            let last = subscribers.len() - 1;
            subscribers.swap(own, last);
        }
        let mut receivers = 0;
        let reply = |receivers| BroadcastReply { receivers: Some(receivers), ..Default::default() };
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
            let is_admitted = !self.flow.is_stalled(to)
                && self.flow.admits(from, (to, Purpose::Broadcasts), copy.body_len());
            subscriber.missed = if is_admitted { 0 } else { subscriber.missed + 1 };
            receivers += u32::from(is_admitted);
            if to == from {
                self.answer(from, reply(receivers).to_frame(), effects);
            }
            if is_admitted {
                self.counters.deliveries += 1;
                self.send(to, copy, (to, Purpose::Broadcasts), None, effects);
            } else {
                let limit = self.limits.queued_bytes;
                self.dropped(to, Refusal::SlowSubscriber { limit }, effects);
            }
        }
        self.subscribers = subscribers;
        if own.is_none() {
            self.answer(from, reply(receivers).to_frame(), effects);
        }
    }
}
