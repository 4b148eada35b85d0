//! The programs that are measured, and the sockets they are measured on.

use std::fmt;

/// The version of `ya-sb-router` that is measured.
pub(crate) const YA_VERSION: &str = "0.6.4";

/// The version of `nats-server` that is measured beside the installed one.
pub(crate) const NATS_VERSION: &str = "2.15.1";

/// A program that is measured, and how it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// Our router as the source tree has it now, with this number of workers.
    Ours(u32),
    /// Another build of our router, with one worker (`--baseline`).
    Baseline,
    /// `ya-sb-router`.
    Ya,
    /// The `nats-server` that is installed on this host.
    InstalledNats,
    /// The `nats-server` of version [`NATS_VERSION`].
    PinnedNats,
    /// The relay, which forwards bytes and reads none of them.
    Relay,
}

/// Our router, in the ways that it is measured beside other programs.
pub(crate) const OURS: [Contender; 2] = [Contender::Ours(1), Contender::Ours(2)];

impl Contender {
    /// Whether it speaks the protocol of NATS, which listens on TCP only.
    pub(crate) fn is_nats(self) -> bool {
        matches!(self, Contender::InstalledNats | Contender::PinnedNats)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contender::Ours(workers) => write!(formatter, "router --workers {workers}"),
            Contender::Baseline => write!(formatter, "baseline"),
            Contender::Ya => write!(formatter, "ya-sb-router {YA_VERSION}"),
            Contender::InstalledNats => write!(formatter, "nats-server (installed)"),
            Contender::PinnedNats => write!(formatter, "nats-server {NATS_VERSION}"),
            Contender::Relay => write!(formatter, "relay"),
        }
    }
}

/// The sockets that all but NATS are measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    Unix,
    Tcp,
}
