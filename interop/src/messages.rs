//! The messages of the typed peers.
//!
//! On the wire, `ya-service-bus` sends a message as flexbuffers to `{service}/{ID}` and gets back a
//! flexbuffers-encoded `Result<Item, Error>`; an item of a stream is such a result too.

use serde::{Deserialize, Serialize};
use ya_service_bus::{RpcMessage, RpcStreamMessage};

/// Asks for a reply with the same text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The text, which is refused if it is [`Echo::REFUSED`].
    pub text: String,
}

/// The answer to an [`Echo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echoed {
    /// The text that was sent.
    pub text: String,
    /// The caller's name as it reached the service.
    pub caller: String,
}

/// An error that the service itself answers with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason.
    pub reason: String,
}

impl Echo {
    /// The text that the service answers with a [`Refusal`].
    pub const REFUSED: &'static str = "refuse";
}

impl RpcMessage for Echo {
    const ID: &'static str = "Echo";
    type Item = Echoed;
    type Error = Refusal;
}

/// Asks for a stream of the numbers from 0 up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many numbers.
    pub numbers: u32,
}

impl RpcStreamMessage for Count {
    const ID: &'static str = "Count";
    type Item = u32;
    type Error = Refusal;
}

/// A text to remember, which is sent as a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The text.
    pub text: String,
}

impl RpcMessage for Note {
    const ID: &'static str = "Note";
    type Item = ();
    type Error = Refusal;
}

/// Asks for all remembered texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {}

impl RpcMessage for Recall {
    const ID: &'static str = "Recall";
    type Item = Vec<String>;
    type Error = Refusal;
}

/// A call that is never answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hang {}

impl RpcMessage for Hang {
    const ID: &'static str = "Hang";
    type Item = ();
    type Error = Refusal;
}

/// Implements the messages for our client, so that both ends use the same types.
macro_rules! messages_of_ours {
    ($($message:ident => $item:ty),* $(,)?) => {
        $(impl gsb_client::Message for $message {
            const ID: &'static str = stringify!($message);
            type Item = $item;
            type Error = Refusal;
        })*
    };
}

messages_of_ours! { Echo => Echoed, Count => u32, Note => (), Recall => Vec<String>, Hang => () }
