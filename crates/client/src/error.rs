//! The errors of callers.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use gsb_proto::{Address, AddressError, MAX_TEXT, NameError, Violation};

use crate::encoding::error::EncodingError;

/// Why an operation failed. `{}` displays a sentence, `{:?}` the variant with its fields.
///
/// [`is_retryable`](Error::is_retryable) says whether the same request may be made again, and
/// [`was_delivered`](Error::was_delivered) whether a service may have handled it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the router is malformed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The router cannot be connected to.
    #[error("cannot connect to {address}: {problem}")]
    Connect {
        /// The address of the router.
        address: Address,
        /// The cause, and the remedy if one is known.
        problem: String,
    },
    /// The thread of a `blocking::Bus` cannot be started. The text is that of the system.
    #[error(
        "cannot start the thread of the bus: {0}; is a limit on threads or descriptors reached?"
    )]
    Thread(String),
    /// A service id or topic is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The router refuses a service id or topic: it is malformed, or there are too many. Or the router has taken it away.
    #[error("the router refuses the name {name:?}: {message}")]
    NameRefused {
        /// The service id or topic.
        name: String,
        /// The message of the router.
        message: String,
    },
    /// The service id is already registered, by another program or by this one.
    #[error("{}", or_else(.message, || format!("the service id {service_id:?} is already registered")))]
    AlreadyRegistered {
        /// The service id.
        service_id: String,
        /// The message of the router.
        message: String,
    },
    /// No service is registered for the address.
    #[error("there is no service at {address:?}")]
    NoSuchService {
        /// The address of the call.
        address: String,
        /// The message of the router.
        message: String,
    },
    /// The router or the service refuses the request.
    #[error("the request to {target:?} was refused: {message}")]
    BadRequest {
        /// The address of the call, or the name or topic of the request.
        target: String,
        /// The message of the router or the service.
        message: String,
    },
    /// The other side does not support what the request needs: a service that does not take streams of data, or a router
    /// that does not know names with several owners. No service has handled the request.
    #[error("the request to {target:?} is not supported: {message}")]
    Unsupported {
        /// The address of the call, or the name of the request.
        target: String,
        /// Which part of the request the other side does not support, and what to do.
        message: String,
    },
    /// The service handles as many calls as its limits allow, or each of the owners of a shared name does. The same call
    /// may succeed later.
    #[error("the service at {address:?} is busy: {message}")]
    Busy {
        /// The address of the call.
        address: String,
        /// The message of the service.
        message: String,
    },
    /// The service failed, or the router ended the call: the service's connection ended or stalled, or the connection of
    /// this bus stalled. The service may have handled the request, or may still.
    #[error("the service at {address:?} failed: {message}")]
    ServiceFailure {
        /// The address of the call.
        address: String,
        /// The message of the service, or of the router in its place.
        message: String,
    },
    /// The service has dropped the call before it answered: its bus was shut down. The service may have handled a part of
    /// the request.
    ///
    /// As the last item of a [`RequestStream`](crate::RequestStream): the caller has gone, or the call has ended.
    #[error("the service at {address:?} dropped the call: {message}")]
    Cancelled {
        /// The address of the call.
        address: String,
        /// The message of the service.
        message: String,
    },
    /// The reply has a code that this client does not know.
    #[error(
        "the service at {address:?} answered with code {code}, which this client does not know: {message}"
    )]
    UnknownCode {
        /// The address of the call.
        address: String,
        /// The code.
        code: i32,
        /// The payload of the reply, as text.
        message: String,
    },
    /// No reply came in time. The service or the router may still be handling the request.
    #[error("no reply for {target:?} within {}", seconds(*.after))]
    Timeout {
        /// The address of the call, or the name or topic of the request.
        target: String,
        /// The timeout.
        after: Duration,
    },
    /// A value of this program cannot be encoded.
    #[error("cannot encode {what:?}: {error}")]
    Encoding {
        /// The id of the message, or the topic.
        what: String,
        /// The cause.
        error: EncodingError,
    },
    /// Received data is not a value of the expected type. Do both sides use the same type and the same encoding?
    #[error("cannot decode the data from {from:?}: {error}")]
    Decoding {
        /// The address or the topic.
        from: String,
        /// The cause.
        error: EncodingError,
    },
    /// The service answers a call with a stream of replies. Use [`Bus::stream`](crate::Bus::stream).
    #[error("the service at {address:?} answers with a stream; call it with `stream`")]
    IsStream {
        /// The address of the call.
        address: String,
    },
    /// The consumer of a subscription or stream is too slow, and its buffer is full. A subscription has lost `missed`
    /// events, and goes on. A stream ends with this error; its service is told to stop.
    ///
    /// A stream does not overflow if the router and the service support level 1 of the protocol, as those of this project
    /// do: the service waits for its reader, see [`BusBuilder::stream_window`](crate::BusBuilder::stream_window).
    #[error(
        "the consumer reads too slowly: {} did not fit into its buffer of {limit} bytes; read faster, or raise \
         buffer_limit",
        counted(*.missed, "message")
    )]
    Overflow {
        /// The size of the buffer, in bytes.
        limit: usize,
        /// How many messages were dropped.
        missed: u64,
    },
    /// The router has dropped events, because this process reads too slowly. The subscription goes on. The router
    /// counts for all subscriptions of a process together: some of the events, or all, may have been for others.
    #[error(
        "this process reads too slowly: the router dropped {} for its subscriptions; read faster, or raise \
         --queue-limit of the router",
        counted(*.count, "event")
    )]
    Missed {
        /// How many events were dropped.
        count: u64,
    },
    /// The message, or its texts, are larger than the router accepts.
    #[error("{}", too_large(*.length, *.limit))]
    TooLarge {
        /// The size of the message, in bytes.
        length: usize,
        /// The limit, in bytes: the lower one of the router's (`--max-frame`) and
        /// [`BusBuilder::max_frame`](crate::BusBuilder::max_frame), or 65,536 for address, caller and names together.
        limit: usize,
    },
    /// The service has not answered many earlier calls whose callers have gone, and the router cannot cancel them.
    /// They count towards the limit on open calls, which other services need, too. A call is accepted again when the
    /// service has answered some of them, or after a reconnect. Routers of this project can cancel calls.
    #[error(
        "the service at {address:?} has not answered {calls} earlier calls, which this router cannot cancel; is the \
         service alive?"
    )]
    TooManyUnanswered {
        /// The address of the call.
        address: String,
        /// How many calls are unanswered.
        calls: usize,
    },
    /// The request was not sent, because there is no connection to the router, or the router is shutting down.
    #[error("not sent: {0}")]
    NotSent(LostReason),
    /// The connection to the router was lost, or the router has shut down. The service may have handled the request or
    /// not.
    #[error("the connection to the router was lost: {0}")]
    ConnectionLost(LostReason),
    /// The request was not sent, because this program has shut the bus down or closed it.
    #[error("not sent: this program has shut the bus down or closed it")]
    ShutDown,
    /// A shutdown has reached its timeout.
    #[error("the shutdown did not finish within {}: {}", seconds(*.after), unfinished(*.running))]
    Unfinished {
        /// How many calls were still running. If none, the router has not read all replies.
        running: usize,
        /// The timeout.
        after: Duration,
    },
}

impl Error {
    /// The last item of the body of an upload whose call is cancelled.
    pub(crate) fn body_cancelled(address: &str) -> Self {
        let message = "the caller has gone, or the call has ended".to_owned();
        Error::Cancelled { address: address.to_owned(), message }
    }
}

/// A message of the other side, or a text in its place if it is empty.
fn or_else(message: &str, otherwise: impl FnOnce() -> String) -> String {
    if message.is_empty() { otherwise() } else { message.to_owned() }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

fn too_large(length: usize, limit: usize) -> String {
    let (what, remedy) = match limit {
        // It is the limit for the address, the caller and the names together. A frame may have it, too.
        MAX_TEXT => (
            "the message, or its address and caller together,",
            "shorten the data, the address or the caller",
        ),
        _ => ("the message", "split it, or raise max_frame here and --max-frame at the router"),
    };
    format!("{what} has {length} bytes, which is over the limit of {limit} bytes; {remedy}")
}

fn unfinished(running: usize) -> String {
    match running {
        0 => "the router has not read, or not confirmed, all that was sent".to_owned(),
        1 => "1 call was still running".to_owned(),
        running => format!("{running} calls were still running"),
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Why there is no connection to the router.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LostReason {
    /// The bus has not been connected yet.
    #[error("the bus is not connected to a router yet; `wait_for_router` waits for the connection")]
    NotYet,
    /// The router cannot be connected to.
    #[error("cannot connect to {address}: {problem}")]
    Unreachable {
        /// The address of the router.
        address: Address,
        /// The cause, and the remedy if one is known.
        problem: String,
    },
    /// The connection was not established in time.
    #[error("the router did not answer within {} (connect_timeout)", seconds(*.0))]
    NoAnswer(Duration),
    /// The socket cannot be connected. The text is that of the system, with a remedy.
    #[error("{0}")]
    NotConnected(String),
    /// The outbox was full, and the router has read nothing for this time.
    #[error("the outbox is full, and the router has read nothing for {}", seconds(*.0))]
    NothingTaken(Duration),
    /// The router owes the answers to too many requests.
    #[error(
        "the router has not answered earlier requests, which hold 64 MiB, the limit; is it alive?"
    )]
    Unanswered,
    /// The router closed the connection.
    #[error("the router closed the connection")]
    HungUp,
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(String),
    /// The router broke the protocol. It may be a program of another kind.
    #[error("the router broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The router sent a message that does not answer a request.
    #[error("the router sent an unexpected {0}")]
    UnexpectedReply(&'static str),
    /// The router is shutting down: it takes no calls any more, and has ended those that took too long.
    #[error("the router is shutting down")]
    Stopping,
    /// The router was silent for this time, and has not answered a Ping.
    #[error("the router was silent for {}", seconds(*.0))]
    Silent(Duration),
    /// The tokio runtime on which the bus was made has ended.
    #[error("the tokio runtime of the bus has ended")]
    RuntimeEnded,
    /// This program has closed the bus.
    #[error("this program has closed the bus")]
    Closed,
}

impl From<io::Error> for LostReason {
    fn from(error: io::Error) -> Self {
        LostReason::Io(error.to_string())
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
