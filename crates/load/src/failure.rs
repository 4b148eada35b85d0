//! Why a measurement came to nothing.

use std::io;

use gsb_net::connect_advice;
use gsb_proto::wire::WireError;
use gsb_proto::{Address, AddressError};

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
    #[error("the connection to the router failed: {0}")]
    Io(#[from] io::Error),
    /// A connection has ended.
    #[error("the router has closed a connection")]
    Closed,
    /// What came cannot be read.
    #[error("the router does not keep to the protocol: {0}")]
    Protocol(String),
    /// What was asked for is not done.
    #[error("the router refuses what it was asked for: {0}")]
    Refused(String),
    /// A reply to nothing.
    #[error("a reply came to a call {0} that was not made")]
    ForeignReply(u64),
    /// No histogram could be kept.
    #[error("the times cannot be counted: {0}")]
    Times(String),
    /// There is no such process, or it is not to be looked at.
    #[error("no process {0} can be looked at; it is the number that `pidof router` prints")]
    Process(u32),
    /// A bug in here.
    #[error("a thread of the load has panicked")]
    Panicked,
}

impl Failure {
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
