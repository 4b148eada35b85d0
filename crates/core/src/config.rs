//! What an operator may set about the rules.

use std::time::Duration;

use gsb_proto::messages::Hello;

/// Longest request id that a call may carry, in bytes. It is kept for as long as the call is open.
pub const MAX_REQUEST_ID: usize = 1024;

/// Longest timeout that is counted with: about a century. Longer ones are taken for this one.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How a [`Broker`](crate::Broker) behaves.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// How long a connection may be silent before it gets a Ping; after twice that, it is closed.
    /// `None` waits for ever. 60 seconds by default.
    pub ping_timeout: Option<Duration>,
    /// What one connection may hold.
    pub limits: Limits,
    /// How long a service may take nothing before the calls that wait for it end, and how long services
    /// wait for a caller that takes no replies. 5 seconds by default.
    pub stall_timeout: Duration,
    /// The router's own introduction on connections of the packet framing. Empty by default. The broker
    /// heeds [`no_echo`](Hello::no_echo) and speaks [`LEVEL`](gsb_proto::LEVEL); it is for the owner to say so
    /// here.
    pub hello: Hello,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig {
            ping_timeout: Some(Duration::from_secs(60)),
            limits: Limits::default(),
            stall_timeout: Duration::from_secs(5),
            hello: Hello::default(),
        }
    }
}

/// What one connection may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Registered services; 65,536 by default.
    pub services: usize,
    /// Subscriptions; 65,536 by default. One to a topic of more than 8 segments or 128 bytes counts as
    /// several (see [`Topic::weight`](gsb_proto::Topic::weight)).
    pub subscriptions: usize,
    /// Calls that wait for their last reply; 65,536 by default.
    pub open_calls: usize,
    /// Bytes that wait to be written on its account; 16 MiB by default. The limit holds for each of four
    /// purposes: what the router answers it, the calls it makes, the replies to them, and the broadcasts it
    /// is sent. A frame counts for 64 bytes beside its own, and one that is larger than the limit is let in
    /// when nothing else is queued.
    pub queued_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            services: 65_536,
            subscriptions: 65_536,
            open_calls: 65_536,
            queued_bytes: 16 << 20,
        }
    }
}
