//! The farewell of a router: what may still be sent over the connection (rule CO-20).

use std::sync::Arc;
use std::time::Duration;

use gsb_proto::names::is_router_address;

use crate::engine::intake::CallIntake;
use crate::engine::nesting::{self, BusId};

/// How long a call waits after a farewell, before it is assumed that a handler waits for it: 100 ms.
pub(crate) const MOMENT: Duration = Duration::from_millis(100);

/// What is sent to the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    /// A call or a push. After a farewell only handlers may make one: they may have to call others before they can answer.
    Call,
    /// A call or a push that has waited for [a moment](MOMENT) after a farewell. It may be sent while handlers run here,
    /// since one of them may wait for the task that makes it. At once it may not: two processes that call each other all the
    /// time would never come to an end.
    DelayedCall,
    /// Anything else, and calls to the router itself.
    Other,
}

impl Sending {
    /// A call or a push to an address.
    pub(crate) fn call(address: &str) -> Self {
        // A router that stops still takes calls to itself.
        if is_router_address(address) { Sending::Other } else { Sending::Call }
    }
}

/// The farewell that a router has sent.
#[derive(Debug)]
pub(crate) struct Farewell {
    /// The longest pause before the next connection.
    pub(crate) retry_after: Duration,
    /// The calls from the router.
    pub(crate) intake: Arc<CallIntake>,
    /// The router has answered all calls that it has accepted.
    pub(crate) is_last: bool,
    /// This side has ended the connection, and sends nothing more.
    pub(crate) is_leaving: bool,
}

impl Farewell {
    /// Whether something may be sent all the same.
    pub(crate) fn allows(&self, sending: Sending, bus: BusId) -> bool {
        let is_nested = || nesting::handlers_of(bus) > 0;
        match sending {
            Sending::Call => !self.is_last && is_nested(),
            Sending::DelayedCall => !self.is_last && (is_nested() || !self.intake.is_idle()),
            Sending::Other => true,
        }
    }
}
