//! A router that stops: its farewell, and which calls it still takes (rules CO-17 and CO-20).

use gsb_proto::MessageKind;
use gsb_proto::messages::{GoAway, Message as _};

use crate::broker::Broker;
use crate::effect::Effects;
use crate::ids::ConnId;
use crate::refusal::Refusal;

/// Clients connect again after a random time of up to this many milliseconds. It spreads the connections of all clients, and
/// a router that is restarted is back by then.
const RETRY_AFTER_MS: u32 = 1000;

/// The router's own service is registered at this address or below it.
const ROUTER_ADDRESS: &str = "/gsb";

impl Broker {
    /// From now on new calls are refused, while those that are open go on. Peers that understand GoAway are told.
    pub fn begin_to_stop(&mut self, effects: &mut dyn Effects) {
        if std::mem::replace(&mut self.is_stopping, true) {
            return;
        }
        for peer in self.connections.ids() {
            self.say_farewell(peer, effects);
        }
    }

    /// Tells a peer that the router stops, unless its level is too low for that.
    pub(crate) fn say_farewell(&mut self, to: ConnId, effects: &mut dyn Effects) {
        if self.level(to) >= MessageKind::GoAway.level() {
            let reason = Refusal::Stopping.to_string();
            self.answer(to, GoAway { reason, retry_after_ms: RETRY_AFTER_MS }.to_frame(), effects);
        }
    }

    /// Whether a call is refused because the router stops. A handler may have to call others before it can answer.
    #[inline]
    pub(crate) fn refuses_calls(&self, from: ConnId, address: &str) -> bool {
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        self.is_stopping
            && !self.calls.is_serving(from)
            && !address.strip_prefix(ROUTER_ADDRESS).is_some_and(is_below)
    }
}
