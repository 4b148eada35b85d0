//! The calls of a run: each is decided before the run, with what its handler and its caller do.

use gsb_client::Error;

use crate::world::Millis;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Call,
    Stream,
    Push,
}

/// How a handler ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Good,
    Fail,
    Refuse,
    Panic,
}

/// A call: what its handler and its caller do, and the outcome.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) address: String,
    pub(crate) mode: Mode,
    pub(crate) in_process: bool,
    /// How many bytes the payload has besides the number.
    pub(crate) padding: usize,
    pub(crate) timeout: Option<Millis>,
    pub(crate) wait_for_router: Millis,

    /// How long the handler waits before the reply, and between items.
    pub(crate) delay: Millis,
    /// The number of items of a stream.
    pub(crate) items: usize,
    pub(crate) end: End,
    /// Another order that the handler carries out first.
    pub(crate) nested: Option<usize>,

    /// How long the caller pauses after each item.
    pub(crate) pause: Millis,
    /// How many items the caller reads before it drops the stream.
    pub(crate) wanted: usize,

    /// The client that calls, and the time of the call.
    pub(crate) caller: usize,
    pub(crate) started: Millis,
    /// The services that received it: at most one.
    pub(crate) seen: Vec<usize>,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Good,
    Failed(Error),
    Dropped,
}

impl Order {
    pub(crate) fn new(mode: Mode, address: &str) -> Self {
        Order {
            address: address.to_owned(),
            mode,
            in_process: false,
            padding: 0,
            timeout: Some(10_000),
            wait_for_router: 0,
            delay: 0,
            items: 2,
            end: End::Good,
            nested: None,
            pause: 0,
            wanted: usize::MAX,
            caller: usize::MAX,
            started: 0,
            seen: Vec::new(),
            outcome: None,
        }
    }

    pub(crate) fn payload(&self, id: usize) -> String {
        format!("{id}:{}", "x".repeat(self.padding))
    }
}

/// A payload of this size asks for replies that are larger than the frame limit of some routers.
pub(crate) const LONG_REPLIES: usize = 10;

pub(crate) fn reply(service: usize, payload: &str) -> String {
    format!("{service} answers {payload}{}", more(payload))
}

pub(crate) fn item(service: usize, payload: &str, made: usize) -> String {
    format!("{service} answers {payload} for the time {made}{}", more(payload))
}

fn more(payload: &str) -> String {
    let padding = payload.bytes().rev().take_while(|&byte| byte == b'x').count();
    if padding == LONG_REPLIES { "y".repeat(3000) } else { String::new() }
}

/// Whether an error means that no service has received the request.
pub(crate) fn is_unsent(error: &Error) -> bool {
    matches!(
        error,
        Error::NotSent(_)
            | Error::ShutDown
            | Error::NoSuchService { .. }
            | Error::Busy { .. }
            | Error::TooLarge { .. }
    )
}
