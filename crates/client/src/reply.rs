//! The reply of a handler, with its headers.

use std::fmt;

use bytes::Bytes;

use crate::headers::Headers;

/// A reply with headers.
///
/// A handler of bytes returns one to set headers; other replies are any value that converts into [`Bytes`]. A caller
/// reads the headers with [`Endpoint::call_reply`](crate::Endpoint::call_reply), or with
/// [`ReplyStream::headers`](crate::ReplyStream::headers). The answers of typed handlers, and failures, have no headers.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), gsb_client::Error> {
/// use gsb_client::{Bus, Call, Reply};
///
/// let bus = Bus::local();
/// let page = |_: Call| async { Ok(Reply::new("<p>").header("content-type", "text/html")) };
/// let _page = bus.register("/page", page).await?;
///
/// let reply = bus.endpoint("/page").call_reply("").await?;
/// assert_eq!((&reply.data[..], reply.headers.text("content-type")), (&b"<p>"[..], Some("text/html")));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The payload.
    pub data: Bytes,
    /// The headers.
    pub headers: Headers,
}

impl Reply {
    /// A reply without headers.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Reply { data: data.into(), headers: Headers::new() }
    }

    /// Sets a header; see [`Headers`].
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Whether there is neither a payload nor a header.
    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty() && self.headers.is_empty()
    }
}

impl<T: Into<Bytes>> From<T> for Reply {
    fn from(data: T) -> Self {
        Reply::new(data)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("length", &self.data.len())
            .field("headers", &self.headers)
            .finish()
    }
}
