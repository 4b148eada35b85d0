//! One connection to the router, and what waits for something from it.

use std::sync::Arc;

use gsb_net::Link;
use gsb_proto::messages::{CancelCall, Message};
use gsb_proto::{Frame, Framing};

use crate::calls::{Calls, Pending};
use crate::control::Control;
use crate::error::Error;
use crate::limits::check_size;
use crate::status::RouterInfo;
use crate::unanswered::Unanswered;

/// How many bytes of cancellations may wait to be sent, beyond what else may: more than a router has open calls.
const CANCELLATIONS: usize = 4 << 20;

/// A connection, and who waits for something from it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) link: Arc<Link>,
    pub(crate) framing: Framing,
    pub(crate) calls: Calls,
    pub(crate) control: Control,
    /// Calls that were given up and not cancelled.
    pub(crate) unanswered: Unanswered,
    /// Pushes were sent that no [flush](crate::Bus::flush) asks for.
    pub(crate) has_unflushed: bool,
    /// Whether the router sends this bus its own broadcasts, too.
    pub(crate) echoes: bool,
    /// Whether the router knows CancelCall.
    cancels: bool,
    /// Largest message that it may be sent, in bytes.
    max_frame: usize,
}

impl Session {
    pub(crate) fn new(
        link: Arc<Link>,
        framing: Framing,
        router: &RouterInfo,
        max_frame: usize,
    ) -> Self {
        Session {
            link,
            framing,
            calls: Calls::default(),
            control: Control::default(),
            unanswered: Unanswered::default(),
            has_unflushed: false,
            echoes: !router.heeds_no_echo,
            cancels: router.level >= 1,
            max_frame,
        }
    }

    /// Whether the router accepts the frame.
    pub(crate) fn check_size(&self, frame: &Frame) -> Result<(), Error> {
        check_size(frame, self.max_frame)
    }

    /// Cancels a call that its caller has given up. Returns the link if it has to be flushed. A router that cannot
    /// cancel, or does not read, holds the call open, which is noted.
    pub(crate) fn cancel(
        &mut self,
        number: u64,
        request_id: String,
        call: &Pending,
        outbox_limit: usize,
    ) -> Option<Arc<Link>> {
        let most = outbox_limit.saturating_add(CANCELLATIONS);
        if !self.cancels || self.link.queued() > most {
            self.unanswered.add(number, call.address());
            return None;
        }
        let frame = CancelCall { request_id }.to_frame();
        self.link.push_urgent(self.framing, &frame).then(|| self.link.clone())
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
