//! Leaving a connection whose router has said farewell (rule CO-20).

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use gsb_proto::messages::GoAway;

use crate::engine::Engine;
use crate::engine::farewell::Farewell;
use crate::engine::intake::CallIntake;
use crate::engine::state::{Phase, State};
use crate::error::LostReason;

impl State {
    /// The router has said farewell.
    fn take_farewell(&mut self, farewell: Farewell) {
        let Phase::Up(session) = &mut self.phase else {
            return;
        };
        if session.has_unflushed {
            // The router drops pushes from the moment at which it sent the farewell.
            self.lost_pushes = Some(LostReason::Stopping);
        }
        session.farewell = Some(farewell);
    }

    /// Leaves the connection if nothing is open on it, after a farewell. A process with services stays: handlers of others
    /// may need them to finish.
    fn leave(&mut self) -> bool {
        let Phase::Up(session) = &mut self.phase else {
            return false;
        };
        let is_idle = session.calls.is_empty() && session.requests.is_empty();
        match &mut session.farewell {
            Some(farewell)
                if is_idle && farewell.intake.is_idle() && !self.announcements.has_services() =>
            {
                farewell.is_leaving = true;
                true
            }
            _ => false,
        }
    }
}

impl Engine {
    /// The router says farewell. Fails if it is the last message.
    pub(crate) fn take_farewell(
        &self,
        intake: &Arc<CallIntake>,
        go_away: &GoAway,
    ) -> Result<(), LostReason> {
        log::debug!("the router says farewell: {:?}", go_away.reason);
        let farewell = Farewell {
            retry_after: Duration::from_millis(go_away.retry_after_ms.into()),
            intake: intake.clone(),
            is_last: go_away.last,
            is_leaving: false,
        };
        // First, so that a call that finds the farewell in the state waits as it should.
        self.has_farewell.store(true, Ordering::SeqCst);
        self.change(|state, _| state.take_farewell(farewell));
        if go_away.last { Err(LostReason::Stopping) } else { Ok(()) }
    }

    /// Completes when the connection is to be left after a farewell. It is polled whenever the connection's task wakes up:
    /// [`look_again`](Engine::look_again) wakes it.
    pub(crate) async fn left(&self) {
        // Without another connection the bus would end.
        let may_leave = self.options().reconnect.is_some();
        poll_fn(|_| match self.has_farewell.load(Ordering::SeqCst) {
            true if may_leave && self.state.lock().leave() => Poll::Ready(()),
            _ => Poll::Pending,
        })
        .await;
    }

    /// Something has ended. The connection may be left now, if the router has said farewell.
    pub(crate) fn look_again(&self) {
        if self.has_farewell.load(Ordering::SeqCst) {
            self.flush_soon();
        }
    }

    /// A random pause before the next connection, if the router has said farewell.
    pub(crate) fn farewell_pause(&self) -> Duration {
        let state = self.state.lock();
        let Phase::Up(session) = &state.phase else {
            return Duration::ZERO;
        };
        let longest = self.options().reconnect.as_ref().map(|reconnect| reconnect.longest_delay);
        session.farewell.as_ref().map_or(Duration::ZERO, |farewell| {
            let retry_after = farewell.retry_after.min(longest.unwrap_or_default());
            retry_after.mul_f64(fastrand::f64())
        })
    }
}
