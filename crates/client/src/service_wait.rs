//! Waiting for a service that is not there yet.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::error::{Error, LostReason};
use crate::panics::contain_waker;
use crate::reconnect::Reconnect;
use crate::services::ServiceEntry;
use crate::shared::FOREVER;

/// The longest pause before the first of the further attempts; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause before any attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The attempts of one call, while no service has seen it.
///
/// A service that is registered in this process ends the wait at once. A router does not tell when a service
/// comes, and is asked again after random pauses that grow.
pub(crate) struct ServiceWait<'a> {
    endpoint: &'a Endpoint,
    /// When the first attempt has failed: those that succeed at once need no clock.
    start: Option<Instant>,
    pauses: Reconnect,
    attempts: u32,
}

impl<'a> ServiceWait<'a> {
    /// The waiting time begins with the first error.
    pub(crate) fn new(endpoint: &'a Endpoint) -> Self {
        let pauses = Reconnect::default().first_delay(FIRST_PAUSE).longest_delay(LONGEST_PAUSE);
        ServiceWait { endpoint, start: None, pauses, attempts: 0 }
    }

    /// Waits until it is worth to try again after this error; `false` if the call ends with it.
    pub(crate) async fn again(&mut self, error: &Error) -> bool {
        let Some(deadline) = self.deadline(error) else {
            return false;
        };
        let bus = self.endpoint.bus();
        let next = match bus.asks_router() {
            true => (Instant::now() + self.pauses.delay(self.attempts)).min(deadline),
            false => deadline,
        };
        self.attempts = self.attempts.saturating_add(1);
        loop {
            let mut changed = pin!(bus.shared().services_changed());
            changed.as_mut().enable();
            // A service here, or the end of the bus: the next attempt meets it.
            match self.find() {
                Ok(None) | Err(Error::NoSuchService { .. }) => {}
                Ok(Some(_)) | Err(_) => return true,
            }
            if tokio::time::timeout_at(next, contain_waker(changed)).await.is_err() {
                return next < deadline;
            }
        }
    }

    /// Until when calls that end with this error are made again.
    fn deadline(&mut self, error: &Error) -> Option<Instant> {
        let patience = match error {
            Error::NoSuchService { .. } => self.endpoint.service_patience(),
            // The connection ends in a moment, and there may be another one.
            Error::NotSent(LostReason::Stopping) => self.endpoint.router_patience(),
            _ => return None,
        };
        let start = *self.start.get_or_insert_with(Instant::now);
        Some(start + patience.min(FOREVER))
    }

    fn find(&self) -> Result<Option<Arc<ServiceEntry>>, Error> {
        self.endpoint.bus().find(self.endpoint.address())
    }
}

/// The service of this process that an address belongs to, or `None` if the router is to find it, as soon as
/// there is one.
pub(crate) async fn found(wait: &mut ServiceWait<'_>) -> Result<Option<Arc<ServiceEntry>>, Error> {
    loop {
        match wait.find() {
            Err(error) if wait.again(&error).await => {}
            found => return found,
        }
    }
}
