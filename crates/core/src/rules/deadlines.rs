//! The deadlines of calls (rule CA-12).

use std::time::Instant;

use crate::broker::Broker;
use crate::deadlines::Expired;
use crate::effect::Effects;
use crate::refusal::Refusal;

/// The number of calls that one tick ends.
const EXPIRED_AT_ONCE: usize = 64;

impl Broker {
    /// Ends calls whose deadlines have passed, a limited number at once.
    pub(crate) fn end_expired_calls(&mut self, now: Instant, effects: &mut dyn Effects) {
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(Expired { call, timeout }) = self.calls.next_expired(now) else {
                break;
            };
            if let Some(caller) = self.calls.caller(call) {
                self.abort(call, caller, Refusal::DeadlineExceeded { timeout }, effects);
            }
        }
        self.release_capacity();
    }
}
