//! A client of the Golem Service Bus: programs register services under names, call each other by these names, stream
//! replies and announce events.
//!
//! A [`Bus`] is a handle that tasks share by cloning it. A call goes to a service in this process if there is one, and
//! otherwise to the router, if the bus is connected to one.
//!
//! # A service and a caller
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use gsb_client::{Bus, Call, Error};
//!
//! let bus = Bus::local();
//! let echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await?;
//!
//! let reply = bus.call("/echo", "hello").await?;
//! assert_eq!(reply, "hello");
//!
//! echo.unregister().await?;
//! assert!(matches!(bus.call("/echo", "hello").await, Err(Error::NoSuchService { .. })));
//! # Ok(())
//! # }
//! ```
//!
//! A name is a list of segments with `/` between them; `/echo` and `echo` are different names. By convention names of
//! services have a leading `/`, and topics do not. A service also receives the calls to all addresses below its name,
//! such as `/echo/loud`. The service with the longest matching name receives a call.
//!
//! [`Bus::register`] returns a [`Registration`], which keeps the service registered. Dropping it unregisters the
//! service, so give it a name: `let _ = …` drops it at once. [`Registration::detach`] keeps the service registered for
//! as long as the bus lives.
//!
//! # Over a router
//!
//! [`Bus::connect_default`] connects to the router of this user, [`Bus::connect`] to a router at an address. Then
//! callers in other processes find the service, too. This example needs a router; start one with
//! `cargo run --bin router --features bin` in the repository of this crate.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use gsb_client::{Bus, Call};
//!
//! // In one process.
//! let bus = Bus::connect_default().await?;
//! let _echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await?;
//!
//! // In another process.
//! let caller = Bus::connect_default().await?;
//! assert_eq!(caller.call("/echo", "hello").await?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! [`Bus::in_process`] is a handle for services, calls and events that must not leave the process.
//!
//! # Typed messages
//!
//! A [`Message`] is a type with an id, the type of its answer and the type of the service's own error. A message with
//! the id `divide` to the service `/math` goes to the address `/math/divide`, so that one service may have many messages.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use gsb_client::{Bus, Message};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Message)]
//! #[message(id = "divide", item = f64, error = String)]
//! struct Divide(f64, f64);
//!
//! let bus = Bus::local();
//! let _division = bus
//!     .bind("/math", |Divide(a, b)| async move {
//!         if b == 0.0 { Err("division by zero".to_owned()) } else { Ok(a / b) }
//!     })
//!     .await?;
//! assert_eq!(bus.service("/math").call(Divide(1.0, 2.0)).await?, Ok(0.5));
//! # Ok(())
//! # }
//! ```
//!
//! Over a router messages are encoded, by default in FlexBuffers, as with `ya-service-bus`: its programs can call and
//! serve the same messages. Within a process messages and answers are passed without encoding.
//!
//! # State
//!
//! [`Bus::bind_with`] registers a handler with a state, for example an `Arc`: each call gets a clone of it.
//! [`Bus::serve`] registers a service of several messages that share a state.
//!
//! # Streams
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use futures::{StreamExt, stream};
//! use gsb_client::{Bus, Call};
//!
//! let bus = Bus::local();
//! let _count = bus
//!     .register_stream("/count", |_: Call| stream::iter((1..=3).map(|n| Ok(n.to_string()))))
//!     .await?;
//!
//! let mut replies = bus.stream("/count", "").await?;
//! while let Some(reply) = replies.next().await {
//!     println!("{:?}", reply?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A complete stream ends with `None`. A stream that is cut ends with an error. A stream goes as fast as it is read: within
//! the process each reply is made when the reader asks for it, over a router the service is ahead by at most a
//! [window](BusBuilder::stream_window).
//!
//! # Uploads
//!
//! The request of an upload goes on in a stream of parts, its body. The handler reads it at its own pace, and may answer
//! once, as here, or with a stream ([`Bus::register_upload_stream`], [`Endpoint::upload_stream`]), also while it reads.
//! Uploads need a router and a service of level 1 of the protocol, as those of this project are. [`Bus::bind_upload`] and
//! [`Service::upload`] are the same for a [`UploadMessage`], whose parts have a type.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use futures::{StreamExt, TryStreamExt, stream};
//! use gsb_client::{Bus, Bytes, Call, RequestStream};
//!
//! let bus = Bus::local();
//! let count = |_: Call, mut body: RequestStream| async move {
//!     let mut lines = 0;
//!     while let Some(_line) = body.try_next().await? {
//!         lines += 1;
//!     }
//!     Ok(lines.to_string())
//! };
//! let _count = bus.register_upload("/count", count).await?;
//!
//! let lines = stream::iter(["one", "two", "three"]).map(Bytes::from);
//! assert_eq!(bus.endpoint("/count").upload("", lines).await?, "3");
//! # Ok(())
//! # }
//! ```
//!
//! # Pushes
//!
//! A push is a call without a reply. [`Bus::push`] returns when the push is queued. [`Bus::flush`] returns when the
//! router has taken all that was sent: await it before the program exits.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use gsb_client::Bus;
//!
//! let bus = Bus::connect_default().await?;
//! bus.push("/journal", "one").await?;
//! bus.flush().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Events
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use futures::StreamExt;
//! use gsb_client::Bus;
//!
//! let bus = Bus::local();
//! let mut events = bus.subscribe("node/*/status").await?;
//! bus.broadcast("node/7/status", "up").await?;
//! while let Some(event) = events.next().await {
//!     match event {
//!         Ok(event) => println!("{}: {:?}", event.topic, event.data),
//!         // Events are missing here: the connection was lost, or this process is too slow. The stream goes on.
//!         Err(gap) => eprintln!("{gap}"),
//!     }
//! #   break;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Headers
//!
//! Calls, replies and events have [`Headers`], as in HTTP: [`Endpoint::header`], [`Reply::header`] and
//! [`Publisher::header`] set them. Programs of other projects ignore them.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use gsb_client::{Bus, Call, Reply};
//!
//! let bus = Bus::local();
//! let greet = |call: Call| async move {
//!     let is_german = call.headers().text("accept-language") == Some("de");
//!     let (text, language) = if is_german { ("Hallo", "de") } else { ("Hello", "en") };
//!     Ok(Reply::new(text).header("content-language", language))
//! };
//! let _greeting = bus.register("/greeting", greet).await?;
//!
//! let endpoint = bus.endpoint("/greeting").header("accept-language", "de");
//! let reply = endpoint.call_reply("").await?;
//! assert_eq!(reply.headers.text("content-language"), Some("de"));
//! # Ok(())
//! # }
//! ```
//!
//! # Traces
//!
//! With the feature `tracing` each handler runs in a span `gsb.call` of the crate `tracing`, with the fields `address`,
//! `caller`, `trace_id`, `span_id`, `parent_id`, and some of OpenTelemetry (`otel.name`, `otel.kind`, `rpc.system`). The
//! trace of a call comes from its header `traceparent` (W3C Trace Context); a call without one begins a trace. The calls,
//! pushes and events of a handler name its span as their parent, with the headers `traceparent` and `tracestate`, in the
//! process and over a router. A task that a handler has started makes its calls
//! [on behalf of](Endpoint::on_behalf_of) the call of the handler, and a header that is set on the [`Endpoint`] replaces
//! that of the trace. Without a subscriber for such spans a handler passes the trace of its caller on.
//!
//! The ids are those of the bus. A program that exports its spans with `opentelemetry`, which has ids of its own, reads and
//! sets the headers itself.
//!
//! # Cancelled calls
//!
//! A call is cancelled when its caller has gone: its future or stream is dropped, its timeout is over, or its process has
//! ended. Then the future or the stream of the handler is dropped where it waits, in the same process and behind a router.
//! [`Call::detach`](CallContext::detach) lets a handler go on to its end, and tasks that it has started can wait for
//! [`Call::cancelled`](CallContext::cancelled). Only a [shutdown](Bus::shutdown) cancels a push.
//!
//! [`Call::deadline`](CallContext::deadline) is when the caller stops waiting. The calls that a handler makes
//! [on behalf of](Endpoint::on_behalf_of) its call have the same deadline.
//!
//! # A service that outlives its router
//!
//! A lost connection is made again after growing random pauses (see [`Reconnect`]). Then all services and subscriptions
//! are restored. [`BusBuilder::connect_lazy`] works without a router, and connects when there is one. [`Bus::watch`]
//! shows the state of the connection and the names that the router refuses; the example `clock_service` of the
//! repository prints them.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use std::time::Duration;
//! use gsb_client::{Address, Bus, Call};
//!
//! let bus = Bus::builder().name("clock").connect_lazy(Address::from_environment()?)?;
//! let _clock = bus.register("/clock", |_: Call| async { Ok("12:00") }).await?;
//!
//! // Waits until the router has answered for all names. A program that only serves awaits `bus.closed()`.
//! bus.settled().await?;
//!
//! // Unregisters the services, and waits for the running calls.
//! bus.shutdown(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Handlers that call
//!
//! The bus keeps its handlers. A handler that makes calls should hold a [`WeakBus`]: with a [`Bus`], or a handle made
//! from it, the handler and the bus would keep each other alive.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use gsb_client::{Bus, Bytes, Call, Failure, WeakBus};
//!
//! async fn relay(bus: WeakBus, call: Call) -> Result<Bytes, Failure> {
//!     let bus = bus.upgrade().ok_or("the bus has ended")?;
//!     // Errors become a `Failure` with `?`.
//!     Ok(bus.call("/echo", call.data).await?)
//! }
//!
//! let bus = Bus::local();
//! let _echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await?;
//! let _relay = bus.register_with("/relay", bus.downgrade(), relay).await?;
//! assert_eq!(bus.call("/relay", "hello").await?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Several owners of a name
//!
//! A pool of workers: each registers the name with [`Registering::shared`], and each call goes to the one with the fewest
//! open calls. [`Registering::capacity`] is how many calls a worker takes at a time; when all are full, a call is
//! [`Error::Busy`]. [`Endpoint::affinity`] sends related calls to the same worker. A hot standby: each program registers the
//! name with [`Registering::standby`], and the service that registered first gets the calls. When it goes, the next one takes
//! over at once.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), gsb_client::Error> {
//! use gsb_client::{Bus, Call};
//!
//! let bus = Bus::local();
//! // A pool of workers. Each would be in a process of its own, on a bus with a router.
//! let mut workers = Vec::new();
//! for name in ["one", "two"] {
//!     let work = move |_: Call| async move { Ok(name) };
//!     workers.push(bus.register("/work", work).shared().capacity(4).await?);
//! }
//! assert_eq!(bus.call("/work", "").await?, "one");
//! assert_eq!(bus.call("/work", "").await?, "two");
//!
//! // A hot standby.
//! let first = bus.register("/ledger", |_: Call| async { Ok("first") }).standby().await?;
//! let _second = bus.register("/ledger", |_: Call| async { Ok("second") }).standby().await?;
//! assert_eq!(bus.call("/ledger", "").await?, "first");
//! first.unregister().await?;
//! assert_eq!(bus.call("/ledger", "").await?, "second");
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! Every call ends exactly once:
//!
//! - with a reply, or a failure of the service: [`Error::ServiceFailure`], [`Error::BadRequest`];
//! - unhandled: [`Error::NoSuchService`], [`Error::Busy`], [`Error::Unsupported`], [`Error::NotSent`] if there is no
//!   connection, [`Error::ShutDown`];
//! - with [`Error::ConnectionLost`] as soon as the connection is lost: the service may have handled it or not;
//! - with [`Error::Timeout`]: the service may have handled it, or a part of it;
//! - with [`Error::Cancelled`], if the service shuts down before it has answered.
//!
//! [`Error::is_retryable`] says whether the same request may be repeated, and [`Error::was_delivered`] whether a service
//! may have handled it. The caller of a handler that panics gets [`Error::ServiceFailure`].
//!
//! After a restart of the router a caller may reconnect before the service does. A call can wait for both:
//!
//! ```
//! # use gsb_client::{Bus, Bytes, Error};
//! use std::time::Duration;
//!
//! # async fn example(bus: Bus) -> Result<Bytes, Error> {
//! let timeout = Duration::from_secs(5);
//! let clock = bus.endpoint("/clock").wait_for_router(timeout).wait_for_service(timeout);
//! clock.call("").await
//! # }
//! ```
//!
//! # Tests
//!
//! [`Bus::local`] needs no router and no port, and suits the unit tests of most services. It differs from a bus with a
//! router:
//!
//! | | within the process | over a router |
//! |---|---|---|
//! | typed messages | are passed without encoding | are encoded: [`Error::Encoding`] and [`Error::Decoding`] are possible, and a message over the frame limit is [`Error::TooLarge`] |
//! | a handler | runs as a part of the caller's future, and is dropped with it | runs in a task of its own, and is dropped soon after the caller has gone; until then it counts towards [`max_running`](BusBuilder::max_running) |
//! | a stream | makes each reply when the reader asks for it | makes replies ahead, up to a [window](BusBuilder::stream_window); with a router or a service of level 0 [`Error::Overflow`] is possible |
//! | an upload | is read by the handler directly | is sent ahead of the handler, up to a window of the service; [`Error::Unsupported`] and [`Error::TooLarge`] are possible |
//! | a push | fails with [`Error::NoSuchService`] or [`Error::Busy`] | returns `Ok` as soon as it is queued |
//! | the receivers of an event | are its subscriptions | are the connections of its subscribers |
//! | the connection | cannot be lost | [`Error::NotSent`], [`Error::ConnectionLost`] and [`Error::Missed`] are possible |
//! | names | are free unless this bus has registered them; a bus may register a [shared](Registering::shared) or [standby](Registering::standby) name several times | may be registered by another program; a process registers a name once |
//!
//! A test of such a difference starts a router in its own process, on a free port. It needs `gsb-router` in its
//! `[dev-dependencies]`:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use gsb_client::Bus;
//!
//! let router = gsb_router::Router::in_process().await?;
//! let (service, caller) =
//!     (Bus::connect(router.address()).await?, Bus::connect(router.address()).await?);
//! # drop((service, caller));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `derive` (on by default): `#[derive(Message)]`;
//! - `blocking`: the module `blocking`, a bus for code without a runtime;
//! - `json`: the encoding `Json`;
//! - `tower`: layers of `tower` around a typed service, for its callers, and around handlers;
//! - `tracing`: spans around handlers, and W3C Trace Context; see [Traces](#traces);
//! - `memory`: a simulated network within the process, for tests.
//!
//! `cargo doc --all-features` shows the items of all features.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod api;
#[cfg(feature = "blocking")]
pub mod blocking;
mod call;
mod delivery;
mod encoding;
mod engine;
mod error;
mod event;
mod failure;
mod headers;
mod message;
mod options;
mod panics;
mod reconnect;
mod reply;
mod request_stream;
mod status;
mod timeouts;
mod trace;

pub use api::builder::BusBuilder;
pub use api::bus::{Bus, WeakBus};
pub use api::endpoint::Endpoint;
pub use api::publisher::Publisher;
pub use api::registration::{Registering, Registration};
pub use api::reply_stream::ReplyStream;
pub use api::service::{AnswerStream, Service};
pub use api::service_builder::ServiceBuilder;
pub use api::status_watch::StatusWatch;
pub use api::subscription::Subscription;
pub use api::topic::{Event, TypedSubscription, TypedTopic};
/// A payload: a buffer that is shared when it is cloned, not copied.
pub use bytes::Bytes;
pub use call::{Call, CallContext};
pub use delivery::Delivered;
#[cfg(feature = "json")]
pub use encoding::Json;
pub use encoding::{Encoding, EncodingError, FlexBuffers, Read};
/// The traits with which an [`Encoding`] is written.
pub use erased_serde;
pub use error::{Error, LostReason};
pub use event::Broadcast;
pub use failure::Failure;
/// Derives [`Message`] (feature `derive`, which is on by default).
///
/// ```
/// use gsb_client::Message;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Message)]
/// #[message(id = "divide", item = f64, error = String)]
/// struct Divide(f64, f64);
///
/// /// By default the item is `()` and the error `String`.
/// #[derive(Serialize, Deserialize, Message)]
/// #[message(id = "forget")]
/// struct Forget;
///
/// assert_eq!((Divide::ID, Forget::ID), ("divide", "forget"));
/// ```
///
/// A message needs an id:
///
/// ```compile_fail
/// # use gsb_client::Message;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize, Message)]
/// struct Nameless;
/// ```
#[cfg(feature = "derive")]
pub use gsb_derive::Message;
pub use gsb_proto::{Address, AddressError, Framing, NameError, Violation};
pub use headers::Headers;
pub use message::{Answer, Message, UploadMessage};
pub use options::{
    DEFAULT_BUFFER_LIMIT, DEFAULT_CALL_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, DEFAULT_MAX_RUNNING,
    DEFAULT_MAX_RUNNING_BYTES, DEFAULT_PING_TIMEOUT, DEFAULT_REQUEST_TIMEOUT,
    DEFAULT_STREAM_WINDOW,
};
pub use reconnect::Reconnect;
pub use reply::Reply;
pub use request_stream::RequestStream;
pub use status::{Announcement, Connection, NameKind, Refusals, Refused, RouterInfo, Status};
