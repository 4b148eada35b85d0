//! Why a router does not start.

use std::io;
use std::path::PathBuf;

use gsb_proto::Address;
use gsb_proto::frame::LARGEST_MAX_FRAME;

use crate::config::SMALLEST_MAX_FRAME;

/// Why [`Router::bind`](crate::Router::bind) failed. Displays as a sentence with the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The configuration names no address to listen on.
    #[error(
        "no address to listen on; name one, such as unix:/tmp/gsb.sock or tcp://127.0.0.1:7464"
    )]
    NoAddress,
    /// A frame limit at which the framings could not be told apart.
    #[error("a frame limit of {0} bytes is too large; at most {LARGEST_MAX_FRAME} are possible")]
    MaxFrameTooLarge(usize),
    /// A frame limit into which hardly any message fits.
    #[error("a frame limit of {0} bytes is too small; write at least {SMALLEST_MAX_FRAME}")]
    MaxFrameTooSmall(usize),
    /// A limit of zero, with which peers could do nothing.
    #[error("a limit of 0 {0} is too small; write at least 1")]
    ZeroLimit(&'static str),
    /// Two addresses of the configuration are the same, or one includes the other.
    #[error(
        "{address} is the same place as {first}, which this router listens on already; name it once"
    )]
    NamedTwice {
        /// Where the router cannot listen.
        address: Address,
        /// The address before it.
        first: Address,
    },
    /// Another router, or another program, listens there.
    #[error("{0} is in use: another router listens there; stop it or choose another address")]
    InUse(Address),
    /// Another router, or whoever can write to the directory, holds the lock beside a Unix socket.
    #[error("{address} is in use: another router holds {}; stop it or choose another address", .lock.display())]
    Locked {
        /// Where the router should have listened.
        address: Address,
        /// The lock file.
        lock: PathBuf,
    },
    /// The path of a Unix socket belongs to something that is not a socket.
    #[error(
        "{} exists and is not a socket; remove it or choose another path", .0.display()
    )]
    NotASocket(PathBuf),
    /// The operating system refuses.
    #[error("cannot listen on {address}: {error}")]
    Io {
        /// Where the router should have listened.
        address: Address,
        /// What the operating system says.
        error: io::Error,
    },
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Worker(io::Error),
}
