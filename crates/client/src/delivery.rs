//! Whether a service may have handled a request that ended with an error, and whether the request may be repeated.

use crate::error::{Error, LostReason};

/// Whether a service has handled a request that ended with an error; see [`Error::was_delivered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivered {
    /// A service has received the request and has answered it.
    Yes,
    /// No service has handled the request, and none will.
    No,
    /// It is not known.
    Unknown,
}

impl Error {
    /// Whether a service has handled the request that ended with this error.
    ///
    /// A service that refuses a request as [busy](Error::Busy) has not handled it. Errors without a request, such as
    /// [`Error::Missed`], are [`Delivered::Unknown`].
    pub fn was_delivered(&self) -> Delivered {
        match self {
            Error::Address(_)
            | Error::Connect { .. }
            | Error::Thread(_)
            | Error::Name(_)
            | Error::NameRefused { .. }
            | Error::AlreadyRegistered { .. }
            | Error::NoSuchService { .. }
            | Error::Unsupported { .. }
            | Error::Busy { .. }
            | Error::Encoding { .. }
            | Error::TooLarge { .. }
            | Error::TooManyUnanswered { .. }
            | Error::NotSent(_)
            | Error::ShutDown => Delivered::No,
            // A reply has arrived.
            Error::Decoding { .. } | Error::IsStream { .. } | Error::Overflow { .. } => {
                Delivered::Yes
            }
            // The reply may be the router's.
            Error::BadRequest { .. }
            | Error::ServiceFailure { .. }
            | Error::Cancelled { .. }
            | Error::UnknownCode { .. }
            | Error::Timeout { .. }
            | Error::ConnectionLost(_)
            | Error::Missed { .. }
            | Error::Unfinished { .. } => Delivered::Unknown,
        }
    }

    /// Whether the same request may be repeated: no service has handled it, and it may succeed later. It is safe for
    /// any request, for example a payment.
    ///
    /// An idempotent request may also be repeated after [`Error::Timeout`] and [`Error::ConnectionLost`].
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
    /// To wait for a service that is not registered yet, use
    /// [`Endpoint::wait_for_service`](crate::Endpoint::wait_for_service).
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Connect { .. }
            | Error::Thread(_)
            | Error::AlreadyRegistered { .. }
            | Error::NoSuchService { .. }
            | Error::Busy { .. }
            | Error::TooManyUnanswered { .. } => true,
            // The bus has ended.
            Error::NotSent(LostReason::RuntimeEnded | LostReason::Closed) => false,
            Error::NotSent(_) => true,
            Error::Address(_)
            | Error::Name(_)
            | Error::NameRefused { .. }
            | Error::BadRequest { .. }
            | Error::Unsupported { .. }
            | Error::ServiceFailure { .. }
            | Error::Cancelled { .. }
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
pub(crate) mod tests;
