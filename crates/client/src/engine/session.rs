//! The state of one connection to the router. It ends with the connection.

use std::sync::{Arc, Weak};

use gsb_net::Link;
use gsb_proto::messages::{CancelCall, Message, RegisterMode, RegisterRequest, StreamCredit};
use gsb_proto::{Frame, Framing};

use crate::engine::farewell::Farewell;
use crate::engine::intake::CallIntake;
use crate::engine::limits::check_size;
use crate::engine::pending_calls::{PendingCall, PendingCalls};
use crate::engine::pending_requests::PendingRequests;
use crate::engine::terms::Terms;
use crate::engine::unanswered::Unanswered;
use crate::error::Error;
use crate::status::RouterInfo;

/// How many bytes of cancellations and grants may be queued beyond the limit of the outbox, in bytes. It is enough to
/// cancel all calls that a router has open.
const CANCELLATIONS: usize = 4 << 20;

/// A connection, with the calls and requests that wait for a reply over it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) link: Arc<Link>,
    pub(crate) framing: Framing,
    pub(crate) calls: PendingCalls,
    pub(crate) requests: PendingRequests,
    /// Calls whose callers have gone, and which were not cancelled.
    pub(crate) unanswered: Unanswered,
    /// The calls to services of this process.
    pub(crate) intake: Weak<CallIntake>,
    /// Pushes were sent since the last flush.
    pub(crate) has_unflushed: bool,
    /// The router has said that the connection is going to end.
    pub(crate) farewell: Option<Farewell>,
    /// Whether the router sends this bus its own broadcasts.
    pub(crate) echoes: bool,
    /// The level of the protocol extensions that both sides support.
    pub(crate) level: u32,
    /// The name and version of the router, for errors.
    router: String,
    /// Largest message that the router accepts, in bytes.
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
            calls: PendingCalls::default(),
            requests: PendingRequests::default(),
            unanswered: Unanswered::default(),
            intake: Weak::new(),
            has_unflushed: false,
            farewell: None,
            echoes: !router.supports_no_echo,
            level: router.level,
            router: format!("{router:?}"),
            max_frame,
        }
    }

    /// Whether the router accepts the frame.
    pub(crate) fn check_size(&self, frame: &Frame) -> Result<(), Error> {
        check_size(frame, self.max_frame)
    }

    /// The request for a name on these terms. A router of level 0 does not know the mode, and the capacity is left out
    /// there.
    pub(crate) fn register_request(
        &self,
        name: &str,
        terms: Terms,
    ) -> Result<RegisterRequest, Error> {
        let (service_id, Terms { mode, capacity }) = (name.to_owned(), terms);
        if self.level >= 1 {
            return Ok(RegisterRequest { service_id, mode: mode.into(), capacity });
        }
        let method = match mode {
            RegisterMode::Exclusive => {
                return Ok(RegisterRequest { service_id, ..Default::default() });
            }
            RegisterMode::Shared => "shared",
            RegisterMode::Standby => "standby",
        };
        let router = match self.framing {
            Framing::Packet => format!("the router ({})", self.router),
            Framing::Classic => "a connection in the classic framing".to_owned(),
        };
        let message = format!(
            "{router} supports one owner of a name only; register it without `{method}()`, or connect to a router \
             that supports level 1 of the protocol"
        );
        Err(Error::Unsupported { target: service_id, message })
    }

    /// How many bytes may be queued when a cancellation or a grant is added. One frame may exceed the limit of the outbox.
    fn most_queued(&self, outbox_limit: usize) -> usize {
        outbox_limit.max(self.max_frame).saturating_add(CANCELLATIONS)
    }

    /// Cancels a call whose caller has gone. Returns the link if it has to be flushed. A router that does not know
    /// CancelCall, or does not read, keeps the call open, and [`Unanswered`] counts it.
    pub(crate) fn cancel(
        &mut self,
        number: u64,
        request_id: String,
        call: &PendingCall,
        outbox_limit: usize,
    ) -> Option<Arc<Link>> {
        if self.level < 1 || self.link.queued() > self.most_queued(outbox_limit) {
            self.unanswered.add(number, call.address());
            return None;
        }
        let frame = CancelCall { request_id }.to_frame();
        self.link.push_urgent(self.framing, &frame).then(|| self.link.clone())
    }

    /// Grants the service of an open call more credit for its replies. Returns the link if it has to be flushed. A router
    /// that does not read gets no grant, so that memory stays limited; the timeout of the stream ends it.
    pub(crate) fn grant(
        &mut self,
        number: u64,
        request_id: String,
        bytes: usize,
        outbox_limit: usize,
    ) -> Option<Arc<Link>> {
        if !self.calls.is_open(number) || self.link.queued() > self.most_queued(outbox_limit) {
            return None;
        }
        let frame = StreamCredit { request_id, bytes: bytes as u64, for_request: false }.to_frame();
        self.link.push_urgent(self.framing, &frame).then(|| self.link.clone())
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
