//! Services and callers on a Golem Service Bus.
//!
//! A [`Bus`] is a handle to a connection with a router. Any number of tasks share it by cloning it.
//!
//! # A service and a caller
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
//! let bus = Bus::connect(&address).await?;
//! let echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await?;
//!
//! let caller = Bus::connect(&address).await?;
//! let reply = caller.call("/echo", "hello").await?;
//! assert_eq!(reply, "hello");
//!
//! echo.unregister().await?;
//! assert!(matches!(caller.call("/echo", "hello").await, Err(gsb_client::Error::NoSuchService { .. })));
//! # Ok(())
//! # }
//! ```
//!
//! A service also gets the calls to all addresses below its name, such as `/echo/loud`; the longest
//! registered name wins.
//!
//! # Messages with types
//!
//! A [`Message`] names what is sent, what comes back, and the service's own error. Programs of
//! `ya-service-bus` that know the same message call and serve it too.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listen = vec!["tcp://127.0.0.1:0".parse()?];
//! # let router = gsb_router::Router::bind(gsb_router::RouterConfig { listen, ..Default::default() }).await?;
//! # let address = router.local_addresses()[0].clone();
//! # tokio::spawn(router.run());
//! use gsb_client::{Bus, Message};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Divide(f64, f64);
//!
//! impl Message for Divide {
//!     const ID: &'static str = "divide";
//!     type Item = f64;
//!     type Error = String;
//! }
//!
//! let bus = Bus::connect(&address).await?;
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
//! # let listen = vec!["tcp://127.0.0.1:0".parse()?];
//! # let router = gsb_router::Router::bind(gsb_router::RouterConfig { listen, ..Default::default() }).await?;
//! # let address = router.local_addresses()[0].clone();
//! # tokio::spawn(router.run());
//! use futures::{StreamExt, stream};
//! use gsb_client::{Bus, Call};
//!
//! let bus = Bus::connect(&address).await?;
//! let _count = bus
//!     .register_stream("/count", |_: Call| stream::iter((1..=3).map(|n| Ok(n.to_string().into()))))
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
//! # Events
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listen = vec!["tcp://127.0.0.1:0".parse()?];
//! # let router = gsb_router::Router::bind(gsb_router::RouterConfig { listen, ..Default::default() }).await?;
//! # let address = router.local_addresses()[0].clone();
//! # tokio::spawn(router.run());
//! use futures::StreamExt;
//! use gsb_client::Bus;
//!
//! let bus = Bus::connect(&address).await?;
//! let mut events = bus.subscribe("node/*/status").await?;
//! bus.broadcast("node/7/status", "up").await?;
//! let event = events.next().await.unwrap()?;
//! assert_eq!((event.topic.as_str(), &event.data[..]), ("node/7/status", &b"up"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! # When things go wrong
//!
//! Every call ends: with a reply, with the service's or the router's refusal, with
//! [`Error::Timeout`], or with [`Error::ConnectionLost`] as soon as the connection is gone. A handle
//! whose connection was lost stays lost, and answers everything with [`Error::NotSent`]; connect again
//! for a new one.

mod announcements;
mod builder;
mod bus;
mod calls;
mod connection;
mod control;
mod encoding;
mod endpoint;
mod error;
mod in_process;
mod incoming;
mod queue;
mod reconnect;
mod responder;
mod services;
mod shared;
mod state;
mod status;
mod subscriptions;
mod timeouts;
#[cfg(feature = "tower")]
mod tower;
mod typed;
mod typed_service;
mod typed_topic;

pub use builder::{
    BusBuilder, DEFAULT_BUFFER_LIMIT, DEFAULT_CALL_TIMEOUT, DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_MAX_RUNNING, DEFAULT_PING_TIMEOUT, DEFAULT_REQUEST_TIMEOUT,
};
pub use bus::{Bus, WeakBus};
#[cfg(feature = "json")]
pub use encoding::Json;
pub use encoding::{Encoding, EncodingError, FlexBuffers, Read};
pub use endpoint::{Endpoint, ReplyStream};
/// What an [`Encoding`] is written with.
pub use erased_serde;
pub use error::{Error, Failure, LostReason};
pub use gsb_proto::{Address, AddressError, Framing};
pub use reconnect::Reconnect;
pub use services::{Call, Registration};
pub use status::{Announcement, Connection, NameKind, Refused, RouterInfo, Status, StatusWatch};
pub use subscriptions::{Broadcast, Subscription};
pub use typed::{Answer, Message};
pub use typed_service::{AnswerStream, Service};
pub use typed_topic::{Event, TypedSubscription, TypedTopic};
