//! The programs that are measured.

use std::fmt;
use std::num::NonZeroUsize;

/// The version of `ya-sb-router` that is measured.
pub(crate) const YA_VERSION: &str = "0.6.4";

/// The version of `nats-server` that is measured beside the installed one.
pub(crate) const NATS_VERSION: &str = "2.15.1";

/// A program that is measured, and its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// Our router, built from this source tree, with this number of workers.
    Ours(u32),
    /// Another build of our router, with one worker (`--baseline`).
    Baseline,
    /// Our router with one worker, under the first load of a row (`--steered`).
    Plain,
    /// Our router with one worker, under the second load of a row.
    Steered,
    /// `ya-sb-router`.
    Ya,
    /// The `nats-server` that is installed on this host.
    InstalledNats,
    /// The `nats-server` of version [`NATS_VERSION`].
    PinnedNats,
    /// The relay, which forwards bytes without reading them.
    Relay,
}

/// The configurations of our router that are measured beside other programs.
pub(crate) const OURS: [Contender; 2] = [Contender::Ours(1), Contender::Ours(2)];

impl Contender {
    /// Whether it speaks the protocol of NATS, and so listens on TCP only.
    pub(crate) fn is_nats(self) -> bool {
        matches!(self, Contender::InstalledNats | Contender::PinnedNats)
    }

    /// Whether this configuration can be measured on a host with this number of processors. Our router leaves one processor to
    /// its clients, so that with two processors `--workers 2` is the same as `--workers 1`.
    pub(crate) fn runs_on(self, processors: NonZeroUsize) -> bool {
        match self {
            Contender::Ours(workers) => workers == 1 || (workers as usize) < processors.get(),
            _ => true,
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contender::Ours(workers) => write!(formatter, "router --workers {workers}"),
            Contender::Baseline => write!(formatter, "baseline"),
            Contender::Plain => write!(formatter, "plain"),
            Contender::Steered => write!(formatter, "steered"),
            Contender::Ya => write!(formatter, "ya-sb-router {YA_VERSION}"),
            Contender::InstalledNats => write!(formatter, "nats-server (installed)"),
            Contender::PinnedNats => write!(formatter, "nats-server {NATS_VERSION}"),
            Contender::Relay => write!(formatter, "relay"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workers_are_measured_where_the_router_starts_two() {
        for (processors, count) in [(1, 1), (2, 1), (3, 2), (8, 2)] {
            let processors = NonZeroUsize::new(processors).unwrap();
            let ours = OURS.into_iter().filter(|ours| ours.runs_on(processors));
            assert_eq!(ours.count(), count, "{processors} processors");
        }
    }
}
