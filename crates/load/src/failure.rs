//! Why a measurement came to nothing.

use std::io;
use std::time::Duration;

use gsb_net::connect_advice;
use gsb_proto::wire::WireError;
use gsb_proto::{Address, AddressError};

use crate::limits::{LARGEST_BACKLOG, LARGEST_PAYLOAD};

/// Why a measurement came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Where to go is not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody listens there.
    #[error("cannot connect to {address}: {error}; {advice}")]
    Connect {
        /// Where.
        address: Address,
        /// Why not.
        error: io::Error,
        /// The remedy.
        advice: String,
    },
    /// A connection failed.
    #[error("the connection to the router failed: {0}; its log may say why")]
    Io(#[from] io::Error),
    /// A connection has ended.
    #[error("the router has closed a connection; its log may say why")]
    Closed,
    /// What came cannot be read.
    #[error("the router does not keep to the protocol: {0}")]
    Protocol(String),
    /// What was asked for is not done.
    #[error("the router refuses what it was asked for: {0}")]
    Refused(String),
    /// What was asked for is neither done nor refused.
    #[error(
        "the router has not answered within {0:?}; it is stuck, or something else listens there"
    )]
    NoAnswer(Duration),
    /// A reply to nothing.
    #[error("a reply came to a call {0} that was not made")]
    ForeignReply(u64),
    /// No histogram could be kept.
    #[error("the times cannot be counted: {0}")]
    Times(String),
    /// There is no such process, or it is not to be looked at.
    #[error("no process {0} can be looked at; it is the number that `pidof router` prints")]
    Process(u32),
    /// A message that no frame has room for.
    #[error(
        "{0} bytes are more than a message can carry; at most {LARGEST_PAYLOAD} are possible, and the router may \
         allow less (its --max-frame)"
    )]
    Payload(usize),
    /// More under way at once than this program may hold.
    #[error(
        "{messages} messages of {payload} bytes under way at once need {}; a load may have {}: ask for fewer or \
         smaller ones",
        mebibytes(*bytes),
        mebibytes(LARGEST_BACKLOG)
    )]
    Backlog {
        /// How many.
        messages: u64,
        /// What each carries, in bytes.
        payload: usize,
        /// What they need, in bytes.
        bytes: u64,
    },
    /// More connections than this program may have.
    #[error(
        "{count} connections are more than the {allowed} that this program may have open; ask for fewer, or raise \
         the limit of open files (ulimit -Hn)"
    )]
    Connections {
        /// How many.
        count: u64,
        /// How many are possible.
        allowed: u64,
    },
    /// Some of what was measured has failed.
    #[error("{}", failed_sentence(*failed, *of, units, example.as_deref()))]
    Failed {
        /// How many.
        failed: u64,
        /// Of how many.
        of: u64,
        /// What they are, as in `calls`.
        units: String,
        /// What one of them said.
        example: Option<String>,
    },
    /// Nothing has come through while it was measured.
    #[error("no {units} ended within {time:.1?}: the router is stuck, or the time is too short")]
    Nothing {
        /// What was measured, as in `calls`.
        units: String,
        /// How long.
        time: Duration,
    },
    /// A bug in here.
    #[error("a thread of the load has panicked")]
    Panicked,
}

impl Failure {
    /// Whether the load was never begun, since it is none that can be made.
    pub fn is_unusable_load(&self) -> bool {
        matches!(
            self,
            Failure::Address(_)
                | Failure::Payload(_)
                | Failure::Backlog { .. }
                | Failure::Connections { .. }
        )
    }

    /// A connection to `address` that could not be made.
    pub(crate) fn connect(address: &Address, error: io::Error) -> Self {
        let advice = connect_advice(address, &error);
        Failure::Connect { address: address.clone(), error, advice }
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Failure::Protocol(error.to_string())
    }
}

impl From<hdrhistogram::CreationError> for Failure {
    fn from(error: hdrhistogram::CreationError) -> Self {
        Failure::Times(error.to_string())
    }
}

fn failed_sentence(failed: u64, of: u64, units: &str, example: Option<&str>) -> String {
    let sentence = format!("{failed} of {of} {units} failed");
    match example {
        Some(example) => format!("{sentence}, such as: {example}"),
        None => sentence,
    }
}

fn mebibytes(bytes: u64) -> String {
    match bytes >> 20 {
        mebibytes @ ..10_000 => format!("{mebibytes} MiB"),
        mebibytes => format!("{} GiB", mebibytes >> 10),
    }
}
