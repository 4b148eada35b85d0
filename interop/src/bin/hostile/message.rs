//! The messages of a peer, in any protocol.

use bytes::Bytes;

/// A message that a peer sends.
#[derive(Debug, Clone, Copy)]
pub enum Outgoing<'a> {
    /// Introduces the peer.
    Hello,
    /// Asks whether the server is alive.
    Ping,
    /// Registers a service. In NATS, where names have no owner, it subscribes to the name.
    Register { name: &'a str },
    /// Subscribes to a topic.
    Subscribe { topic: &'a str },
    /// Calls a service.
    Call { service: &'a str, id: u64, data: &'a [u8] },
    /// Replies to a call.
    Reply { to: &'a [u8], is_last: bool, data: &'a [u8] },
    /// Broadcasts to the subscribers of a topic.
    Broadcast { topic: &'a str, data: &'a [u8] },
}

/// A message that a peer receives.
#[derive(Debug, Clone)]
pub enum Incoming {
    /// A request was carried out, or the server is alive.
    Done,
    /// A request was refused.
    Refused(String),
    /// A call.
    Call { reply_to: Bytes, data: Bytes },
    /// A reply to the call with this id. The code is 0 if it comes from the service.
    Reply { id: u64, code: i32, data: Bytes },
    /// A broadcast.
    Broadcast { data: Bytes },
    /// A message that no case needs.
    Ignored,
}
