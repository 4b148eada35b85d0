//! What a load needs to know about a protocol.

use crate::failure::Failure;

/// How the clients of a bus encode what they send, and parse what they receive.
///
/// Methods that encode append a whole message to `out`.
pub trait Protocol: Clone + Send + 'static {
    /// Introduces the client. No other connection of the load has the same `number`.
    fn hello(&mut self, number: u64, out: &mut Vec<u8>);

    /// Registers a service. With `is_shared`, other connections register the same name, and the bus distributes the calls.
    /// The answer is [`Incoming::Done`] or [`Incoming::Refused`].
    fn register(&self, name: &str, is_shared: bool, out: &mut Vec<u8>);

    /// Subscribes to a topic. The answer is as for [`register`](Protocol::register).
    fn subscribe(&self, topic: &str, out: &mut Vec<u8>);

    /// Calls a service. The bus ends the call after `timeout_ms` milliseconds, if that is not 0 and the protocol can ask
    /// for it.
    fn call(&self, name: &str, id: u64, payload: &[u8], timeout_ms: u32, out: &mut Vec<u8>);

    /// Replies to the [call](Incoming::Call) that came with this `reply_to`. More replies follow unless `is_last`.
    fn reply(&self, reply_to: &[u8], payload: &[u8], is_last: bool, out: &mut Vec<u8>);

    /// Broadcasts to the subscribers of a topic.
    fn broadcast(&self, topic: &str, payload: &[u8], out: &mut Vec<u8>);

    /// Asks whether the bus is alive. The answer is [`Incoming::Done`].
    fn ping(&self, out: &mut Vec<u8>);

    /// Answers an [`Incoming::Ping`].
    fn pong(&self, out: &mut Vec<u8>);

    /// Parses the first message in `bytes`; returns it and its length in bytes, or `None` if `bytes` does not contain
    /// all of it yet.
    ///
    /// # Errors
    /// [`Failure::Protocol`] if the bytes are not a message of this protocol.
    fn next<'a>(&self, bytes: &'a [u8]) -> Result<Option<(Incoming<'a>, usize)>, Failure>;
}

/// A message from the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A call.
    Call {
        /// Where the reply goes.
        reply_to: &'a [u8],
        /// The caller's data.
        payload: &'a [u8],
    },
    /// A reply.
    Reply {
        /// The id of the call that it answers.
        id: u64,
        /// 0 for success, else the code of an error whose text is `payload`.
        code: i32,
        /// The service's data.
        payload: &'a [u8],
        /// Whether no further reply follows.
        is_last: bool,
    },
    /// A broadcast.
    Broadcast {
        /// The publisher's data.
        payload: &'a [u8],
    },
    /// A request was carried out, or the bus is alive.
    Done,
    /// A request was refused.
    Refused {
        /// The code of the error; 0 if the protocol has none.
        code: i32,
        /// The text of the error.
        message: &'a str,
    },
    /// The bus asks whether this client is alive.
    Ping,
    /// A message that a load ignores.
    Ignored,
}
