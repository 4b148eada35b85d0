//! Errors that keep a router from starting.

use std::io;
use std::path::PathBuf;

use gsb_proto::Address;
use gsb_proto::framing::LARGEST_MAX_FRAME;

use crate::config::SMALLEST_MAX_FRAME;

/// An error of [`Router::bind`](crate::Router::bind). Displays as a sentence with the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The configuration names no address to listen on.
    #[error("no address to listen on; add one, such as unix:/tmp/gsb.sock or tcp://127.0.0.1:7464")]
    NoAddress,
    /// The frame limit is so large that the framings could not be told apart.
    #[error("a frame limit of {0} bytes is too large; write at most {LARGEST_MAX_FRAME}")]
    MaxFrameTooLarge(usize),
    /// The frame limit is so small that few messages fit.
    #[error("a frame limit of {0} bytes is too small; write at least {SMALLEST_MAX_FRAME}")]
    MaxFrameTooSmall(usize),
    /// A limit is zero, with which peers could do nothing.
    #[error("a limit of 0 {0} is too small; write at least 1")]
    ZeroLimit(&'static str),
    /// Two addresses of the configuration are the same, or one of them includes the other.
    #[error("{address} overlaps with {first}, on which this router listens already; name it once")]
    NamedTwice {
        /// The second address.
        address: Address,
        /// The first address.
        first: Address,
    },
    /// Another router or program listens on the address.
    #[error(
        "{0} is in use: another router or program listens there; stop it or choose another address"
    )]
    InUse(Address),
    /// Another process, usually a router, holds the lock file beside a Unix socket.
    #[error("{address} is in use: another router holds the lock {}; stop it or choose another address", .lock.display())]
    Locked {
        /// The address of the socket.
        address: Address,
        /// The lock file.
        lock: PathBuf,
    },
    /// The path of a Unix socket leads to another kind of file.
    #[error(
        "{} exists and is not a socket; remove it or choose another path", .0.display()
    )]
    NotASocket(PathBuf),
    /// The operating system reports an error.
    #[error("cannot listen on {address}: {error}{}", remedy(.error))]
    Io {
        /// The address.
        address: Address,
        /// The error of the operating system.
        error: io::Error,
    },
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Worker(io::Error),
}

/// The remedy, to be appended to the error; empty if none is known.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; create the directory or choose another address",
        io::ErrorKind::PermissionDenied => "; choose an address that this user may listen on",
        io::ErrorKind::AddrNotAvailable => "; choose an address of this machine",
        _ => "",
    }
}
