//! What an error says about its request: whether a service may have handled it, and whether it may be made
//! again.

use crate::error::{Error, LostReason};

/// Whether a service has handled a request that ended with an error; see [`Error::was_delivered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivered {
    /// A service has got the request and has answered it.
    Yes,
    /// No service has handled the request, and none will.
    No,
    /// Nobody can tell.
    Unknown,
}

impl Error {
    /// Whether a service has handled the request that ended with this error.
    ///
    /// A service that refuses a request as [busy](Error::Busy) has not handled it. Errors that are not about
    /// a request, such as [`Error::Missed`], are [`Delivered::Unknown`].
    pub fn was_delivered(&self) -> Delivered {
        match self {
            Error::Address(_)
            | Error::Connect { .. }
            | Error::Name(_)
            | Error::NameRefused { .. }
            | Error::AlreadyRegistered { .. }
            | Error::NoSuchService { .. }
            | Error::Busy { .. }
            | Error::Encoding { .. }
            | Error::TooLarge { .. }
            | Error::TooManyUnanswered { .. }
            | Error::NotSent(_)
            | Error::ShutDown => Delivered::No,
            // Replies have come.
            Error::Decoding { .. } | Error::IsStream { .. } | Error::Overflow { .. } => {
                Delivered::Yes
            }
            // The router may have said it in the place of the service.
            Error::BadRequest { .. }
            | Error::ServiceFailure { .. }
            | Error::UnknownCode { .. }
            | Error::Timeout { .. }
            | Error::ConnectionLost(_)
            | Error::Missed { .. }
            | Error::Unfinished { .. } => Delivered::Unknown,
        }
    }

    /// Whether the same request may be made again: no service has handled it, and it may succeed in a moment.
    /// This holds whatever the request does, for example for a payment.
    ///
    /// A request that does no harm when it is handled twice may also be made again after [`Error::Timeout`]
    /// and [`Error::ConnectionLost`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use gsb_client::{Bus, Bytes, Error};
    ///
    /// async fn pay(bus: &Bus, order: Bytes) -> Result<Bytes, Error> {
    ///     for _ in 0..5 {
    ///         match bus.call("/payments", order.clone()).await {
    ///             Err(error) if error.is_retryable() => {
    ///                 tokio::time::sleep(Duration::from_millis(500)).await;
    ///             }
    ///             result => return result,
    ///         }
    ///     }
    ///     bus.call("/payments", order).await
    /// }
    /// ```
    ///
    /// To wait for a service that is not there yet, use
    /// [`Endpoint::wait_for_service`](crate::Endpoint::wait_for_service).
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Connect { .. }
            | Error::AlreadyRegistered { .. }
            | Error::NoSuchService { .. }
            | Error::Busy { .. }
            | Error::TooManyUnanswered { .. } => true,
            // There will never be a connection again.
            Error::NotSent(LostReason::RuntimeEnded | LostReason::Closed) => false,
            Error::NotSent(_) => true,
            Error::Address(_)
            | Error::Name(_)
            | Error::NameRefused { .. }
            | Error::BadRequest { .. }
            | Error::ServiceFailure { .. }
            | Error::UnknownCode { .. }
            | Error::Timeout { .. }
            | Error::Encoding { .. }
            | Error::Decoding { .. }
            | Error::IsStream { .. }
            | Error::Overflow { .. }
            | Error::Missed { .. }
            | Error::TooLarge { .. }
            | Error::ConnectionLost(_)
            | Error::ShutDown
            | Error::Unfinished { .. } => false,
        }
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
