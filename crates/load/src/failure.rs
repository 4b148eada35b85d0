//! The errors of a measurement.

use std::io;
use std::time::Duration;

use gsb_net::connect_advice;
use gsb_proto::wire::WireError;
use gsb_proto::{Address, AddressError};

use crate::limits::{LARGEST_BACKLOG, LARGEST_PAYLOAD};

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The address of the router is not valid.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A connection to the router could not be made.
    #[error("cannot connect to {address}: {error}; {advice}")]
    Connect {
        /// The address of the router.
        address: Address,
        /// The error of the system.
        error: io::Error,
        /// The remedy.
        advice: String,
    },
    /// A connection failed.
    #[error("a connection to the router failed: {0}; the router's log may say why")]
    Io(#[from] io::Error),
    /// The router closed a connection.
    #[error("the router closed a connection; the router's log may say why")]
    Closed,
    /// The router sent bytes that are not valid in its protocol. The text begins with `it`, the router.
    #[error("the router breaks the protocol: {0}")]
    Protocol(String),
    /// The router refused a request.
    #[error("the router refused a request: {0}")]
    Refused(String),
    /// The router did not answer a request in time.
    #[error(
        "the router did not answer within {0:?}: it hangs, or another program listens at its address"
    )]
    NoAnswer(Duration),
    /// The router sent a reply that belongs to no open call.
    #[error("the router sent a reply to call {0}, which is not open")]
    ForeignReply(u64),
    /// The histogram of the latencies could not be made.
    #[error("the latencies cannot be recorded: {0}")]
    Latencies(String),
    /// A process cannot be inspected.
    #[error(
        "process {0} does not exist, or this user may not inspect it; `pidof router` prints the process id of the \
         router"
    )]
    Process(u32),
    /// A payload is larger than a frame.
    #[error(
        "{0} bytes do not fit in a message: its payload has at most {LARGEST_PAYLOAD} bytes, or fewer if the router's \
         --max-frame is lower"
    )]
    Payload(usize),
    /// Too many bytes would be in flight.
    #[error(
        "{messages} messages of {payload} bytes in flight need {}, and the limit is {}: ask for fewer or smaller ones",
        mebibytes(*bytes),
        mebibytes(LARGEST_BACKLOG)
    )]
    Backlog {
        /// The number of messages in flight.
        messages: u64,
        /// The payload of each in bytes.
        payload: usize,
        /// The bytes that they need.
        bytes: u64,
    },
    /// The system does not allow this process that many connections.
    #[error(
        "{count} connections exceed the {allowed} that this program may open: ask for fewer, or raise the limit of \
         open files (ulimit -Hn)"
    )]
    Connections {
        /// The number of connections that were asked for.
        count: u64,
        /// The number that is allowed.
        allowed: u64,
    },
    /// A part of what was measured failed.
    #[error("{}", failed_text(*failed, *of, units, example.as_deref()))]
    Failed {
        /// How many failed.
        failed: u64,
        /// How many were made.
        of: u64,
        /// What was measured, as in `calls`.
        units: String,
        /// The text of one of the errors.
        example: Option<String>,
    },
    /// Nothing ended during the measurement.
    #[error("no {units} ended within {time:.1?}: the router hangs, or the time is too short")]
    Nothing {
        /// What was measured, as in `calls`.
        units: String,
        /// The length of the measurement.
        time: Duration,
    },
    /// A thread of the load panicked, which is a bug of this crate.
    #[error("a thread of the load panicked; this is a bug")]
    Panicked,
}

impl Failure {
    /// Whether the load was never started, because its settings are not usable.
    pub fn is_unusable_load(&self) -> bool {
        matches!(
            self,
            Failure::Address(_)
                | Failure::Payload(_)
                | Failure::Backlog { .. }
                | Failure::Connections { .. }
        )
    }

    /// A connection to `address` could not be made.
    pub(crate) fn connect(address: &Address, error: io::Error) -> Self {
        let advice = connect_advice(address, &error);
        Failure::Connect { address: address.clone(), error, advice }
    }

    /// A request was refused.
    pub(crate) fn refused(code: i32, message: &str) -> Self {
        Failure::Refused(refusal_text(code, message))
    }
}

/// The text of a refusal, as in `409 the name is taken`. The code is 0 if the protocol has no codes.
pub fn refusal_text(code: i32, message: &str) -> String {
    match code {
        0 => message.to_owned(),
        code => format!("{code} {message}").trim_end().to_owned(),
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Failure::Protocol(format!("it sends a message that cannot be parsed: {error}"))
    }
}

impl From<hdrhistogram::CreationError> for Failure {
    fn from(error: hdrhistogram::CreationError) -> Self {
        Failure::Latencies(error.to_string())
    }
}

fn failed_text(failed: u64, of: u64, units: &str, example: Option<&str>) -> String {
    let text = format!("{failed} of {of} {units} failed");
    match example {
        Some(example) => format!("{text}, for example: {example}"),
        None => text,
    }
}

fn mebibytes(bytes: u64) -> String {
    match bytes >> 20 {
        mebibytes @ ..10_000 => format!("{mebibytes} MiB"),
        mebibytes => format!("{} GiB", mebibytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_says_what_happened_and_what_helps() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let address = "tcp://127.0.0.1:7464".parse().expect("an address");
        let units = || "calls".to_owned();
        let example = Some("the service is gone".to_owned());
        for (failure, text) in [
            (
                Failure::connect(&address, refused),
                "cannot connect to tcp://127.0.0.1:7464: connection refused; ",
            ),
            (Failure::Closed, "the router closed a connection; the router's log may say why"),
            (
                Failure::Protocol("it sends a message that cannot be parsed".to_owned()),
                "the router breaks the protocol: it sends a message that cannot be parsed",
            ),
            (
                Failure::refused(409, "the name is taken"),
                "the router refused a request: 409 the name is taken",
            ),
            (Failure::refused(409, ""), "the router refused a request: 409"),
            (Failure::refused(0, "'No'"), "the router refused a request: 'No'"),
            (
                Failure::NoAnswer(Duration::from_secs(10)),
                "the router did not answer within 10s: it hangs, or another program listens",
            ),
            (Failure::ForeignReply(7), "the router sent a reply to call 7, which is not open"),
            (Failure::Process(7), "process 7 does not exist, or this user may not inspect it; "),
            (Failure::Payload(1 << 30), "1073741824 bytes do not fit in a message: "),
            (
                Failure::Failed { failed: 2, of: 9, units: units(), example },
                "2 of 9 calls failed, for example: the service is gone",
            ),
            (
                Failure::Nothing { units: units(), time: Duration::from_secs(5) },
                "no calls ended within 5.0s: the router hangs, or the time is too short",
            ),
        ] {
            assert!(failure.to_string().starts_with(text), "{failure}");
        }
    }
}
