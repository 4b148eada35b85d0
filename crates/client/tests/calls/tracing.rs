//! The spans of handlers, and the trace that calls carry. Feature `tracing`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use ::tracing::field::{Field, Visit};
use ::tracing::span::{Attributes, Id};
use ::tracing::subscriber::{DefaultGuard, Interest};
use ::tracing::{Event, Metadata, Subscriber};
use futures::{StreamExt as _, stream};
use gsb_client::{Bus, Call, CallContext, Endpoint, Failure, Headers, Message, WeakBus};
use gsb_testkit::TestRouter;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The fields of a span.
type Fields = HashMap<&'static str, String>;

/// Records the spans of the bus on this thread, and the addresses of the spans in which events occur.
#[derive(Debug, Clone, Default)]
struct Recorder {
    spans: Arc<Mutex<Vec<Fields>>>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn start() -> (Self, DefaultGuard) {
        let recorder = Recorder::default();
        let subscriber = Registry::default().with(recorder.clone());
        (recorder, ::tracing::subscriber::set_default(subscriber))
    }

    /// The span of the only call to this address since the last time.
    fn take(&self, address: &str) -> Fields {
        let mut spans = self.spans.lock().unwrap();
        let (found, others) = spans.drain(..).partition(|span| span["address"] == address);
        *spans = others;
        let [span] = <[Fields; 1]>::try_from(found).unwrap();
        span
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    /// The other tests of this program run on other threads, which have no subscriber.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != "gsb.call" {
            return;
        }
        let mut fields = FieldMap::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields.0["address"].clone());
        self.spans.lock().unwrap().push(fields.0);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let span = context.event_span(event);
        let address = span.and_then(|span| span.extensions().get::<String>().cloned());
        self.events.lock().unwrap().extend(address);
    }
}

#[derive(Default)]
struct FieldMap(Fields);

impl Visit for FieldMap {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// The header of a call that is made in a span.
fn traceparent(span: &Fields) -> String {
    format!("00-{}-{}-01", span["trace_id"], span["span_id"])
}

/// A local bus, and two buses with a router between them: the side of services, and that of callers.
async fn sides() -> (TestRouter, [(Bus, Bus); 2]) {
    let router = TestRouter::start().await;
    let local = Bus::local();
    let service = Bus::connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    (router, [(local.clone(), local), (service, caller)])
}

/// Registers `/end`, which sends the headers of each call.
async fn headers_at_the_end(bus: &Bus) -> mpsc::UnboundedReceiver<Headers> {
    let (sender, headers) = mpsc::unbounded_channel();
    let handler = move |call: Call| {
        let _ = sender.send(call.headers().clone());
        async { Ok("") }
    };
    bus.register("/end", handler).await.unwrap().detach();
    headers
}

/// Calls `/end` in the way that the data of the call names.
async fn relay(bus: WeakBus, call: Call) -> Result<&'static str, Failure> {
    let bus = bus.upgrade().ok_or("the bus has ended")?;
    tokio::task::yield_now().await;
    ::tracing::info!("an event of the handler");
    let end = bus.endpoint("/end");
    let context = call.context().clone();
    match &call.data[..] {
        b"plain" => drop(end.call("").await?),
        b"on behalf" => drop(end.on_behalf_of(&call).call("").await?),
        b"stream" => drop(end.stream("").await?.collect::<Vec<_>>().await),
        b"push" => end.push("").await?,
        b"task" => in_a_task(end, None).await?,
        b"task on behalf" => in_a_task(end, Some(context)).await?,
        _ => drop(end.header("traceparent", "own").call("").await?),
    }
    Ok("")
}

async fn in_a_task(end: Endpoint, context: Option<CallContext>) -> Result<(), Failure> {
    let task = tokio::spawn(async move {
        match context {
            Some(context) => end.on_behalf_of(context).call("").await,
            None => end.call("").await,
        }
    });
    task.await??;
    Ok(())
}

#[tokio::test]
async fn calls_of_a_handler_belong_to_its_trace() {
    let (recorder, _guard) = Recorder::start();
    let (router, sides) = sides().await;
    for (service, caller) in sides {
        // With a router between the handler and the end, too.
        let mut ends = headers_at_the_end(&caller).await;
        let _relay = service.register_with("/relay", service.downgrade(), relay).await.unwrap();
        let endpoint = caller.endpoint("/relay").caller("me").header("traceparent", PARENT);
        let endpoint = endpoint.header("tracestate", "a=b");
        for way in ["plain", "on behalf", "stream", "push", "task on behalf"] {
            endpoint.call(way).await.unwrap();
            let headers = ends.recv().await.unwrap();
            let (first, second) = (recorder.take("/relay"), recorder.take("/end"));
            assert_eq!((&first["trace_id"][..], &first["parent_id"][..]), (TRACE, &PARENT[36..52]));
            assert_eq!((&first["caller"][..], &first["otel.name"][..]), ("me", "/relay"));
            assert_eq!(
                (&second["trace_id"], &second["parent_id"]),
                (&first["trace_id"], &first["span_id"]),
                "{way}"
            );
            let expected = [("traceparent", traceparent(&first)), ("tracestate", "a=b".to_owned())];
            assert_eq!(headers, expected.into_iter().collect(), "{way}");
            let events = std::mem::take(&mut *recorder.events.lock().unwrap());
            assert!(events.iter().all(|span| span == "/relay"), "{way}: {events:?}");
            assert!(!events.is_empty());
        }
        // Only the handler itself is in its span, and a header that is set replaces that of the trace.
        for (way, expected) in [("task", None), ("explicit", Some("own"))] {
            endpoint.call(way).await.unwrap();
            assert_eq!(ends.recv().await.unwrap().text("traceparent"), expected, "{way}");
            let (first, second) = (recorder.take("/relay"), recorder.take("/end"));
            assert_ne!(first["trace_id"], second["trace_id"]);
        }
        // A call without a trace begins one.
        caller.call("/relay", "plain").await.unwrap();
        let (first, second) = (recorder.take("/relay"), recorder.take("/end"));
        assert_eq!(first.get("parent_id"), None);
        assert_eq!(
            (&second["trace_id"], &second["parent_id"]),
            (&first["trace_id"], &first["span_id"])
        );
        assert_eq!(ends.recv().await.unwrap().text("traceparent"), Some(&traceparent(&first)[..]));
    }
    router.stop().await;
}

#[derive(Serialize, Deserialize, Message)]
#[message(id = "ask")]
struct Ask;

#[derive(Serialize, Deserialize, Message)]
#[message(id = "list")]
struct List;

// Also of handlers that do not get their call.
#[tokio::test]
async fn typed_handlers_have_spans() {
    let (recorder, _guard) = Recorder::start();
    let (router, sides) = sides().await;
    for (service, caller) in sides {
        let mut ends = headers_at_the_end(&caller).await;
        let ask = |bus: WeakBus, Ask| async move {
            let bus = bus.upgrade().ok_or("the bus has ended")?;
            bus.call("/end", "").await.map(drop).map_err(|error| error.to_string())
        };
        let _ask = service.bind_with("/typed", service.downgrade(), ask).await.unwrap();
        let end = service.downgrade();
        let list = move |List| {
            let end = end.clone();
            stream::once(async move {
                let bus = end.upgrade().ok_or("the bus has ended")?;
                bus.call("/end", "").await.map(drop).map_err(|error| error.to_string())
            })
        };
        let _list = service.bind_stream("/typed", list).await.unwrap();
        let typed = caller.service("/typed").header("traceparent", PARENT);

        typed.call(Ask).await.unwrap().unwrap();
        let span = recorder.take("/typed/ask");
        assert_eq!(span["trace_id"], TRACE);
        assert_eq!(ends.recv().await.unwrap().text("traceparent"), Some(&traceparent(&span)[..]));
        recorder.take("/end");

        let items: Vec<_> = typed.stream(List).await.unwrap().collect().await;
        assert_eq!(items, [Ok(Ok(()))]);
        let span = recorder.take("/typed/list");
        assert_eq!(ends.recv().await.unwrap().text("traceparent"), Some(&traceparent(&span)[..]));
        recorder.take("/end");
    }
    router.stop().await;
}

#[tokio::test]
async fn events_of_a_handler_belong_to_its_trace() {
    async fn announce(bus: WeakBus, _: Call) -> Result<&'static str, Failure> {
        let bus = bus.upgrade().ok_or("the bus has ended")?;
        bus.broadcast("t", "").await?;
        Ok("")
    }
    let (recorder, _guard) = Recorder::start();
    let bus = Bus::local();
    let mut events = bus.subscribe("t").await.unwrap();
    let _announce = bus.register_with("/announce", bus.downgrade(), announce).await.unwrap();
    bus.call("/announce", "").await.unwrap();
    let event = events.next().await.unwrap().unwrap();
    let span = recorder.take("/announce");
    assert_eq!(event.headers.text("traceparent"), Some(&traceparent(&span)[..]));
}

#[tokio::test]
async fn without_a_subscriber_a_handler_passes_the_trace_on() {
    let (router, sides) = sides().await;
    for (service, caller) in sides {
        let mut ends = headers_at_the_end(&caller).await;
        let _relay = service.register_with("/relay", service.downgrade(), relay).await.unwrap();
        let endpoint = caller.endpoint("/relay").header("traceparent", PARENT);
        for way in ["plain", "on behalf"] {
            endpoint.call(way).await.unwrap();
            assert_eq!(ends.recv().await.unwrap().text("traceparent"), Some(PARENT), "{way}");
            caller.call("/relay", way).await.unwrap();
            assert!(ends.recv().await.unwrap().is_empty(), "{way}");
        }
    }
    router.stop().await;
}
