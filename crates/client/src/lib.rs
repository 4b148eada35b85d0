//! Services and callers that find each other by name: within a process, and over a Golem Service Bus.
//!
//! A [`Bus`] is a handle that any number of tasks share by cloning it. What is called through it is
//! looked for in this process first, and only then at the router that the bus is connected to, if it is.
//!
//! # A service and a caller
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use gsb_client::{Bus, Call};
//!
//! let bus = Bus::local();
//! let echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await?;
//!
//! let reply = bus.call("/echo", "hello").await?;
//! assert_eq!(reply, "hello");
//!
//! echo.unregister().await?;
//! assert!(matches!(bus.call("/echo", "hello").await, Err(gsb_client::Error::NoSuchService { .. })));
//! # Ok(())
//! # }
//! ```
//!
//! A service also gets the calls to all addresses below its name, such as `/echo/loud`; the longest
//! registered name wins. Names are segments with `/` between them; `/echo` and `echo` are different ones.
//! The examples write services with a leading `/`, and topics without.
//!
//! What [`Bus::register`] returns keeps the service registered: dropping it, as `let _ = …` does at once,
//! unregisters. [`detach`](Registration::detach) leaves the service for as long as the bus lives.
//!
//! # Over a router
//!
//! The same with [`Bus::connect`], and callers in other processes find the service, too. `Bus::local()` in
//! a test and `Bus::connect_default()` in the program is all the difference there is. A router is the
//! program `router` of this project (`cargo run --bin router --features bin`), or `gsb_router::Router`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listen = vec!["tcp://127.0.0.1:0".parse()?];
//! # let router = gsb_router::Router::bind(gsb_router::RouterConfig { listen, ..Default::default() }).await?;
//! # let address = router.local_addresses()[0].clone();
//! # tokio::spawn(router.run());
//! use gsb_client::{Bus, Call};
//!
//! // In one process; such an address may also be text, as in "unix:/run/gsb.sock".
//! let bus = Bus::connect(&address).await?;
//! let _echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await?;
//!
//! // In another one.
//! let caller = Bus::connect(&address).await?;
//! assert_eq!(caller.call("/echo", "hello").await?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! Use [`Bus::in_process`] for services, calls and events that must not leave the process.
//!
//! # Messages with types
//!
//! A [`Message`] names what is sent, what comes back, and the service's own error. Within a process both
//! are handed over as they are; over a router they are encoded, so that programs of `ya-service-bus` which
//! know the same message call and serve it too. A message to `/math` goes to the address `/math/divide`, the
//! name and the message's id, so that one name may serve many messages.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
//! # Streams
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
//! Only `None` is the end of a complete stream; one that is cut ends with an error before. Within the
//! process a stream is made as it is read, and dropped with its reader. Over a router, what is not read yet
//! waits in a buffer of bounded size, and a reader that is too slow for it gets [`Error::Overflow`]; a
//! service is not told that a reader has stopped, so that a stream without an end of its own runs until the
//! service's connection is lost. Give such streams an end, or use events.
//!
//! # Events
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use futures::StreamExt;
//! use gsb_client::Bus;
//!
//! let bus = Bus::local();
//! let mut events = bus.subscribe("node/*/status").await?;
//! bus.broadcast("node/7/status", "up").await?;
//! while let Some(event) = events.next().await {
//!     match event {
//!         Ok(event) => println!("{}: {:?}", event.topic, event.data),
//!         // Events are missing here. The router was away, or this was too slow; more will come.
//!         Err(gap) => eprintln!("{gap}"),
//!     }
//! #   break;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A service that outlives its router
//!
//! A connection that is lost is made again, with growing random pauses (see [`Reconnect`]), and all that
//! was registered and subscribed is restored. [`BusBuilder::connect_lazy`] does not even need a router to
//! begin with.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listen = vec!["tcp://127.0.0.1:0".parse()?];
//! # let router = gsb_router::Router::bind(gsb_router::RouterConfig { listen, ..Default::default() }).await?;
//! # let address = router.local_addresses()[0].clone();
//! # tokio::spawn(router.run());
//! use std::time::Duration;
//! use gsb_client::{Bus, Call, Connection};
//!
//! let bus = Bus::builder().name("clock").connect_lazy(&address)?;
//! let _clock = bus.register("/clock", |_: Call| async { Ok("12:00") }).await?;
//!
//! let mut watch = bus.watch();
//! tokio::spawn(async move {
//!     while let Some(status) = watch.changed().await {
//!         match &status.connection {
//!             Connection::Connected(router) => println!("connected to {router:?}"),
//!             Connection::Lost { reason, retry_in } => println!("{reason}; again in {retry_in:?}"),
//!             _ => {}
//!         }
//!         for refused in &status.refused {
//!             println!("{}: {}", refused.name, refused.error);
//!         }
//!     }
//! });
//!
//! // Until the router knows all of it. A program that only serves awaits `bus.closed()` instead.
//! bus.settled().await?;
//! # let caller = Bus::connect(&address).await?;
//! # assert_eq!(caller.call("/clock", "").await?, "12:00");
//! // Gives the names back, and lets the calls finish that are being handled.
//! bus.shutdown(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Handlers that call
//!
//! A handler that makes calls itself holds a [`WeakBus`]: one that held the [`Bus`], or something made from
//! it, would keep the bus alive that keeps the handler.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use gsb_client::{Bus, Call, Failure};
//!
//! let bus = Bus::local();
//! let _echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await?;
//!
//! let weak = bus.downgrade();
//! let relay = move |call: Call| {
//!     let weak = weak.clone();
//!     async move {
//!         let bus = weak.upgrade().ok_or_else(|| Failure::new("the bus has ended"))?;
//!         // Any error becomes a `Failure` with `?`.
//!         Ok(bus.call("/echo", call.data).await?)
//!     }
//! };
//! let _relay = bus.register("/relay", relay).await?;
//! assert_eq!(bus.call("/relay", "hello").await?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # When things go wrong
//!
//! Every call ends, once:
//!
//! - with a reply, or with what the service says instead: [`Error::ServiceFailure`], [`Error::BadRequest`];
//! - without having been handled: [`Error::NoSuchService`], [`Error::Busy`], [`Error::NotSent`] if there is
//!   no connection (or, with [`BusBuilder::wait_for_router`], none in time), [`Error::ShutDown`];
//! - with [`Error::ConnectionLost`] as soon as the connection is gone: it may have been handled or not;
//! - with [`Error::Timeout`].
//!
//! After a restart of the router a caller may be back before a service is, and get
//! [`Error::NoSuchService`]: the router does not know which services are still to come. A call may wait for
//! both:
//!
//! ```
//! # use gsb_client::{Bus, Bytes, Error};
//! use std::time::Duration;
//!
//! # async fn example(bus: Bus) -> Result<Bytes, Error> {
//! let patience = Duration::from_secs(5);
//! let clock = bus.endpoint("/clock").wait_for_router(patience).wait_for_service(patience);
//! clock.call("").await
//! # }
//! ```
//!
//! [`Error::is_retryable`] says of any error whether the same request may be made again.
//!
//! A handler that panics answers its caller with [`Error::ServiceFailure`], and the bus lives on.
//!
//! # Features
//!
//! - `derive` (on by default): `#[derive(Message)]`;
//! - `json`: the encoding `Json`;
//! - `tower`: a typed service as a `tower::Service`;
//! - `memory`: a network inside the process, for tests that simulate one.

mod announcements;
mod builder;
mod bus;
mod calls;
mod connection;
mod control;
mod delivery;
mod encoding;
mod endpoint;
mod error;
mod in_process;
mod incoming;
mod intake;
mod limits;
mod nesting;
mod outgoing;
mod panics;
mod queue;
mod reconnect;
mod registration;
mod responder;
mod serial;
mod service_wait;
mod services;
mod session;
mod shared;
mod start_queue;
mod state;
mod status;
mod subscriptions;
mod timeouts;
#[cfg(feature = "tower")]
mod tower;
mod typed;
mod typed_service;
mod typed_topic;
mod unanswered;
mod with_state;

pub use builder::{
    BusBuilder, DEFAULT_BUFFER_LIMIT, DEFAULT_CALL_TIMEOUT, DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_MAX_RUNNING, DEFAULT_MAX_RUNNING_BYTES, DEFAULT_PING_TIMEOUT, DEFAULT_REQUEST_TIMEOUT,
};
pub use bus::{Bus, WeakBus};
/// A payload: bytes that are shared and not copied.
pub use bytes::Bytes;
pub use delivery::Delivered;
#[cfg(feature = "json")]
pub use encoding::Json;
pub use encoding::{Encoding, EncodingError, FlexBuffers, Read};
pub use endpoint::{Endpoint, ReplyStream};
/// What an [`Encoding`] is written with.
pub use erased_serde;
pub use error::{Error, Failure, LostReason};
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
/// /// The item is `()` and the error `String` where nothing else is said.
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
pub use reconnect::Reconnect;
pub use registration::{Registering, Registration};
pub use services::Call;
pub use status::{Announcement, Connection, NameKind, Refused, RouterInfo, Status, StatusWatch};
pub use subscriptions::{Broadcast, Subscription};
pub use typed::{Answer, Message};
pub use typed_service::{AnswerStream, Service};
pub use typed_topic::{Event, TypedSubscription, TypedTopic};
pub use with_state::ServiceBuilder;
