//! What a load needs to know of a protocol.

use crate::Failure;

/// What the peers of a bus say to it and hear from it.
///
/// What is said is appended to `out`, whole.
pub trait Protocol: Clone + Send + 'static {
    /// Introduces the peer with this number, to which no other of the load is equal.
    fn greet(&mut self, number: u64, out: &mut Vec<u8>);

    /// Asks to be called by a name; [`Heard::Done`] or [`Heard::Refused`] answers.
    fn serve(&self, name: &str, out: &mut Vec<u8>);

    /// Asks for the broadcasts to a topic; answered like [`serve`](Protocol::serve).
    fn subscribe(&self, topic: &str, out: &mut Vec<u8>);

    /// Calls a service.
    fn call(&self, name: &str, id: u64, payload: &[u8], out: &mut Vec<u8>);

    /// Replies to the call that was heard with this `reply_to`, perhaps with more to come.
    fn reply(&self, reply_to: &[u8], payload: &[u8], is_last: bool, out: &mut Vec<u8>);

    /// Sends to all who have subscribed.
    fn broadcast(&self, topic: &str, payload: &[u8], out: &mut Vec<u8>);

    /// Answers a [`Heard::Ping`].
    fn answer_ping(&self, out: &mut Vec<u8>);

    /// The first that stands in `bytes`, and how many of them it takes; `None` while it is not all there.
    ///
    /// # Errors
    /// It cannot be read.
    fn next<'a>(&self, bytes: &'a [u8]) -> Result<Option<(Heard<'a>, usize)>, Failure>;
}

/// What a peer hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A call.
    Call {
        /// Where the reply goes.
        reply_to: &'a [u8],
        /// What the caller sends.
        payload: &'a [u8],
    },
    /// A reply to the call with this id.
    Reply {
        /// The caller's number of the call.
        id: u64,
        /// What the service sends.
        payload: &'a [u8],
        /// Whether it is an error, and `payload` a sentence.
        is_error: bool,
        /// Whether no more come.
        is_last: bool,
    },
    /// A broadcast.
    Broadcast {
        /// What was sent.
        payload: &'a [u8],
    },
    /// What was asked for is done.
    Done,
    /// What was asked for is not done.
    Refused(&'a str),
    /// The bus asks for a sign of life.
    Ping,
    /// Nothing of interest.
    Nothing,
}
