//! Counters and usage, for operators.

use std::collections::BTreeMap;

/// What has happened since the broker was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls forwarded to a service that will be answered.
    pub calls: u64,
    /// Calls without a reply forwarded to a service.
    pub pushes: u64,
    /// Replies forwarded to their callers.
    pub replies: u64,
    /// Broadcasts accepted.
    pub broadcasts: u64,
    /// Copies of broadcasts queued for subscribers.
    pub deliveries: u64,
    /// Messages that were dropped without an answer to their sender, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// How often a connection was paused, by what had reached the queue limit: its answers, its calls, or the replies
    /// for a caller.
    pub pauses: BTreeMap<&'static str, u64>,
    /// Requests refused, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Connections closed, by reason.
    pub closes: BTreeMap<&'static str, u64>,
}

/// What the broker holds at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Live connections.
    pub connections: usize,
    /// Registered services; a name with several owners counts once for each of them.
    pub services: usize,
    /// Subscriptions of all connections together.
    pub subscriptions: usize,
    /// Calls that wait for their last reply.
    pub open_calls: usize,
    /// Calls that no caller waits for any more, and whose service has not finished its answer.
    pub orphaned_calls: usize,
    /// Instance ids of live connections.
    pub instances: usize,
    /// Accounts of live connections for what is queued.
    pub accounts: usize,
    /// Armed deadlines, of connections and calls.
    pub deadlines: usize,
}
