//! What can go wrong, for callers and for services.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::time::Duration;

use gsb_proto::{Address, AddressError, NameError, Violation};

use crate::encoding::EncodingError;

/// Why an operation failed. `{}` displays a sentence for people, `{:?}` the variant with its fields.
///
/// [`is_retryable`](Error::is_retryable) says whether the same request may be made again, and
/// [`was_delivered`](Error::was_delivered) whether a service may have handled it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the bus is not one.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody could be connected to at the address of the bus.
    #[error("cannot connect to {address}: {problem}")]
    Connect {
        /// The bus.
        address: Address,
        /// What failed, and what to do about it.
        problem: String,
    },
    /// A service id or topic that is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The router refuses a service id or topic, because it is malformed or there are too many.
    #[error("the name {name:?} was refused: {message}")]
    NameRefused {
        /// The service id or topic.
        name: String,
        /// What the router says.
        message: String,
    },
    /// The service id is registered already, by another program or by this one.
    #[error("{}", said(.message, || format!("the service id {service_id:?} is already registered")))]
    AlreadyRegistered {
        /// The service id.
        service_id: String,
        /// What the router says.
        message: String,
    },
    /// Nobody serves the address.
    #[error("there is no service at {address:?}")]
    NoSuchService {
        /// Where the call went.
        address: String,
        /// What the router says.
        message: String,
    },
    /// The router or the service refuses the request.
    #[error("the request to {target:?} was refused: {message}")]
    BadRequest {
        /// The address of the call, or the name or topic that was asked for.
        target: String,
        /// What the other side says.
        message: String,
    },
    /// The service handles as many calls as it may. The same call may succeed later.
    #[error("the service at {address:?} is busy: {message}")]
    Busy {
        /// Where the call went.
        address: String,
        /// What the service says.
        message: String,
    },
    /// The service failed, or went away before it had answered.
    #[error("the service at {address:?} failed: {message}")]
    ServiceFailure {
        /// Where the call went.
        address: String,
        /// What the service, or the router in its place, says.
        message: String,
    },
    /// A reply code that this client does not know.
    #[error("the service at {address:?} answered with the unknown code {code}: {message}")]
    UnknownCode {
        /// Where the call went.
        address: String,
        /// The code.
        code: i32,
        /// What came with it.
        message: String,
    },
    /// No reply came in time. Whoever was asked may still be at work.
    #[error("no reply from {target:?} within {} s", .after.as_secs_f64())]
    Timeout {
        /// The address of the call, or the name or topic that the router was asked for.
        target: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A value of this program has no form in the encoding of the bus.
    #[error("{what:?} cannot be encoded: {error}")]
    Encoding {
        /// The message's id, or the topic.
        what: String,
        /// Why.
        error: EncodingError,
    },
    /// What came is not a value of the type that was expected. Do both sides mean the same type, and
    /// use the same encoding?
    #[error("what came from {from:?} does not decode: {error}")]
    Decoding {
        /// The address or the topic.
        from: String,
        /// Why.
        error: EncodingError,
    },
    /// A stream of replies came where one was expected.
    #[error("the service at {address:?} answers with a stream; use `stream` to call it")]
    IsStream {
        /// Where the call went.
        address: String,
    },
    /// The consumer of a stream or a subscription did not keep up, and its buffer is full. Of a
    /// stream this is the end; a subscription goes on, and `missed` broadcasts are lost.
    #[error("too slow: {missed} messages did not fit into the buffer of {limit} bytes")]
    Overflow {
        /// The size of the buffer.
        limit: usize,
        /// How many messages were dropped.
        missed: u64,
    },
    /// The router has dropped events, since too many waited for this process to read them. A subscription
    /// goes on. The router counts for all subscriptions of a process together: some of the events, or all,
    /// may have been for others.
    #[error(
        "this process is too slow: the router has dropped {count} events to it, for this subscription or \
         others (--queue-limit of the router)"
    )]
    Missed {
        /// How many events were dropped.
        count: u64,
    },
    /// The message, or its address and names, are larger than the router accepts. In bytes.
    #[error("a message of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// The size of the message.
        length: usize,
        /// The limit: the lower one of the router's (`--max-frame`) and
        /// [`BusBuilder::max_frame`](crate::BusBuilder::max_frame); 65,536 for the address and names together.
        limit: usize,
    },
    /// The service has not answered very many earlier calls that were given up, and the router cannot cancel them.
    /// It allows a limited number of open calls, which other services need, too. A call is accepted again when
    /// the service has answered some of them, or over another connection. Routers of this project cancel such
    /// calls.
    #[error(
        "no call is made to {address:?} for now: {calls} calls to it were given up and not answered, and this \
         router cannot cancel them; is the service alive?"
    )]
    TooManyUnanswered {
        /// Where the call was to go.
        address: String,
        /// How many calls are unanswered.
        calls: usize,
    },
    /// There is no connection to the router, or it stops: nobody has got the request.
    #[error("not sent, because the router cannot be reached: {0}")]
    NotSent(LostReason),
    /// The connection to the router is gone, or the router has stopped. Whether the request has reached anybody is not known.
    #[error("the connection to the router is lost: {0}")]
    ConnectionLost(LostReason),
    /// The bus was shut down or closed on this side; nobody has got the request.
    #[error("the bus was shut down by this program")]
    ShutDown,
    /// A shutdown has ended before all was done.
    #[error(
        "the shutdown was not finished within {} s: {}",
        .after.as_secs_f64(),
        unfinished(*.running)
    )]
    Unfinished {
        /// How many calls were still being handled. If none, the router has not taken all replies.
        running: usize,
        /// How long it was waited.
        after: Duration,
    },
}

/// What the other side says, if it says anything.
fn said(message: &str, otherwise: impl FnOnce() -> String) -> String {
    if message.is_empty() { otherwise() } else { message.to_owned() }
}

fn unfinished(running: usize) -> String {
    match running {
        0 => "the router has not taken, or not confirmed, all that was sent".to_owned(),
        1 => "a call was still being handled".to_owned(),
        running => format!("{running} calls were still being handled"),
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LostReason {
    /// It was not made yet.
    #[error("it was not made yet")]
    NotYet,
    /// It could not be made.
    #[error("cannot connect to {address}: {problem}")]
    Unreachable {
        /// The router's address.
        address: Address,
        /// What failed.
        problem: String,
    },
    /// It could not be made in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    NoAnswer(Duration),
    /// The socket could not be connected: what the system says, and what to do about it.
    #[error("{0}")]
    NotConnected(String),
    /// The router took nothing for so long, and there is no more room for what waits to be sent.
    #[error("it took nothing for {} s", .0.as_secs_f64())]
    NothingTaken(Duration),
    /// The router has not answered very many requests; nothing more is asked of it.
    #[error("the router does not answer")]
    Unanswered,
    /// The router closed it.
    #[error("the router closed it")]
    HungUp,
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(String),
    /// The router broke the protocol; is it one?
    #[error("the other side broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The router sent a reply that nothing was asked for.
    #[error("the router sent a {0} that was not asked for")]
    UnexpectedReply(&'static str),
    /// The router is being stopped: it takes no more calls, and has ended those that took too long.
    #[error("the router stops")]
    Stopping,
    /// The router was silent for so long, a Ping notwithstanding.
    #[error("the router was silent for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// The runtime that it was made on has ended.
    #[error("the runtime that served it has ended")]
    RuntimeEnded,
    /// This side closed it.
    #[error("it was closed on this side")]
    Closed,
}

impl From<io::Error> for LostReason {
    fn from(error: io::Error) -> Self {
        LostReason::Io(error.to_string())
    }
}

/// The error of a handler of bytes: a text for the caller, and whose fault it is.
///
/// Everything that can be displayed becomes a `Failure` with `?` and `.into()`: any error, a `&str`, a
/// `String`. Callers see [`Error::ServiceFailure`]. [`Failure::bad_request`] is the caller's fault.
///
/// ```
/// use gsb_client::{Call, Failure};
///
/// async fn double(call: Call) -> Result<String, Failure> {
///     let text = std::str::from_utf8(&call.data).map_err(Failure::bad_request)?;
///     let number: i64 = text.parse()?;
///     let doubled = number.checked_mul(2).ok_or("the number is too large")?;
///     if doubled < 0 {
///         return Err(format!("{doubled} is negative").into());
///     }
///     Ok(doubled.to_string())
/// }
/// ```
///
/// `Failure` itself has neither `Display` nor `Error`, because the conversion from everything that has
/// would then include itself. Its text is [`Failure::message`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub(crate) message: String,
    pub(crate) is_bad_request: bool,
}

impl Failure {
    /// The service has failed; callers see [`Error::ServiceFailure`].
    pub fn new(message: impl fmt::Display) -> Self {
        Failure { message: message.to_string(), is_bad_request: false }
    }

    /// The caller has asked for something impossible; callers see [`Error::BadRequest`].
    pub fn bad_request(message: impl fmt::Display) -> Self {
        Failure { message: message.to_string(), is_bad_request: true }
    }

    /// What the caller is told.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the caller is at fault, as after [`Failure::bad_request`].
    pub fn is_bad_request(&self) -> bool {
        self.is_bad_request
    }

    pub(crate) fn panicked() -> Self {
        Failure::new("the service's handler has panicked")
    }

    /// What a caller in this process is told.
    pub(crate) fn into_error(self, address: &str) -> Error {
        let (address, message) = (address.to_owned(), self.message);
        match self.is_bad_request {
            true => Error::BadRequest { target: address, message },
            false => Error::ServiceFailure { address, message },
        }
    }
}

impl<T: fmt::Display> From<T> for Failure {
    fn from(message: T) -> Self {
        Failure::new(message)
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
