//! W3C Trace Context: a span of the crate `tracing` around each handler, and the headers that name it as the parent of
//! the calls that the handler makes. Without the feature `tracing` there are no spans.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _};

pub(crate) use span::{Trace, is_wanted, outgoing};

impl Trace {
    /// Calls a handler function, and runs the future or stream that it returns, in the span.
    pub(crate) fn run<R: InSpan>(self, handler: impl FnOnce() -> R) -> R {
        let handled = {
            let _entered = self.enter();
            handler()
        };
        handled.in_span(self)
    }
}

/// The future or the stream of a handler.
pub(crate) trait InSpan {
    fn in_span(self, trace: Trace) -> Self;
}

impl<T: 'static> InSpan for BoxFuture<'static, T> {
    fn in_span(self, trace: Trace) -> Self {
        Spanned { trace, handled: self }.boxed()
    }
}

impl<T: 'static> InSpan for BoxStream<'static, T> {
    fn in_span(self, trace: Trace) -> Self {
        Spanned { trace, handled: self }.boxed()
    }
}

/// Enters the span whenever the handler is polled.
struct Spanned<R> {
    trace: Trace,
    handled: R,
}

impl<T> Future for Spanned<BoxFuture<'static, T>> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Spanned { trace, handled } = &mut *self;
        let _entered = trace.enter();
        handled.poll_unpin(cx)
    }
}

impl<T> Stream for Spanned<BoxStream<'static, T>> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Spanned { trace, handled } = &mut *self;
        let _entered = trace.enter();
        handled.poll_next_unpin(cx)
    }
}

#[cfg(not(feature = "tracing"))]
mod span {
    use std::convert::Infallible;

    use crate::headers::Headers;

    /// There is none.
    pub(crate) enum Trace {}

    impl Trace {
        pub(crate) fn begin(_: &str, _: &str, _: &Headers) -> Option<Self> {
            None
        }

        pub(crate) fn headers(&self) -> &Headers {
            match *self {}
        }

        pub(super) fn enter(&self) -> Option<Infallible> {
            None
        }
    }

    pub(crate) fn is_wanted(_: &Headers) -> bool {
        false
    }

    pub(crate) fn outgoing(headers: &Headers) -> Headers {
        headers.clone()
    }
}

#[cfg(feature = "tracing")]
mod span {
    use std::cell::RefCell;

    use tracing::Span;
    use tracing::level_filters::LevelFilter;
    use tracing::span::Entered;

    use crate::headers::{Headers, TRACEPARENT, TRACESTATE};

    thread_local! {
        /// The headers of the calls that are made now: those of the handler that this thread is polling.
        static CURRENT: RefCell<Headers> = RefCell::default();
    }

    /// The span of a handler. Disabled if no subscriber is interested in it.
    pub(crate) struct Trace {
        span: Span,
        /// The headers of the calls that the handler makes.
        headers: Headers,
    }

    impl Trace {
        /// Makes the span of a call with these headers. `None` if there is neither a subscriber nor a trace to pass on.
        pub(crate) fn begin(address: &str, caller: &str, received: &Headers) -> Option<Self> {
            let parent = received.text(TRACEPARENT).and_then(Parent::parse);
            let mut headers = Headers::new();
            if is_listening() {
                let trace_id = parent.as_ref().map_or_else(|| fastrand::u128(1..), |p| p.trace_id);
                let span_id = fastrand::u64(1..);
                let span = tracing::info_span!(
                    target: "gsb_client",
                    "gsb.call",
                    otel.name = address,
                    otel.kind = "server",
                    rpc.system = "gsb",
                    address,
                    caller,
                    trace_id = %format_args!("{trace_id:032x}"),
                    span_id = %format_args!("{span_id:016x}"),
                    parent_id = parent.as_ref().map(|parent| parent.span_id),
                );
                if !span.is_disabled() {
                    let flags = parent.as_ref().map_or(SAMPLED, |parent| parent.flags);
                    let traceparent = format!("00-{trace_id:032x}-{span_id:016x}-{flags:02x}");
                    headers.insert(TRACEPARENT, traceparent);
                    if let (Some(_), Some(state)) = (parent, received.get(TRACESTATE)) {
                        headers.insert(TRACESTATE, state.clone());
                    }
                    return Some(Trace { span, headers });
                }
            }
            parent?;
            headers.inherit_trace(received);
            Some(Trace { span: Span::none(), headers })
        }

        pub(crate) fn headers(&self) -> &Headers {
            &self.headers
        }

        /// Until the returned value is dropped, calls of this thread are made by the handler.
        pub(super) fn enter(&self) -> Current<'_> {
            let outer = CURRENT.replace(self.headers.clone());
            Current { outer, _entered: self.span.enter() }
        }
    }

    pub(super) struct Current<'a> {
        outer: Headers,
        _entered: Entered<'a>,
    }

    impl Drop for Current<'_> {
        fn drop(&mut self) {
            CURRENT.set(std::mem::take(&mut self.outer));
        }
    }

    /// Whether any subscriber is interested in spans of this level.
    fn is_listening() -> bool {
        LevelFilter::current() >= LevelFilter::INFO
    }

    /// Whether a call with these headers may have a trace.
    pub(crate) fn is_wanted(headers: &Headers) -> bool {
        is_listening() || headers.get(TRACEPARENT).is_some()
    }

    /// The headers of a call or an event, with those of the handler that makes it.
    pub(crate) fn outgoing(headers: &Headers) -> Headers {
        let mut all = headers.clone();
        if all.get(TRACEPARENT).is_none() {
            CURRENT.with_borrow(|current| all.inherit_trace(current));
        }
        all
    }

    /// The trace is recorded.
    const SAMPLED: u8 = 1;

    /// The span of the caller.
    #[derive(Debug, PartialEq, Eq)]
    struct Parent<'a> {
        trace_id: u128,
        span_id: &'a str,
        flags: u8,
    }

    impl<'a> Parent<'a> {
        /// Reads a `traceparent`, of this version of the standard or a later one. `None` if it is malformed.
        fn parse(text: &'a str) -> Option<Self> {
            let mut parts = text.splitn(5, '-');
            let [version, trace_id, span_id, flags] =
                [(); 4].map(|()| parts.next().unwrap_or_default());
            let is_hex = |part: &str, length| {
                part.len() == length
                    && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            };
            let is_valid = is_hex(version, 2)
                && version != "ff"
                && is_hex(trace_id, 32)
                && is_hex(span_id, 16)
                && is_hex(flags, 2)
                && (version != "00" || parts.next().is_none())
                && span_id.bytes().any(|byte| byte != b'0');
            if !is_valid {
                return None;
            }
            let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|&id| id != 0)?;
            let flags = u8::from_str_radix(flags, 16).ok()? & SAMPLED;
            Some(Parent { trace_id, span_id, flags })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_malformed_traceparent_is_ignored() {
            let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
            let parse = |text: String| Parent::parse(&text).map(|parent| parent.flags);
            assert_eq!(parse(format!("00-{trace}-{span}-01")), Some(1));
            assert_eq!(parse(format!("00-{trace}-{span}-00")), Some(0));
            assert_eq!(parse(format!("cc-{trace}-{span}-03-more")), Some(1));
            let zero = "0".repeat(32);
            for malformed in [
                String::new(),
                format!("00-{trace}-{span}"),
                format!("00-{trace}-{span}-1"),
                format!("00-{trace}-{span}-01-more"),
                format!("ff-{trace}-{span}-01"),
                format!("00-{zero}-{span}-01"),
                format!("00-{trace}-{}-01", &zero[..16]),
                format!("00-{}-{span}-01", trace.to_uppercase()),
                format!("00-+{}-{span}-01", &trace[1..]),
                format!("00-{trace}-{span}-é"),
            ] {
                assert_eq!(parse(malformed.clone()), None, "{malformed:?}");
            }
        }
    }
}
