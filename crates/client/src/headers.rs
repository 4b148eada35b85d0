//! The headers of calls, replies and events.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use gsb_proto::messages::Header;

use crate::engine::queue::detach;

/// The header that names the span of a sender, as W3C Trace Context defines it.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The header with what tracing systems add to [`TRACEPARENT`].
pub(crate) const TRACESTATE: &str = "tracestate";

/// The headers of a call, a reply or an event: pairs of a name and a value, in the order in which they were added.
///
/// Names are in lower case, and names of HTTP such as `traceparent` and `content-type` mean what they mean there. Values
/// are any bytes. The bus does not look at them. Names and values count towards the limit of 65,536 bytes for all texts
/// of a message.
///
/// A clone shares its memory with the original until one of them changes.
///
/// ```
/// use gsb_client::Headers;
///
/// let mut headers = Headers::new();
/// headers.insert("Content-Type", "text/plain");
/// assert_eq!(headers.text("content-type"), Some("text/plain"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// `None` if there are none: most messages have none, and must not allocate for them.
    items: Option<Arc<Vec<(String, Bytes)>>>,
}

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Headers::default()
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.items.as_ref().map_or(0, |items| items.len())
    }

    /// Whether there is no header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of the first header with this name, which has to be in lower case.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// [`get`](Headers::get), if the value is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Sets a header: removes all headers with this name, and adds one. The name becomes lower case.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Bytes>) {
        let mut name = name.into();
        name.make_ascii_lowercase();
        let items = Arc::make_mut(self.items.get_or_insert_default());
        items.retain(|(found, _)| *found != name);
        items.push((name, value.into()));
    }

    /// All headers: names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.items.iter().flat_map(|items| items.iter()).map(|(name, value)| (name.as_str(), value))
    }

    /// Takes over the headers of W3C Trace Context from the call on whose behalf a message is sent.
    pub(crate) fn inherit_trace(&mut self, call: &Headers) {
        for name in [TRACEPARENT, TRACESTATE] {
            if let Some(value) = call.get(name) {
                self.insert(name, value.clone());
            }
        }
    }

    /// The memory that they take, approximately, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len() + 64).sum()
    }

    /// The headers as a message has them.
    pub(crate) fn to_proto(&self) -> Vec<Header> {
        let header =
            |(name, value): (&str, &Bytes)| Header { name: name.to_owned(), value: value.clone() };
        self.iter().map(header).collect()
    }
}

impl From<Vec<Header>> for Headers {
    /// The headers of a message that was received. They do not keep the buffer that they were read into.
    fn from(headers: Vec<Header>) -> Self {
        if headers.is_empty() {
            return Headers::new();
        }
        let items = headers.into_iter().map(|Header { name, value }| (name, detach(value)));
        Headers { items: Some(Arc::new(items.collect())) }
    }
}

impl<N: Into<String>, V: Into<Bytes>> FromIterator<(N, V)> for Headers {
    /// Of several headers with one name, the last one stays.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut all = Headers::new();
        for (name, value) in headers {
            all.insert(name, value);
        }
        all
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_found_by_its_name_in_lower_case() {
        let mut headers: Headers = [("A", "1"), ("b", "2")].into_iter().collect();
        assert_eq!(headers.text("a"), Some("1"));
        assert_eq!(headers.get("A"), None);
        headers.insert("A", vec![0xff]);
        assert_eq!((headers.len(), headers.text("a")), (2, None));
        assert_eq!(headers.get("a").map(|value| &value[..]), Some(&[0xff][..]));
    }

    #[test]
    fn headers_travel_in_their_order() {
        let headers: Headers = [("b", "2"), ("a", "1")].into_iter().collect();
        let received = Headers::from(headers.to_proto());
        assert_eq!(received, headers);
        assert_eq!(received.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(Headers::from(Vec::new()), Headers::new());
    }

    // Of the largest value, too: FR-12.
    #[test]
    fn received_headers_do_not_keep_the_buffer_that_they_were_read_into() {
        let buffer = Bytes::from(vec![1; gsb_proto::MAX_TEXT]);
        let header = |value| Header { name: "a".to_owned(), value };
        let received = Headers::from(vec![header(buffer.slice(..10)), header(buffer.clone())]);
        assert_eq!(received.len(), 2);
        assert!(buffer.is_unique());
    }

    #[test]
    fn a_clone_does_not_change_with_the_original() {
        let mut headers: Headers = [("a", "1")].into_iter().collect();
        let before = headers.clone();
        headers.insert("a", "2");
        assert_eq!((before.text("a"), headers.text("a")), (Some("1"), Some("2")));
    }
}
