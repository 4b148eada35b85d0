//! A router that stops: its farewell, and which calls it still takes (rules CO-17 and CO-20).

use gsb_proto::MessageKind;
use gsb_proto::messages::{GoAway, Message as _};
use gsb_proto::names::is_router_address;

use crate::broker::Broker;
use crate::effect::Effects;
use crate::ids::ConnId;
use crate::refusal::Refusal;

/// Clients connect again after a random time of up to this many milliseconds. It spreads the connections of all clients, and
/// a router that is restarted is back by then.
const RETRY_AFTER_MS: u32 = 1000;

impl Broker {
    /// From now on new calls are refused, while those that are open go on. Peers that understand GoAway are told: looks at
    /// up to `budget` connections. Returns whether some are left: then call it again.
    pub fn begin_to_stop(&mut self, budget: usize, effects: &mut dyn Effects) -> bool {
        self.is_stopping = true;
        self.tell_peers(budget, effects)
    }

    /// From now on all calls are refused. Ends the open calls, and then tells peers that understand GoAway, in their last
    /// message: looks at up to `budget` calls or connections. Returns whether some are left: then call it again.
    pub fn finish_stopping(&mut self, budget: usize, effects: &mut dyn Effects) -> bool {
        self.is_stopping = true;
        if !std::mem::replace(&mut self.has_stopped, true) {
            self.told = 0;
        }
        if self.usage().open_calls > 0 {
            self.end_calls(budget, effects);
            return true;
        }
        self.tell_peers(budget, effects)
    }

    fn tell_peers(&mut self, budget: usize, effects: &mut dyn Effects) -> bool {
        let begin = self.told;
        let end = self.connections.end().min(begin.saturating_add(budget));
        for slot in begin..end {
            if let Some(peer) = self.connections.in_slot(slot) {
                self.say_farewell(peer, effects);
            }
        }
        let is_left = end < self.connections.end();
        // A peer that connects from then on is told when it introduces itself.
        self.told = if is_left { end } else { usize::MAX };
        is_left
    }

    /// Ends the open calls: looks at up to `budget` entries of the table of calls. Returns whether some are left: then call
    /// it again. Meanwhile no call is accepted because its caller has calls to answer.
    pub fn end_calls(&mut self, budget: usize, effects: &mut dyn Effects) -> bool {
        let slots = self.ending.take().unwrap_or(0..self.calls.slots_end());
        let end = slots.end.min(slots.start.saturating_add(budget));
        self.ending = (end < slots.end).then_some(end..slots.end);
        for slot in slots.start..end {
            if let Some((call, caller)) = self.calls.open_in_slot(slot) {
                self.abort(call, caller, Refusal::Stopped, effects);
            }
        }
        self.release_capacity();
        self.ending.is_some()
    }

    /// Tells a peer that the router stops, unless its level is too low for that.
    fn say_farewell(&mut self, to: ConnId, effects: &mut dyn Effects) {
        if self.level(to) >= MessageKind::GoAway.level() {
            let reason = Refusal::Stopping.to_string();
            let go_away = GoAway { reason, retry_after_ms: RETRY_AFTER_MS, last: self.has_stopped };
            self.answer(to, go_away.to_frame(), effects);
        }
    }

    /// A peer has introduced itself. It is told that the router stops if the peers in its slot were told before.
    pub(crate) fn say_late_farewell(&mut self, to: ConnId, effects: &mut dyn Effects) {
        if to.slot() < self.told {
            self.say_farewell(to, effects);
        }
    }

    /// Whether a call is refused because the router stops. A handler may have to call others before it can answer.
    #[inline]
    pub(crate) fn refuses_calls(&self, from: ConnId, address: &str) -> bool {
        self.is_stopping
            && (self.has_stopped
                || (self.ending.is_some() || !self.calls.is_serving(from))
                    && !is_router_address(address))
    }
}
