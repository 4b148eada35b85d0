//! A bus for code without a runtime: each method blocks the thread that calls it until its result is there. Needs the
//! feature `blocking`.
//!
//! ```
//! # fn main() -> Result<(), gsb_client::Error> {
//! use gsb_client::blocking::Bus;
//! use gsb_client::{Call, Error};
//!
//! let bus = Bus::local()?;
//! let _echo = bus.register("/echo", |call: Call| Ok(call.data))?;
//!
//! assert_eq!(bus.call("/echo", "hello")?, "hello");
//! for reply in bus.stream("/echo", "hello")? {
//!     println!("{:?}", reply?);
//! }
//! assert!(matches!(bus.call("/nowhere", ""), Err(Error::NoSuchService { .. })));
//! # Ok(())
//! # }
//! ```
//!
//! A [`Bus`] owns one thread, which serves its connection. All clones share it, and threads may call through one bus at
//! the same time, so a program needs one bus.
//!
//! # Options
//!
//! Options are those of the async handles. [`BusBuilder::blocking`](crate::BusBuilder::blocking) ends the options of a
//! bus, and `with` changes those of a handle:
//!
//! ```no_run
//! # fn main() -> Result<(), gsb_client::Error> {
//! use std::time::Duration;
//! use gsb_client::BusBuilder;
//!
//! let bus = BusBuilder::default().name("clock-reader").blocking().connect_default()?;
//! let clock = bus.endpoint("/clock").with(|clock| clock.timeout(Duration::from_secs(1)));
//! println!("{:?}", clock.call("")?);
//! # Ok(())
//! # }
//! ```
//!
//! # Everything else
//!
//! [`Bus::as_async`] is the async bus, [`Bus::block_on`] waits for any future of it, and [`Bus::iterate`] turns any
//! stream of it into an iterator:
//!
//! ```
//! # fn main() -> Result<(), gsb_client::Error> {
//! # let bus = gsb_client::blocking::Bus::local()?;
//! let temperatures = bus.as_async().topic::<f64>("room/*/temperature");
//! let events = bus.iterate(bus.block_on(temperatures.subscribe())?);
//! bus.block_on(bus.as_async().topic("room/7/temperature").broadcast(&21.5))?;
//! for event in events {
//!     println!("{}", event?.body);
//! #   break;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Panics
//!
//! A method that waits panics within an async context, such as an `async fn` or an async handler, because it would block
//! the tasks of a runtime. Use [`crate::Bus`] there. On threads where tokio allows blocking
//! (`tokio::task::spawn_blocking`), and in the handlers of [`Bus::register`], all methods may be used.

mod bus;
mod calls;
mod runtime;

pub use bus::{Bus, BusBuilder, Registration, WeakBus, handler};
pub use calls::{Endpoint, Items, Service};
