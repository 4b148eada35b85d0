//! What it costs to steer calls (`--steered`): deadlines, cancelling, credit and shared names. Each row has two loads for
//! our router, without and with one of these.

use gsb_load::call::{Distribution, Load as Calls};
use gsb_load::harness::Socket;

use crate::clients::Load as Clients;
use crate::contender::Contender::{Plain, Steered};
use crate::figures::Figure;
use crate::goals::Bound::{self, AtLeast, AtMost};
use crate::goals::{Goal, Reference};
use crate::pairs::Pairing;
use crate::rows::{Row, SMALL_CALLS, Work};

/// The two loads of a row.
pub(crate) static LOADS: Pairing =
    Pairing { contenders: [Plain, Steered], names: ["plain", "steered"], goals: |row| row.goals };

/// The rows that compare two loads.
pub(crate) static ROWS: &[Row] = &[
    row(
        "64 B calls, 64 open: with a deadline / without",
        &Work::Calls(SMALL_CALLS),
        &Work::Calls(Calls { timeout_ms: 60_000, ..SMALL_CALLS }),
        &[goal(Figure::Calls, AtLeast(0.95))],
    ),
    row(
        "64 B calls, 64 open: 4 services with one name / with 4, each for one caller",
        &Work::Calls(SMALL_CALLS),
        &Work::Calls(SHARED_NAME),
        &[goal(Figure::Calls, AtLeast(0.95))],
    ),
    row(
        "64 B calls, 64 open: 4 services with one name / with 4, each for all callers",
        &Work::Calls(Calls { distribution: Distribution::PerCall, ..SMALL_CALLS }),
        &Work::Calls(SHARED_NAME),
        &[goal(Figure::Calls, AtLeast(0.95))],
    ),
    row(
        "streams of 100 × 4 KiB, 4 open: with credit / without",
        &streams(100, false),
        &streams(100, true),
        &[goal(Figure::Mebibytes, AtLeast(0.95))],
    ),
    row(
        "streams of 10,000 × 4 KiB, 4 open: with credit / without",
        &streams(10_000, false),
        &streams(10_000, true),
        &[goal(Figure::Mebibytes, AtLeast(0.95))],
    ),
    row(
        "one way, one at a time: cancelling a call / a push",
        &Work::Clients(Clients::Push),
        &Work::Clients(Clients::Cancel),
        &[goal(Figure::P50, AtMost(3.0))],
    ),
];

const SHARED_NAME: Calls = Calls { distribution: Distribution::ByBus, ..SMALL_CALLS };

/// The window of a stream, which is the default of the client, and 1 MiB.
const MOST_MEMORY: Bound = AtMost(2.0);

/// The memory of a stream that its reader slows down. It takes a longer measurement, and needs only one.
pub(crate) static SLOW_READER: Row = Row {
    name: "a stream that is read at 1 MiB/s",
    socket: Socket::Unix,
    work: Work::Clients(Clients::SlowReader),
    contenders: &[Steered],
    goals: &[
        Goal { figure: Figure::Growth, reference: Reference::None, bound: MOST_MEMORY },
        Goal { figure: Figure::Ahead, reference: Reference::None, bound: MOST_MEMORY },
    ],
};

const fn row(
    name: &'static str,
    plain: &'static Work,
    steered: &'static Work,
    goals: &'static [Goal],
) -> Row {
    let (socket, contenders) = (Socket::Unix, &LOADS.contenders);
    Row { name, socket, work: Work::Pair { plain, steered }, contenders, goals }
}

const fn streams(replies: usize, with_credit: bool) -> Work {
    Work::Clients(Clients::Streams { readers: 4, replies, with_credit })
}

const fn goal(figure: Figure, bound: Bound) -> Goal {
    Goal { figure, reference: Reference::Peer(Plain), bound }
}
