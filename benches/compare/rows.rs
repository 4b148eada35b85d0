//! The measurements, and the goals of each.

use gsb_load::call::{Answer, Distribution, Load as Calls};
use gsb_load::harness::Socket;
use gsb_load::{broadcast, idle};

use crate::clients;
use crate::contender::Contender::{self, InstalledNats, Ours, PinnedNats, Relay, Ya};
use crate::contender::OURS;
use crate::figures::Figure;
use crate::goals::Bound::{AtLeast, AtMost};
use crate::goals::{Goal, Reference};

/// The load of a measurement.
#[derive(Debug)]
pub(crate) enum Work {
    /// Calls or streams. Their rate is shown in calls, or in bytes where they are large.
    Calls(Calls),
    /// Clients of `gsb-client`.
    Clients(clients::Load),
    /// Two loads, for the contenders [`Plain`](Contender::Plain) and [`Steered`](Contender::Steered).
    Pair { plain: &'static Work, steered: &'static Work },
    /// Broadcasts.
    Broadcast(broadcast::Load),
    /// Idle connections and names.
    Idle {
        /// The connections and names.
        load: idle::Load,
        /// Whether calls are measured before and beside them.
        with_calls: bool,
    },
}

impl Work {
    /// The load for a contender.
    pub(crate) fn of(&self, contender: Contender) -> &Work {
        match (self, contender) {
            (Work::Pair { plain, .. }, Contender::Plain) => plain,
            (Work::Pair { steered, .. }, _) => steered,
            (work, _) => work,
        }
    }
}

/// A measurement that is made of several contenders.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) socket: Socket,
    pub(crate) work: Work,
    pub(crate) contenders: &'static [Contender],
    pub(crate) goals: &'static [Goal],
}

const ALL: &[Contender] = &[Ours(1), Ours(2), Ya, InstalledNats, PinnedNats, Relay];
const SERVERS: &[Contender] = &[Ours(1), Ours(2), Ya, InstalledNats, PinnedNats];

/// Four callers and four services. Most calls on a bus are of this size.
pub(crate) const SMALL_CALLS: Calls = calls(4, 4, 64, 64);

/// All measurements.
pub(crate) static ROWS: &[Row] = &[
    Row {
        name: "64 B calls, 64 open, Unix",
        socket: Socket::Unix,
        work: Work::Calls(SMALL_CALLS),
        contenders: ALL,
        goals: &[
            goal(Figure::Processor, Reference::Peer(InstalledNats), AtMost(0.5)),
            goal(Figure::Processor, Reference::Peer(PinnedNats), AtMost(0.5)),
            goal(Figure::Processor, Reference::Peer(Relay), AtMost(1.6)),
            goal(Figure::Calls, Reference::Peer(Relay), AtLeast(0.95)),
            goal(Figure::Calls, Reference::Peer(InstalledNats), AtLeast(1.0)),
            goal(Figure::Calls, Reference::Peer(PinnedNats), AtLeast(1.0)),
            goal(Figure::Calls, Reference::Peer(Ya), AtLeast(5.0)),
        ],
    },
    Row {
        name: "64 B calls, 1 open, Unix",
        socket: Socket::Unix,
        work: Work::Calls(calls(4, 4, 1, 64)),
        contenders: ALL,
        goals: &[
            goal(Figure::P50, Reference::Peer(Relay), AtMost(0.8)),
            goal(Figure::P99, Reference::Peer(Relay), AtMost(1.1)),
        ],
    },
    Row {
        name: "64 B calls, 64 open, TCP",
        socket: Socket::Tcp,
        work: Work::Calls(SMALL_CALLS),
        contenders: ALL,
        goals: &[
            goal(Figure::Processor, Reference::Peer(InstalledNats), AtMost(0.6)),
            goal(Figure::Processor, Reference::Peer(PinnedNats), AtMost(0.6)),
        ],
    },
    Row {
        name: "64 B calls, 1 open, TCP",
        socket: Socket::Tcp,
        work: Work::Calls(calls(4, 4, 1, 64)),
        contenders: ALL,
        goals: &[
            goal(Figure::P50, Reference::Peer(InstalledNats), AtMost(0.5)),
            goal(Figure::P50, Reference::Peer(PinnedNats), AtMost(0.5)),
        ],
    },
    Row {
        name: "8 KiB calls, 32 open, Unix",
        socket: Socket::Unix,
        work: Work::Calls(calls(4, 4, 32, 8 << 10)),
        contenders: ALL,
        goals: &[goal(Figure::Mebibytes, Reference::Peer(Relay), AtLeast(0.9))],
    },
    Row {
        name: "1 MiB calls, 4 open, Unix",
        socket: Socket::Unix,
        work: Work::Calls(calls(4, 4, 4, 1 << 20)),
        contenders: ALL,
        goals: &[goal(Figure::Mebibytes, Reference::Peer(Relay), AtLeast(0.9))],
    },
    Row {
        name: "streams of 100 × 4 KiB, 4 open, Unix",
        socket: Socket::Unix,
        work: Work::Calls(Calls {
            answer: Answer::Stream { chunks: 100, payload: 4 << 10 },
            ..calls(4, 4, 4, 8)
        }),
        contenders: &[Ours(1), Ours(2), Ya, Relay],
        goals: &[
            goal(Figure::Mebibytes, Reference::Peer(Relay), AtLeast(0.9)),
            goal(Figure::Mebibytes, Reference::Peer(Ya), AtLeast(5.0)),
        ],
    },
    Row {
        name: "200 callers, 50 services, 8 open, Unix",
        socket: Socket::Unix,
        work: Work::Calls(calls(200, 50, 8, 64)),
        contenders: ALL,
        goals: &[
            goal(Figure::Calls, Reference::Peer(Relay), AtLeast(1.0)),
            goal(Figure::P999, Reference::Own(Figure::P50), AtMost(5.0)),
        ],
    },
    Row {
        name: "broadcast to 16, 16 ahead, Unix",
        socket: Socket::Unix,
        work: Work::Broadcast(broadcast::Load { subscribers: 16, ahead: 16, payload: 64 }),
        contenders: SERVERS,
        goals: &[
            goal(Figure::Deliveries, Reference::Peer(InstalledNats), AtLeast(1.5)),
            goal(Figure::Deliveries, Reference::Peer(PinnedNats), AtLeast(1.5)),
            goal(Figure::Lost, Reference::None, AtMost(0.0)),
        ],
    },
    Row {
        name: "broadcast to 16, 256 ahead, Unix",
        socket: Socket::Unix,
        work: Work::Broadcast(broadcast::Load { subscribers: 16, ahead: 256, payload: 64 }),
        contenders: SERVERS,
        goals: &[
            goal(Figure::Deliveries, Reference::Peer(InstalledNats), AtLeast(1.2)),
            goal(Figure::Deliveries, Reference::Peer(PinnedNats), AtLeast(1.2)),
            goal(Figure::Lost, Reference::None, AtMost(0.0)),
        ],
    },
    Row {
        name: "broadcast to 16, 16 ahead, TCP",
        socket: Socket::Tcp,
        work: Work::Broadcast(broadcast::Load { subscribers: 16, ahead: 16, payload: 64 }),
        contenders: SERVERS,
        goals: &[
            goal(Figure::Deliveries, Reference::Peer(InstalledNats), AtLeast(1.5)),
            goal(Figure::Deliveries, Reference::Peer(PinnedNats), AtLeast(1.5)),
            goal(Figure::Lost, Reference::None, AtMost(0.0)),
        ],
    },
    Row {
        name: "broadcast to 16, 256 ahead, TCP",
        socket: Socket::Tcp,
        work: Work::Broadcast(broadcast::Load { subscribers: 16, ahead: 256, payload: 64 }),
        contenders: SERVERS,
        goals: &[
            goal(Figure::Deliveries, Reference::Peer(InstalledNats), AtLeast(1.2)),
            goal(Figure::Deliveries, Reference::Peer(PinnedNats), AtLeast(1.2)),
            goal(Figure::Lost, Reference::None, AtMost(0.0)),
        ],
    },
    Row {
        name: "10,000 idle connections, Unix",
        socket: Socket::Unix,
        work: Work::Idle { load: connections(10_000), with_calls: false },
        contenders: SERVERS,
        goals: &[goal(Figure::Memory, Reference::None, AtMost(4096.0))],
    },
    Row {
        name: "calls beside 10,000 idle connections, Unix",
        socket: Socket::Unix,
        work: Work::Idle { load: connections(10_000), with_calls: true },
        contenders: &OURS,
        goals: &[goal(Figure::CallsBeside, Reference::Own(Figure::CallsBefore), AtLeast(0.95))],
    },
    Row {
        name: "100,000 names of 60 bytes, 64 connections, Unix",
        socket: Socket::Unix,
        work: Work::Idle { load: names(100_000), with_calls: false },
        contenders: &[Ours(1), Ours(2), Ya],
        goals: &[],
    },
    Row {
        name: "calls beside 1,000,000 names of 60 bytes, 64 connections, Unix",
        socket: Socket::Unix,
        work: Work::Idle { load: names(1_000_000), with_calls: true },
        contenders: &OURS,
        goals: &[
            goal(Figure::Memory, Reference::None, AtMost(200.0)),
            goal(Figure::CallsBeside, Reference::Own(Figure::CallsBefore), AtLeast(0.95)),
        ],
    },
];

const fn calls(callers: u32, services: u32, depth: u32, payload: usize) -> Calls {
    let (answer, threads, is_paired) = (Answer::Echo, 1, false);
    let (distribution, timeout_ms) = (Distribution::PerCaller, 0);
    Calls {
        callers,
        services,
        depth,
        payload,
        answer,
        threads,
        is_paired,
        distribution,
        timeout_ms,
    }
}

const fn connections(connections: u32) -> idle::Load {
    idle::Load { connections, names: connections, name_length: 0 }
}

const fn names(names: u32) -> idle::Load {
    idle::Load { connections: 64, names, name_length: 60 }
}

const fn goal(figure: Figure, reference: Reference, bound: crate::goals::Bound) -> Goal {
    Goal { figure, reference, bound }
}
