//! Waiting for a service that is not registered yet.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Engine;
use crate::engine::scope::Scope;
use crate::engine::service_entry::RunningCall;
use crate::error::{Error, LostReason};
use crate::panics::contain_waker;
use crate::reconnect::Reconnect;
use crate::timeouts::FOREVER;

/// The longest pause before the second attempt. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause before any attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The call that waits for a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitTarget<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) scope: Scope,
    pub(crate) address: &'a str,
    pub(crate) affinity: &'a str,
    /// How long to wait for a service.
    pub(crate) service_timeout: Duration,
    /// How long to wait for a router.
    pub(crate) router_timeout: Duration,
}

/// The attempts of one call, made as long as no service has received it.
///
/// The wait ends at once when a service is registered in this process. A router does not tell when a service is
/// registered: it is asked again after growing random pauses.
pub(crate) struct ServiceWait<'a> {
    target: WaitTarget<'a>,
    /// When the first attempt failed. A call that succeeds at once reads no clock.
    start: Option<Instant>,
    pauses: Reconnect,
    attempts: u32,
}

impl<'a> ServiceWait<'a> {
    /// The time begins with the first error.
    pub(crate) fn new(target: WaitTarget<'a>) -> Self {
        let pauses = Reconnect::default().first_delay(FIRST_PAUSE).longest_delay(LONGEST_PAUSE);
        ServiceWait { target, start: None, pauses, attempts: 0 }
    }

    /// Waits until the call may be tried again after this error. `false` if the call ends with the error.
    pub(crate) async fn again(&mut self, error: &Error) -> bool {
        let Some(deadline) = self.deadline(error) else {
            return false;
        };
        let WaitTarget { engine, scope, address, affinity, .. } = self.target;
        let next = match scope == Scope::Everywhere && engine.has_router() {
            true => (Instant::now() + self.pauses.delay(self.attempts)).min(deadline),
            false => deadline,
        };
        self.attempts = self.attempts.saturating_add(1);
        loop {
            let mut changed = pin!(engine.services_changed());
            changed.as_mut().enable();
            if engine.is_decided_here(address, scope, affinity) {
                return true;
            }
            if tokio::time::timeout_at(next, contain_waker(changed)).await.is_err() {
                return next < deadline;
            }
        }
    }

    /// Waits for a service of this process. Returns the call that begins there, or `None` if the call goes to the router.
    pub(crate) async fn found(&mut self) -> Result<Option<RunningCall>, Error> {
        loop {
            match self.find() {
                Err(error) if self.again(&error).await => {}
                found => return found,
            }
        }
    }

    /// Until when a call that ends with this error is tried again.
    fn deadline(&mut self, error: &Error) -> Option<Instant> {
        let timeout = match error {
            Error::NoSuchService { .. } => self.target.service_timeout,
            // The connection ends soon, and another one follows unless the bus has ended with it.
            Error::NotSent(LostReason::Stopping) if !self.target.engine.has_ended() => {
                self.target.router_timeout
            }
            _ => return None,
        };
        let start = *self.start.get_or_insert_with(Instant::now);
        Some(start + timeout.min(FOREVER))
    }

    fn find(&self) -> Result<Option<RunningCall>, Error> {
        let WaitTarget { engine, scope, address, affinity, .. } = self.target;
        engine.find(address, scope, affinity)
    }
}
