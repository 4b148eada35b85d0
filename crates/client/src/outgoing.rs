//! What goes to the router: calls, pushes, and the end of calls that were given up.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gsb_proto::Frame;
use gsb_proto::messages::CallRequest;
use tokio::time::Instant;

use crate::calls::Waiting;
use crate::error::Error;
use crate::limits::{check_size, check_text};
use crate::shared::{FOREVER, Shared};
use crate::state::{Afterwards, Phase, State};

/// A call that a frame opens.
pub(crate) struct Opening {
    number: u64,
    address: String,
    waiting: Waiting,
}

impl Shared {
    /// An id that no other call has.
    fn request_id(&self, number: u64) -> String {
        format!("{}-{number:x}", self.id_prefix)
    }

    /// The number that [`request_id`](Shared::request_id) was made of.
    pub(crate) fn number(&self, request_id: &str) -> Option<u64> {
        let number = request_id.strip_prefix(&self.id_prefix)?.strip_prefix('-')?;
        u64::from_str_radix(number, 16).ok()
    }

    fn next_call(&self) -> u64 {
        self.last_call.fetch_add(1, Ordering::Relaxed)
    }

    fn call_frame(&self, number: u64, request: CallRequest) -> Result<Frame, Error> {
        let request = CallRequest { request_id: self.request_id(number), ..request };
        check_text([&request.caller, &request.address, &request.request_id])?;
        Ok(request.into_frame())
    }

    /// Sends a call to the router and notes who waits for its replies. Returns its number.
    pub(crate) async fn open_call(
        &self,
        request: CallRequest,
        waiting: Waiting,
        patience: Duration,
    ) -> Result<u64, Error> {
        let number = self.next_call();
        let opening = Opening { number, address: request.address.clone(), waiting };
        let frame = self.call_frame(number, request)?;
        self.send(&frame, patience, Some(opening), |_, _| ()).await?;
        Ok(number)
    }

    /// Sends a call to the router that nobody waits for.
    pub(crate) async fn push(&self, request: CallRequest, patience: Duration) -> Result<(), Error> {
        let request = CallRequest { no_reply: true, ..request };
        let frame = self.call_frame(self.next_call(), request)?;
        let sent = |state: &mut State, _: &mut Afterwards| {
            state.with_session(|session| session.has_unflushed = true);
        };
        self.send(&frame, patience, None, sent).await
    }

    /// Sends a frame to the router when there is room for it. Notes the call that it opens, and lets `sent` note
    /// what else follows, before any answer can come.
    pub(crate) async fn send<R>(
        &self,
        frame: &Frame,
        patience: Duration,
        mut opening: Option<Opening>,
        mut sent: impl FnMut(&mut State, &mut Afterwards) -> R,
    ) -> Result<R, Error> {
        check_size(frame, self.options().max_frame)?;
        // Somebody who always has something to send must not keep everybody else from running.
        tokio::task::coop::consume_budget().await;
        let deadline = (!patience.is_zero()).then(|| Instant::now() + patience.min(FOREVER));
        loop {
            let link = self.link(deadline).await?;
            let attempt = || {
                self.change(|state, after| {
                    // The connection may have been lost, and made again, while there was no room.
                    if !state.is_connected_over(&link) || state.is_leaving {
                        return Ok(None);
                    }
                    if let Phase::Up(session) = &mut state.phase {
                        let checked = session.check_size(frame).and_then(|()| match &opening {
                            Some(call) => session.unanswered.check(&call.address),
                            None => session.control.check(frame.kind),
                        });
                        if let Err(error) = checked {
                            return Ok(Some(Err(error)));
                        }
                        if link.push(session.framing, frame)? {
                            after.flush = Some(link.clone());
                        }
                        if let Some(Opening { number, address, waiting }) = opening.take() {
                            session.calls.open(number, address, waiting);
                        }
                    }
                    Ok(Some(Ok(sent(state, after))))
                })
            };
            if let Some(result) = link.when_room(attempt).await {
                return result;
            }
        }
    }

    /// The caller wants nothing more of a call. Unless the call has ended, it is cancelled at the router.
    pub(crate) fn give_up_call(&self, number: u64) {
        let mut state = self.state.lock();
        let Phase::Up(session) = &mut state.phase else {
            return;
        };
        let Some(call) = session.calls.give_up(number) else {
            return;
        };
        let limit = self.options().outbox_limit;
        let flush = session.cancel(number, self.request_id(number), &call, limit);
        drop(state);
        drop(call);
        if let Some(link) = flush {
            link.flush();
        }
    }
}
