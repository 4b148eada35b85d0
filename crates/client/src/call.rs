//! A call, as a handler receives it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::engine::call_control::CallControl;
use crate::headers::Headers;
use crate::trace::{InSpan, Trace};

/// A call, as a handler receives it, with its payload or its decoded message.
#[non_exhaustive]
pub struct Call<T = Bytes> {
    /// The name of the caller, as the caller states it. It is not verified.
    pub caller: String,
    /// The address that was called: the service id, or an address below it.
    pub address: String,
    /// The payload, or the message.
    pub data: T,
    pub(crate) context: CallContext,
}

/// The part of a [`Call`] that outlives its data: its deadline, its headers, and whether its caller still waits. It is
/// cheap to clone.
#[derive(Clone)]
pub struct CallContext {
    pub(crate) deadline: Option<Instant>,
    pub(crate) headers: Headers,
    /// The headers that name the span of the handler. Empty if it has none.
    pub(crate) trace: Headers,
    pub(crate) no_reply: bool,
    pub(crate) control: Arc<CallControl>,
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("caller", &self.caller)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("deadline", &self.deadline)
            .field("headers", &self.headers)
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl<T> Call<T> {
    /// Whether the caller waits for a reply. It does not wait for the reply to a push, which is dropped.
    pub fn wants_reply(&self) -> bool {
        !self.context.no_reply
    }

    /// See [`CallContext::deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        self.context.deadline()
    }

    /// See [`CallContext::time_left`].
    pub fn time_left(&self) -> Option<Duration> {
        self.context.time_left()
    }

    /// See [`CallContext::headers`].
    pub fn headers(&self) -> &Headers {
        self.context.headers()
    }

    /// See [`CallContext::cancelled`].
    pub async fn cancelled(&self) {
        self.context.cancelled().await;
    }

    /// See [`CallContext::detach`].
    pub fn detach(&self) {
        self.context.detach();
    }

    /// The part of the call that outlives its data.
    pub fn context(&self) -> &CallContext {
        &self.context
    }

    /// Runs a handler in a span for this call, unless the call has one.
    pub(crate) fn in_span<R: InSpan>(mut self, handler: impl FnOnce(Self) -> R) -> R {
        let Call { address, caller, context, .. } = &mut self;
        if context.trace.is_empty()
            && let Some(trace) = Trace::begin(address, caller, &context.headers)
        {
            context.trace = trace.headers().clone();
            return trace.run(|| handler(self));
        }
        handler(self)
    }

    /// The same call with other data, for example with its decoded message.
    pub fn with_data<U>(self, data: U) -> Call<U> {
        let Call { caller, address, context, .. } = self;
        Call { caller, address, data, context }
    }
}

impl CallContext {
    /// When the caller stops waiting. `None` if it waits without a limit, or does not say. Calls that the handler makes
    /// [on behalf of](crate::Endpoint::on_behalf_of) this call have the same deadline.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the caller still waits, see [`deadline`](CallContext::deadline). Zero after the deadline.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The headers of the call.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The headers of W3C Trace Context for the calls that the handler makes.
    pub(crate) fn trace(&self) -> &Headers {
        if self.trace.is_empty() { &self.headers } else { &self.trace }
    }

    /// Whether the call is cancelled: its caller has dropped it, its deadline is over, the connection of the caller or of
    /// this process is lost, or the bus shuts down.
    pub fn is_cancelled(&self) -> bool {
        self.control.is_cancelled()
    }

    /// Waits until the call is [cancelled](CallContext::is_cancelled). For a call that ends otherwise it waits for ever.
    ///
    /// The future of a handler is dropped when its call is cancelled, unless it was [detached](CallContext::detach).
    /// This is for tasks that a handler has started, and for detached handlers.
    ///
    /// ```
    /// # use gsb_client::{Bus, Call, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let _search = bus
    ///     .register("/search", |call: Call| async move {
    ///         let context = call.context().clone();
    ///         let found = tokio::spawn(async move {
    ///             tokio::select! {
    ///                 () = context.cancelled() => None,
    ///                 () = tokio::task::yield_now() => Some("found"),
    ///             }
    ///         });
    ///         Ok(found.await?.unwrap_or_default())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn cancelled(&self) {
        self.control.cancelled().await;
    }

    /// Lets the handler go on to its end when the call is cancelled. Otherwise its future or its stream is dropped where it
    /// waits. Call it first: a handler that is dropped cannot be detached any more. Only a [shutdown](crate::Bus::shutdown)
    /// cancels a push.
    ///
    /// ```
    /// # use gsb_client::{Bus, Call, Error};
    /// # async fn save(_: &[u8]) {}
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let _store = bus
    ///     .register("/store", |call: Call| async move {
    ///         call.detach();
    ///         save(&call.data).await;
    ///         Ok("saved")
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(&self) {
        self.control.detach();
    }
}

impl<T> AsRef<CallContext> for Call<T> {
    fn as_ref(&self) -> &CallContext {
        &self.context
    }
}

impl AsRef<CallContext> for CallContext {
    fn as_ref(&self) -> &CallContext {
        self
    }
}
