//! The configuration of the broker.

use std::time::Duration;

use gsb_proto::MessageKind;
use gsb_proto::messages::Hello;

/// Longest request id that a call may carry, in bytes. It is kept for as long as the call is open.
pub const MAX_REQUEST_ID: usize = 1024;

/// The level that a connection needs to have for the fields `more` and `reply_credit`, and for the messages that belong to
/// them (rules CA-14 and CA-15).
pub(crate) const STREAMS_LEVEL: u32 = MessageKind::CallData.level();

/// The longest timeout: about a century. Longer values are reduced to it.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A shorter timeout would always be over.
pub(crate) const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// How a [`Broker`](crate::Broker) behaves.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// How long a connection may be silent before it gets a Ping; after twice that, it is closed.
    /// `None` waits for ever. 60 seconds by default.
    pub ping_timeout: Option<Duration>,
    /// What one connection may hold.
    pub limits: Limits,
    /// Within this time a peer takes 64 KiB of what is queued for it, or an eighth of the queue limit while another
    /// connection is not read because of it; otherwise it stalls. 5 seconds by default.
    pub stall_timeout: Duration,
    /// Within this time a peer takes 64 KiB of what is queued for it; otherwise it is closed. 10 seconds by default.
    pub write_timeout: Duration,
    /// A connection whose unfinished frame gets no further byte within this time is closed. 30 seconds by default.
    pub frame_timeout: Duration,
    /// How many queued bytes and bytes of unfinished frames all connections may have together. No limit by default.
    pub memory_limit: usize,
    /// The router's own introduction on connections of the packet framing. Empty by default. The broker
    /// supports [`no_echo`](Hello::no_echo) and [`LEVEL`](gsb_proto::LEVEL); its owner says so here.
    pub hello: Hello,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig {
            ping_timeout: Some(Duration::from_secs(60)),
            limits: Limits::default(),
            stall_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(30),
            memory_limit: usize::MAX,
            hello: Hello::default(),
        }
    }
}

/// What one connection may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Registered services; 65,536 by default.
    pub services: usize,
    /// Subscriptions; 65,536 by default. A subscription to a topic of more than 8 segments or 128 bytes counts as
    /// several (see [`Topic::weight`](gsb_proto::Topic::weight)).
    pub subscriptions: usize,
    /// Calls that wait for their last reply; 65,536 by default.
    pub open_calls: usize,
    /// Queued bytes that it pays for; 16 MiB by default. The limit holds for each of four purposes: the router's
    /// answers to it, its calls, the replies to them, and the broadcasts to it. A frame counts for 64 bytes beside
    /// its own, and one that is larger than the limit is queued when no other is.
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
