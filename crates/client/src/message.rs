//! Typed messages.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A typed message to a service, with the types of its answer and its error. There is a
/// [derive macro](derive@crate::Message) for it.
///
/// ```
/// use gsb_client::Message;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Divide(f64, f64);
///
/// impl Message for Divide {
///     const ID: &'static str = "divide";
///     type Item = f64;
///     type Error = String;
/// }
/// ```
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The id of the message, unique within a service. It is the last segment of the address.
    const ID: &'static str;
    /// The answer to a call, or each item of a stream.
    type Item: Serialize + DeserializeOwned + Send + 'static;
    /// The error of the service. Errors of the bus are [`Error`](crate::Error).
    type Error: Serialize + DeserializeOwned + Send + 'static;
}

/// A [`Message`] that goes on in a stream of parts; see [`Bus::bind_upload`](crate::Bus::bind_upload).
pub trait UploadMessage: Message {
    /// A part of the body.
    type Part: Serialize + DeserializeOwned + Send + 'static;
}

/// The result of a typed call: a reply, or an error that the handler returned. Errors of the bus are an outer
/// [`Error`](crate::Error).
pub type Answer<M> = Result<<M as Message>::Item, <M as Message>::Error>;
