//! A service bus: programs register services under names, call each other by these names, stream replies and
//! announce events.
//!
//! A [`Bus`] is a handle that any number of tasks share by cloning it. A call looks for its service in this
//! process first, and then at the router that the bus is connected to, if it is connected to one.
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
//! A name is a list of segments with `/` between them; `/echo` and `echo` are different names. The examples
//! write services with a leading `/`, and topics without. A service also gets the calls to all addresses below
//! its name, such as `/echo/loud`. The longest registered name wins.
//!
//! [`Bus::register`] returns a [`Registration`], which keeps the service registered. Dropping it, as
//! `let _ = …` does at once, unregisters the service. [`Registration::detach`] leaves the service registered for
//! as long as the bus lives.
//!
//! # Over a router
//!
//! [`Bus::connect_default`] connects to the router of this user, [`Bus::connect`] to a router at an address.
//! Callers in other processes then find the service, too. This example needs a router; start one with
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
//! [`Bus::in_process`] is the same bus without its router, for services, calls and events that must not leave
//! the process.
//!
//! # Typed messages
//!
//! A [`Message`] is a type with an id. It names what a service answers, and the service's own error. A message
//! to `/math` with the id `divide` goes to the address `/math/divide`, so that one name may serve many messages.
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
//! Over a router messages are encoded, by default in FlexBuffers; programs of `ya-service-bus` that know the
//! message call and serve it, too. Within a process messages and answers are handed over as they are.
//!
//! # State
//!
//! [`Bus::bind_with`] gives each call a clone of a state, for example an `Arc`. [`Bus::serve`] registers a
//! service of several messages that share a state, as a whole.
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
//! `None` is the end of a complete stream. A stream that is cut ends with an error before it. Over a router
//! unread replies wait in a buffer of bounded size, and a reader that is too slow for it gets
//! [`Error::Overflow`].
//!
//! # Pushes
//!
//! A push is a call that wants no reply. [`Bus::push`] returns when the push is queued, and [`Bus::flush`] when
//! the router has taken all that was sent: await it before the program exits.
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
//!         // Events are missing here: the router was away, or this process is too slow. More will come.
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
//! A lost connection is made again after growing random pauses (see [`Reconnect`]), and all names and
//! subscriptions are restored. [`BusBuilder::connect_lazy`] needs no router to begin with. [`Bus::watch`] shows
//! the connection and the names that the router refuses; the example `clock_service` of the repository prints
//! them.
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
//! // Until the router has answered for all names. A program that only serves awaits `bus.closed()`.
//! bus.settled().await?;
//!
//! // Gives the names back, and waits for the calls that are being handled.
//! bus.shutdown(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Handlers that call
//!
//! The bus keeps its handlers. A handler that makes calls holds a [`WeakBus`]: with a [`Bus`], or something made
//! from it, each would keep the other, and neither would end.
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
//! # Errors
//!
//! Every call ends exactly once:
//!
//! - with a reply, or with the refusal of the service: [`Error::ServiceFailure`], [`Error::BadRequest`];
//! - without having been handled: [`Error::NoSuchService`], [`Error::Busy`], [`Error::NotSent`] if there is
//!   no connection, [`Error::ShutDown`];
//! - with [`Error::ConnectionLost`] as soon as the connection is gone; it may have been handled or not;
//! - with [`Error::Timeout`].
//!
//! [`Error::is_retryable`] says whether the same request may be made again, and [`Error::was_delivered`] whether
//! a service may have handled it. A handler that panics answers its caller with [`Error::ServiceFailure`].
//!
//! After a restart of the router a caller may be back before its service. A call may wait for both:
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
//! # Tests
//!
//! [`Bus::local`] needs no router and no port, and suits the unit tests of most services. It differs from a bus
//! with a router in this:
//!
//! | | within the process | over a router |
//! |---|---|---|
//! | typed messages | are handed over as they are | are encoded: [`Error::Encoding`] and [`Error::Decoding`] may happen, and messages over the frame limit are [`Error::TooLarge`] |
//! | a handler | runs as a part of the caller's future, and is dropped with it, for example by a timeout | runs as a task of its own, and goes on when its caller is gone |
//! | a stream | is made as it is read | is made ahead, into a bounded buffer: [`Error::Overflow`] may happen |
//! | a push | fails with [`Error::NoSuchService`] or [`Error::Busy`] | returns `Ok` as soon as it is queued |
//! | the connection | cannot be lost | [`Error::NotSent`], [`Error::ConnectionLost`] and [`Error::Missed`] may happen |
//! | names | are free unless this bus has taken them | may be taken by another program |
//!
//! A test that is about any of these starts a router in its own process, on a free port. It needs
//! `gsb-router` among its `[dev-dependencies]`:
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
//! - `json`: the encoding `Json`;
//! - `tower`: a typed service as a `tower::Service`;
//! - `memory`: a network inside the process, for tests that simulate one.
//!
//! The documentation shows the items of all features with `cargo doc --all-features`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod announcements;
mod builder;
mod bus;
mod calls;
mod changes;
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
mod offload;
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
mod watch;
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
pub use status::{Announcement, Connection, NameKind, Refusals, Refused, RouterInfo, Status};
pub use subscriptions::{Broadcast, Subscription};
pub use typed::{Answer, Message};
pub use typed_service::{AnswerStream, Service};
pub use typed_topic::{Event, TypedSubscription, TypedTopic};
pub use watch::StatusWatch;
pub use with_state::ServiceBuilder;
