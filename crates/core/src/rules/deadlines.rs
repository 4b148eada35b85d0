//! The deadlines of calls (rule CA-12).

use std::time::Instant;

use crate::broker::Broker;
use crate::deadlines::{Due, Expired};
use crate::effect::Effects;
use crate::refusal::Refusal;

/// The number of deadlines that one tick deals with.
const DUE_AT_ONCE: usize = 64;

impl Broker {
    /// Ends calls whose deadlines have passed, a limited number at once.
    pub(crate) fn end_expired_calls(&mut self, now: Instant, effects: &mut dyn Effects) {
        for _ in 0..DUE_AT_ONCE {
            let Some(due) = self.calls.next_due(now) else {
                break;
            };
            if let Due::Expired(Expired { call, timeout }) = due
                && let Some(caller) = self.calls.caller(call)
            {
                self.abort(call, caller, Refusal::DeadlineExceeded { timeout }, effects);
            }
        }
        self.release_capacity();
    }
}
