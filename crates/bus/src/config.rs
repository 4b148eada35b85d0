//! What an operator may set about the rules.

use std::time::Duration;

use gsb_proto::messages::Hello;

/// Longest request id that a call may carry, in bytes. It is kept for as long as the call is open.
pub const MAX_REQUEST_ID: usize = 1024;

/// How a [`Bus`](crate::Bus) behaves.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// How long a connection may be silent before it gets a Ping; after twice that, it is closed.
    /// `None` waits for ever. 60 seconds by default.
    pub ping_timeout: Option<Duration>,
    /// What one connection may hold.
    pub limits: Limits,
    /// The router's own introduction on connections of the packet framing. Empty by default. The bus
    /// heeds [`no_echo`](Hello::no_echo); it is for the owner to say so here.
    pub hello: Hello,
}

impl Default for BusConfig {
    fn default() -> Self {
        BusConfig {
            ping_timeout: Some(Duration::from_secs(60)),
            limits: Limits::default(),
            hello: Hello::default(),
        }
    }
}

/// What one connection may hold; 65,536 of each by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Registered services.
    pub services: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Calls that wait for their last reply.
    pub open_calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { services: 65_536, subscriptions: 65_536, open_calls: 65_536 }
    }
}
